package tilestream

import (
	"context"
	"errors"
	"iter"
	"sync"
	"time"
)

// Session is one camera's stream. Frames go in by Send and come out of Results, each exactly once and in order,
// through lost connections, servers that restart and servers that drain. One goroutine may send while another
// reads; it ends with the last result after CloseSend, with Close, or with the context it was opened with.
type Session struct {
	client *Client
	ctx    context.Context // of the whole session
	cancel context.CancelCauseFunc

	mu       sync.Mutex
	exchange *exchange
	iterated bool

	// Each has one waiter at a time and holds one wake-up, so none is lost.
	placeFree, toSend, toTake signal
	sendTurn                  chan struct{} // held by the Send that waits for a place
	opened                    chan struct{} // closed when the first call has opened the session
	done                      chan struct{} // closed when nothing runs any more
}

var errClosed = errors.New("the session was closed")

// Open opens a session and waits until the server has confirmed it. ctx is for the whole session: when it ends, so
// does the session; its outgoing metadata and trace go with every call. nil options are the server's choice.
func (c *Client) Open(ctx context.Context, options *SessionOptions) (*Session, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	attempts := newAttempts(c.options.BackOff, c.options.ReconnectTimeout, time.Now)
	s := &Session{
		client:    c,
		ctx:       ctx,
		cancel:    cancel,
		exchange:  newExchange(options.toProto(), attempts, time.Now),
		placeFree: newSignal(),
		toSend:    newSignal(),
		toTake:    newSignal(),
		sendTurn:  make(chan struct{}, 1),
		opened:    make(chan struct{}),
		done:      make(chan struct{}),
	}
	if !c.register(s) {
		cancel(errClosed)
		return nil, sessionClosed("the client is closed", nil)
	}
	go s.run()
	select {
	case <-s.opened:
		return s, nil
	case <-s.done:
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.exchange.started != nil { // and over already: Results tells
		return s, nil
	}
	if err := s.exchange.err; err != nil {
		return nil, err
	}
	return nil, sessionClosed("the server ended the stream without a word", nil)
}

// Started is the session as the server confirmed it last: its id, model and limits.
func (s *Session) Started() *Started {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.exchange.started
}

// Counts are what a session has done so far.
type Counts struct {
	FramesSent int // each once, however often the session was lost
	Unanswered int // of these
	Reconnects int // sessions opened after a stream was lost
	Resumes    int // of these, the ones in which the server went on where it was
}

// Counts of the session so far.
func (s *Session) Counts() Counts {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.exchange
	return Counts{e.framesSent, e.unanswered.len(), e.reconnects, e.resumes}
}

// Send takes a frame, which gets the next id from 0 on and exactly one result. It waits while FramesInFlight frames
// are between it and Results: read the results in another goroutine. With an error the frame was not taken: a
// *MessageTooLargeError concerns this frame only, any other means that the session is over. ctx is for the waiting.
func (s *Session) Send(ctx context.Context, frame Frame) error {
	select {
	case s.sendTurn <- struct{}{}:
		defer func() { <-s.sendTurn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	for {
		s.mu.Lock()
		e := s.exchange
		if e.sourceUnwanted() {
			err := s.refusal()
			s.mu.Unlock()
			return err
		}
		if e.wantsFrame() && e.hasCredit() {
			_, err := e.offer(frame)
			s.mu.Unlock()
			s.toSend.wake()
			return err
		}
		s.mu.Unlock()
		select {
		case <-s.placeFree:
		case <-s.done:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// CloseSend says that there are no more frames. Results goes on to the last answer. It may be called again.
func (s *Session) CloseSend() error {
	s.mu.Lock()
	s.exchange.sourceEnded()
	s.mu.Unlock()
	s.toSend.wake()
	s.placeFree.wake()
	return nil
}

// Results are the answers, one per frame, in the order of the frames. After the last one a session that failed
// yields its error, once. Breaking out closes the session. It can be iterated once.
func (s *Session) Results() iter.Seq2[*Result, error] {
	return func(yield func(*Result, error) bool) {
		s.mu.Lock()
		again := s.iterated
		s.iterated = true
		s.mu.Unlock()
		if again {
			yield(nil, sessionClosed("the results can be iterated only once", nil))
			return
		}
		defer s.Close()
		for {
			result, step, err := s.take()
			switch {
			case step == stepGo:
				if !yield(result, nil) {
					return
				}
			case step == stepEnd:
				if err != nil {
					yield(nil, err)
				}
				return
			default:
				select {
				case <-s.toTake:
				case <-s.done:
				}
			}
		}
	}
}

// Close ends the session at once, whatever is under way; nothing of it runs when it returns. Results that have come
// can still be read. It may be called again.
func (s *Session) Close() error {
	s.cancel(errClosed)
	<-s.done
	return nil
}

func (s *Session) take() (*Result, step, error) {
	s.mu.Lock()
	result, next, err := s.exchange.take()
	waiting := s.exchange.held != nil
	s.mu.Unlock()
	if next == stepGo {
		s.placeFree.wake()
		if waiting {
			s.toSend.wake()
		}
	}
	return result, next, err
}

// refusal is why no frame is taken any more.
func (s *Session) refusal() error {
	e := s.exchange
	switch {
	case e.finished && e.err != nil:
		return e.err
	case e.sourceOver:
		return sessionClosed("a frame was sent after CloseSend", nil)
	case e.draining != nil:
		return e.complete(nil)
	}
	return sessionClosed("the session is over", nil)
}

// signal wakes one waiter, or the next one to come.
type signal chan struct{}

func newSignal() signal { return make(signal, 1) }

func (s signal) wake() {
	select {
	case s <- struct{}{}:
	default:
	}
}
