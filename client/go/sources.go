package tilestream

import (
	"context"
	"io"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Stream sends all frames in a session of its own and gives the results, one per frame, in order. What the frames
// fail with is yielded after the answers to those before. Breaking out ends the
// session; frames that are just being read are left to come by themselves.
func (c *Client) Stream(ctx context.Context, frames iter.Seq2[Frame, error], options *SessionOptions) iter.Seq2[*Result, error] {
	return func(yield func(*Result, error) bool) {
		session, err := c.Open(ctx, options)
		if err != nil {
			yield(nil, err)
			return
		}
		sent := make(chan error, 1)
		go func() { sent <- session.SendAll(ctx, frames) }()
		for result, err := range session.Results() {
			if !yield(result, err) || err != nil {
				return
			}
		}
		if err := <-sent; err != nil {
			yield(nil, err)
		}
	}
}

// SendAll sends frames until they are over and then closes the sending side, also where they fail: then that error
// is returned. A session that is over is no error here, Results tells of it.
func (s *Session) SendAll(ctx context.Context, frames iter.Seq2[Frame, error]) error {
	defer s.CloseSend()
	for frame, err := range frames {
		if err != nil {
			return err
		}
		if err := s.Send(ctx, frame); err != nil {
			if s.isOver() {
				return nil
			}
			return err
		}
	}
	return nil
}

// StreamDir streams the JPEGs of a folder in natural order; see Stream and DirFrames.
func (c *Client) StreamDir(ctx context.Context, folder string, options *SessionOptions) iter.Seq2[*Result, error] {
	return c.Stream(ctx, DirFrames(folder), options)
}

// StreamMJPEG streams the JPEGs of a motion JPEG; see Stream and MJPEGFrames.
func (c *Client) StreamMJPEG(ctx context.Context, source io.Reader, options *SessionOptions) iter.Seq2[*Result, error] {
	return c.Stream(ctx, MJPEGFrames(source), options)
}

// DirFrames are the JPEG files of a folder, byte for byte, in natural order of their names: 2.jpg before 10.jpg. Names
// that begin with a dot are left out, such as the resource forks that macOS leaves beside pictures. A file that cannot
// be read is an empty frame, so that it gets its invalid result and the others go on. A *SourceError where the folder
// cannot be read or has none.
func DirFrames(folder string) iter.Seq2[Frame, error] {
	return func(yield func(Frame, error) bool) {
		entries, err := os.ReadDir(folder)
		if err != nil {
			yield(Frame{}, sourceError(err, "cannot read %s: %v", folder, err))
			return
		}
		var names []string
		for _, entry := range entries {
			if isJPEG(entry.Name()) && !entry.IsDir() && !strings.HasPrefix(entry.Name(), ".") {
				names = append(names, entry.Name())
			}
		}
		if len(names) == 0 {
			yield(Frame{}, sourceError(nil, "there are no JPEGs in %s", folder))
			return
		}
		slices.SortFunc(names, natural)
		for _, name := range names {
			frame := Frame{Name: name}
			if frame.Data, err = os.ReadFile(filepath.Join(folder, name)); err != nil {
				frame = Frame{Name: name, Problem: "cannot read " + name + ": " + err.Error()}
			}
			if !yield(frame, nil) {
				return
			}
		}
	}
}

func isJPEG(name string) bool {
	switch strings.ToLower(filepath.Ext(name)) {
	case ".jpg", ".jpeg", ".jpe":
		return true
	}
	return false
}

// natural compares names with their numbers as numbers.
func natural(a, b string) int {
	x, y := a, b
	for x != "" && y != "" {
		if isDigit(x[0]) && isDigit(y[0]) {
			first, restX := number(x)
			second, restY := number(y)
			if len(first) != len(second) { // without leading zeros the longer one is the larger one
				return len(first) - len(second)
			}
			if first != second {
				return strings.Compare(first, second)
			}
			x, y = restX, restY
			continue
		}
		if x[0] != y[0] {
			return int(x[0]) - int(y[0])
		}
		x, y = x[1:], y[1:]
	}
	if len(x) != len(y) {
		return len(x) - len(y)
	}
	return strings.Compare(a, b) // "01" and "1"
}

// number cuts the digits off the front, without leading zeros.
func number(text string) (digits, rest string) {
	end := 0
	for end < len(text) && isDigit(text[end]) {
		end++
	}
	return strings.TrimLeft(text[:end], "0"), text[end:]
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// isOver: no more results will come.
func (s *Session) isOver() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.exchange.finished || s.exchange.sourceUnwanted()
}
