package tilestream

// queue is first in, first out; it keeps no reference to what has left and reuses its memory.
type queue[T any] struct {
	items []T
	head  int
}

func (q *queue[T]) len() int { return len(q.items) - q.head }

func (q *queue[T]) first() T { return q.items[q.head] }

// all is what is in the queue, in order; valid until it changes.
func (q *queue[T]) all() []T { return q.items[q.head:] }

func (q *queue[T]) push(item T) {
	if q.head > 0 && len(q.items) == cap(q.items) { // move up instead of growing
		kept := copy(q.items, q.items[q.head:])
		clear(q.items[kept:])
		q.items, q.head = q.items[:kept], 0
	}
	q.items = append(q.items, item)
}

func (q *queue[T]) pop() T {
	var none T
	item := q.items[q.head]
	q.items[q.head] = none
	q.head++
	if q.head == len(q.items) {
		q.items, q.head = q.items[:0], 0
	}
	return item
}
