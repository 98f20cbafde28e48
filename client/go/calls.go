package tilestream

import (
	"context"
	"errors"
	"io"
	"time"

	pb "github.com/tilestream/tilestream/client/go/tilestream/v1"
)

// The calls of a session: one after the other, each with a goroutine that reads and one that writes.

// run makes one call after the other until the session is over.
func (s *Session) run() {
	defer func() {
		s.cancel(nil)
		s.client.forget(s)
		close(s.done)
	}()
	call := 0
	for {
		err := s.runCall(call)
		s.mu.Lock()
		if err != nil && s.ctx.Err() != nil {
			s.exchange.finish(s.cancelled())
		}
		s.exchange.ended(err, call)
		wait, again := s.exchange.timeToRetry()
		s.mu.Unlock()
		s.wakeAll()
		if !again {
			return
		}
		s.client.options.Logger.Warn("tilestream: stream lost", "server", s.client.target, "error", err, "retry_in", wait)
		select {
		case <-time.After(wait):
		case <-s.ctx.Done():
			s.mu.Lock()
			s.exchange.finish(s.cancelled())
			s.mu.Unlock()
			return
		}
		s.mu.Lock()
		call = s.exchange.beginAgain()
		s.mu.Unlock()
	}
}

// cancelled is the error of a session that Close or its context ended.
func (s *Session) cancelled() error {
	cause := context.Cause(s.ctx)
	if errors.Is(cause, errClosed) {
		return sessionClosed(errClosed.Error(), nil)
	}
	return sessionClosed("the session's context is over: "+cause.Error(), cause)
}

// runCall makes one call and takes in its answers; what it ended with, nil for OK.
func (s *Session) runCall(call int) error {
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	hurry := time.AfterFunc(s.client.options.Timeout, func() {
		if !s.isOpen(call) {
			cancel()
		}
	})
	defer hurry.Stop()
	ctx, err := s.client.authorized(ctx)
	if err != nil {
		return err
	}
	stream, err := s.client.stub.StreamSegment(ctx)
	if err != nil {
		return s.callError(ctx, err, call)
	}
	sending := make(chan struct{})
	go func() {
		defer close(sending)
		s.send(stream, call)
	}()
	defer func() { <-sending }()
	defer cancel() // before waiting for what is being sent
	for {
		response, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return s.callError(ctx, err, call)
		}
		if err := s.receive(response, call); err != nil {
			return err
		}
	}
}

func (s *Session) callError(ctx context.Context, err error, call int) error {
	open := s.isOpen(call)
	if ctx.Err() != nil && s.ctx.Err() == nil && !open {
		return connectionFailed(s.client.target + " did not open a session within " + s.client.options.Timeout.String())
	}
	return s.client.failure(err, open)
}

func (s *Session) isOpen(call int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.exchange.isOpen(call)
}

func (s *Session) receive(response *pb.StreamSegmentResponse, call int) error {
	s.mu.Lock()
	err := s.exchange.receive(response, call)
	started := s.exchange.started
	s.mu.Unlock()
	if err != nil {
		return err
	}
	switch kind := response.Response.(type) {
	case *pb.StreamSegmentResponse_Result:
		s.toTake.wake()
		return nil
	case *pb.StreamSegmentResponse_SessionStarted:
		if call == 0 {
			close(s.opened)
		} else {
			log := s.client.options.Logger
			log.Info("tilestream: session opened again", "server", s.client.target, "session", started.SessionID, "resumed", started.Resumed)
		}
	case *pb.StreamSegmentResponse_Draining:
		reason := DrainReason(kind.Draining.GetReason())
		s.client.options.Logger.Info("tilestream: server is draining", "server", s.client.target, "reason", reason)
	}
	s.wakeAll()
	return nil
}

// send writes the requests of a call; how it ends the answers tell, so nothing is said of it here.
func (s *Session) send(stream pb.SegmentationService_StreamSegmentClient, call int) {
	ctx := stream.Context()
	s.mu.Lock()
	request := s.exchange.openingRequest()
	s.mu.Unlock()
	heartbeat := time.NewTimer(time.Hour)
	defer heartbeat.Stop()
	for {
		if stream.Send(request) != nil {
			return
		}
		for {
			s.mu.Lock()
			next, step := s.exchange.nextRequest(call)
			wait, beats := s.exchange.timeToHeartbeat()
			s.mu.Unlock()
			if step == stepEnd {
				_ = stream.CloseSend()
				return
			}
			if step == stepGo {
				request = next
				s.placeFree.wake() // the next frame may be held ready
				break
			}
			if !beats {
				wait = time.Hour
			}
			heartbeat.Reset(wait)
			select {
			case <-s.toSend:
			case <-heartbeat.C:
			case <-ctx.Done():
				return
			}
		}
	}
}

func (s *Session) wakeAll() {
	s.placeFree.wake()
	s.toSend.wake()
	s.toTake.wake()
}
