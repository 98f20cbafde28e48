package tilestream

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	pb "github.com/tilestream/tilestream/client/go/tilestream/v1"
	"google.golang.org/protobuf/proto"
)

const (
	frameOverhead         = 64 // bytes of a request around the JPEG, generously
	heartbeatsPerTimeout  = 3
	defaultFramesInFlight = 2
	// With a policy that drops, frames that were given up are answered in frame order too, so they wait behind the
	// one being computed: the client has to have more under way than the server keeps. So it has with B pictures, whose
	// answers wait for that of a unit that is shown later.
	headroom = 16
)

// step is what to do where there may be nothing to send or to take.
type step int

const (
	stepGo   step = iota // there is something
	stepWait             // until something happens
	stepEnd              // half-close the call; or, when taking: all is said
)

// pending is a frame that was taken from the caller and has no answer yet.
type pending struct {
	id      uint64
	frame   Frame
	request *pb.StreamSegmentRequest
	sentAt  time.Time
}

// exchange is the bookkeeping of one session, without I/O: which frame may go, which answer belongs to which frame,
// when to send a sign of life, when to open a lost stream again, and how the session ended. A session may take
// several calls: each has a number, and what is still said by or to a call that was given up is ignored. It does no
// locking and every method returns at once. proto/testdata/exchange holds its rules, which the Python client keeps too.
type exchange struct {
	started    *Started
	draining   *pb.DrainingNotice
	window     int
	framesSent int
	reconnects int // sessions opened after a stream was lost
	resumes    int // of these, the ones in which the server went on where it was

	config     *pb.SessionConfig
	clock      func() time.Time
	attempts   attempts
	call       int
	open       bool      // the current call has opened a session
	retry      time.Time // zero: none is due
	lastResult *uint64
	lastSend   time.Time

	framesRead uint64
	held       *pending
	again      queue[*pb.StreamSegmentRequest] // what the server does not have: unanswered frames, and units before
	replay     replay
	unanswered queue[*pending]
	results    queue[*Result]
	sourceOver bool
	finished   bool
	err        error
}

func newExchange(config *pb.SessionConfig, attempts attempts, clock func() time.Time) *exchange {
	replay := replay{codec: FrameCodec(config.GetFrameCodec())}
	return &exchange{config: config, attempts: attempts, clock: clock, window: sendWindow(config), lastSend: clock(), replay: replay}
}

// The caller's side: frames in.

// wantsFrame: a frame may be offered now. Credit says whether it would go at once.
func (e *exchange) wantsFrame() bool { return e.started != nil && e.held == nil && !e.sourceUnwanted() }

// hasCredit: another frame would be within the window.
func (e *exchange) hasCredit() bool { return e.unanswered.len()+e.results.len() < e.window }

// sourceUnwanted: no frame will be taken any more.
func (e *exchange) sourceUnwanted() bool {
	return e.finished || e.sourceOver || (e.draining != nil && !e.attempts.enabled())
}

// offer holds a frame ready to be sent. One that cannot travel at all is refused, and nothing changes.
func (e *exchange) offer(frame Frame) (uint64, error) {
	if limit := e.started.Limits.MaxMessageBytes; limit > 0 && len(frame.Data)+frameOverhead > limit {
		text := fmt.Sprintf("a frame has %d bytes, the server takes messages of %d; send smaller frames", len(frame.Data), limit)
		return 0, &MessageTooLargeError{Failure{Message: text}}
	}
	id := e.framesRead
	e.framesRead++
	message := &pb.Frame{FrameId: id, Data: frame.Data, ForceKeyFrame: frame.ForceKeyFrame}
	if !frame.CaptureTime.IsZero() {
		message.CaptureTimeUs = frame.CaptureTime.UnixMicro()
	}
	e.held = &pending{id: id, frame: frame, request: frameRequest(message)}
	return id, nil
}

// sourceEnded: there are no more frames.
func (e *exchange) sourceEnded() { e.sourceOver = true }

// The wire's side.

// beginAgain: another call is made now; its number. The first call has the number 0.
func (e *exchange) beginAgain() int {
	e.call++
	e.open, e.retry, e.draining = false, time.Time{}, nil
	return e.call
}

// openingRequest is the config; always the first request of a call.
func (e *exchange) openingRequest() *pb.StreamSegmentRequest {
	e.lastSend = e.clock()
	config := proto.Clone(e.config).(*pb.SessionConfig)
	if e.started != nil {
		config.ResumeToken = e.started.resumeToken
		config.LastResultId = e.lastResult
	}
	return &pb.StreamSegmentRequest{Request: &pb.StreamSegmentRequest_Config{Config: config}}
}

// nextRequest is what to send now; stepEnd: half-close the call.
func (e *exchange) nextRequest(call int) (*pb.StreamSegmentRequest, step) {
	switch {
	case e.finished || e.draining != nil || call != e.call || !e.retry.IsZero():
		return nil, stepEnd
	case !e.open:
		return nil, stepWait
	case e.again.len() > 0:
		e.lastSend = e.clock()
		return e.again.pop(), stepGo
	case e.held != nil && e.hasCredit():
		return e.sendHeld(), stepGo
	case e.held == nil && e.sourceOver:
		return nil, stepEnd
	}
	if wait, ok := e.timeToHeartbeat(); ok && wait <= 0 {
		e.lastSend = e.clock()
		beat := &pb.Heartbeat{TimeUs: time.Now().UnixMicro()}
		return &pb.StreamSegmentRequest{Request: &pb.StreamSegmentRequest_Heartbeat{Heartbeat: beat}}, stepGo
	}
	return nil, stepWait
}

// timeToHeartbeat is how long nextRequest may be left alone; false: until something happens.
func (e *exchange) timeToHeartbeat() (time.Duration, bool) {
	if e.started == nil || !e.open || e.started.Limits.IdleTimeout <= 0 {
		return 0, false
	}
	due := e.lastSend.Add(e.started.Limits.IdleTimeout / heartbeatsPerTimeout)
	return max(0, due.Sub(e.clock())), true
}

// receive takes in what the server sent; a *ProtocolError where it makes no sense.
func (e *exchange) receive(response *pb.StreamSegmentResponse, call int) error {
	if call != e.call || e.finished {
		return nil
	}
	switch kind := response.Response.(type) {
	case *pb.StreamSegmentResponse_Result:
		return e.settle(kind.Result)
	case *pb.StreamSegmentResponse_SessionStarted:
		if e.open {
			return protocolError("the server opened the session twice")
		}
		e.start(startedFromProto(kind.SessionStarted))
	case *pb.StreamSegmentResponse_Draining:
		e.draining = kind.Draining
	}
	return nil // heartbeats, and kinds that are newer than this client, need nothing
}

// isOpen: this call is the current one and has opened a session.
func (e *exchange) isOpen(call int) bool { return call == e.call && e.open }

// ended: a call is over, with err or with OK: the session too, or it is time to try again.
func (e *exchange) ended(err error, call int) {
	if call != e.call || e.finished {
		return
	}
	reason := err
	if reason == nil {
		reason = e.abandoned()
	}
	if reason != nil && e.attempts.enabled() && e.isComplete() {
		reason, err = nil, nil // nothing was lost with it
	}
	if e.started != nil && reason != nil {
		e.retry, _ = e.attempts.retryAt(reason, e.open)
	}
	e.open = false
	if e.retry.IsZero() {
		e.finish(e.attempts.explained(err))
	}
}

// timeToRetry is how long to wait until beginAgain; false: there is nothing to wait for.
func (e *exchange) timeToRetry() (time.Duration, bool) {
	if e.retry.IsZero() || e.finished {
		return 0, false
	}
	return max(0, e.retry.Sub(e.clock())), true
}

// finish: the session is over, with err or with OK. Only the first call counts: nothing that could change the error
// happens afterwards, so that it can be handed out without the lock.
func (e *exchange) finish(err error) {
	if !e.finished {
		e.finished, e.err = true, e.complete(err)
	}
}

// The caller's side: results out.

// take is the next result. stepEnd: all is said, with what went wrong if anything did.
func (e *exchange) take() (*Result, step, error) {
	if e.results.len() > 0 {
		return e.results.pop(), stepGo, nil
	}
	if !e.finished {
		return nil, stepWait, nil
	}
	return nil, stepEnd, e.err
}

func (e *exchange) sendHeld() *pb.StreamSegmentRequest {
	sent := e.held
	e.held = nil
	e.lastSend = e.clock()
	sent.sentAt = e.lastSend
	e.unanswered.push(sent)
	e.framesSent++
	e.replay.sent(sent.request.GetFrame(), e.unanswered.first().id)
	return sent.request
}

// start: a call has opened a session: the first one, or one that goes on for a lost one.
func (e *exchange) start(started *Started) {
	if e.started != nil {
		e.reconnects++
		if started.Resumed {
			e.resumes++
		}
	}
	e.started, e.open = started, true
	e.window = sendWindow(started.config)
	e.attempts.opened()
	e.again = queue[*pb.StreamSegmentRequest]{}
	for _, request := range e.lacking(started) {
		e.again.push(request)
	}
}

// lacking is what the server of a session that goes on for a lost one does not have, in order.
func (e *exchange) lacking(started *Started) []*pb.StreamSegmentRequest {
	var frames []*pb.StreamSegmentRequest
	ids := map[uint64]bool{}
	oldest := e.framesRead
	for _, one := range e.unanswered.all() {
		oldest = min(oldest, one.id)
		if !started.Resumed || started.lastFrame == nil || one.id > *started.lastFrame {
			frames = append(frames, one.request)
			ids[one.id] = true
		}
	}
	all := append(e.replay.before(oldest, ids), frames...)
	slices.SortFunc(all, func(a, b *pb.StreamSegmentRequest) int {
		return cmp.Compare(a.GetFrame().GetFrameId(), b.GetFrame().GetFrameId())
	})
	return all
}

// isComplete: every frame that was taken has its answer, and there are no more.
func (e *exchange) isComplete() bool { return e.sourceOver && e.held == nil && e.unanswered.len() == 0 }

func (e *exchange) settle(message *pb.FrameResult) error {
	if e.started == nil || !e.open {
		return protocolError("the server answered a frame before it opened the session")
	}
	if e.unanswered.len() == 0 {
		return protocolError("the server answered frame %d, none is without an answer", message.GetFrameId())
	}
	next := e.unanswered.first()
	if message.GetFrameId() != next.id {
		return protocolError("the server answered frame %d, next in order is %d", message.GetFrameId(), next.id)
	}
	result, err := newResult(message, next, e.started, e.clock().Sub(next.sentAt))
	if err == nil && result.Status == StatusInvalid && next.frame.Problem != "" {
		result.Detail = next.frame.Problem
	}
	if err != nil {
		return err
	}
	e.unanswered.pop()
	e.results.push(result)
	e.lastResult = &next.id
	e.attempts.works()
	return nil
}

// complete names the frames that get no answer in err, which ends the session; nil stands for OK, which may be before
// its time.
func (e *exchange) complete(err error) error {
	if err == nil {
		err = e.abandoned()
	}
	var known failer
	if errors.As(err, &known) {
		failure := known.failure()
		failure.Unanswered, failure.Unsent = e.unansweredIDs(), nil
		if e.held != nil {
			failure.Unsent = []uint64{e.held.id}
		}
	}
	return err
}

// unansweredIDs are those of the frames that were sent and have no answer yet, in order.
func (e *exchange) unansweredIDs() []uint64 {
	var ids []uint64
	for _, one := range e.unanswered.all() {
		ids = append(ids, one.id)
	}
	return ids
}

// abandoned: the server ended with OK; nil if that was all right.
func (e *exchange) abandoned() error {
	if e.isComplete() {
		return nil
	}
	if e.draining != nil {
		wait := time.Duration(e.draining.GetRetryDelayMs()) * time.Millisecond
		text := fmt.Sprintf("the server ends its sessions (%s); try again in %s", DrainReason(e.draining.GetReason()), wait)
		return serverDraining(Failure{Message: text, RetryAfter: wait})
	}
	if left := e.unanswered.len(); left > 0 {
		return sessionClosed(fmt.Sprintf("the server ended the stream with %d frames unanswered", left), nil)
	}
	return sessionClosed("the server ended the stream before the frames were through", nil)
}

// sendWindow is how many frames may be between Send and Results under this config.
func sendWindow(config *pb.SessionConfig) int {
	window := int(config.GetFramesInFlight())
	if window == 0 {
		window = defaultFramesInFlight
	}
	policy, codec := config.GetQueuePolicy(), config.GetFrameCodec()
	drops := policy == pb.QueuePolicy_QUEUE_POLICY_DROP_OLDEST || policy == pb.QueuePolicy_QUEUE_POLICY_LATEST_ONLY
	if drops || codec == pb.FrameCodec_FRAME_CODEC_H264 || codec == pb.FrameCodec_FRAME_CODEC_H265 {
		window += headroom
	}
	return window
}
