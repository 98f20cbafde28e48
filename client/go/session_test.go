package tilestream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	pb "github.com/tilestream/tilestream/client/go/tilestream/v1"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
)

func open(t testing.TB, client *Client, options *SessionOptions) *Session {
	t.Helper()
	session, err := client.Open(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	return session
}

// feed sends count frames from a goroutine of its own, then closes the sending side.
func feed(t testing.TB, session *Session, count int) {
	sent := make(chan struct{})
	t.Cleanup(func() { <-sent })
	go func() {
		defer close(sent)
		for index := range count {
			if session.Send(t.Context(), Frame{Data: []byte("x"), Name: fmt.Sprint(index)}) != nil {
				return
			}
		}
		session.CloseSend()
	}()
}

// collect checks that every frame has its answer once and in order; the error at the end.
func collect(t testing.TB, session *Session) (int, error) {
	t.Helper()
	count := 0
	for result, err := range session.Results() {
		if err != nil {
			return count, err
		}
		if result.FrameID != uint64(count) || result.Frame.Name != fmt.Sprint(count) {
			t.Fatalf("result %d is of frame %d, %q", count, result.FrameID, result.Frame.Name)
		}
		labels, err := result.Labels()
		if err != nil || !slices.Equal(labels.Pix, fakeLabels(result.FrameID)) {
			t.Fatalf("labels of frame %d: %v, %v", count, labels, err)
		}
		count++
	}
	return count, nil
}

func TestEveryFrameOnceAndInOrder(t *testing.T) {
	for _, encoding := range []MaskEncoding{EncodingDefault, EncodingPNG, EncodingRLE, EncodingRaw} {
		t.Run(encoding.String(), func(t *testing.T) {
			session := open(t, serve(t, &fakeServer{}, nil), &SessionOptions{MaskEncoding: encoding, FramesInFlight: 3})
			feed(t, session, 100)
			if count, err := collect(t, session); count != 100 || err != nil {
				t.Fatal(count, err)
			}
			if counts := session.Counts(); counts != (Counts{FramesSent: 100}) {
				t.Error(counts)
			}
		})
	}
}

func TestStarted(t *testing.T) {
	server := &fakeServer{limits: &pb.SessionLimits{MaxFrameBytes: 1000, ResumeTtlMs: 1500}}
	options := SessionOptions{CameraID: "front", Model: "fake", QueuePolicy: PolicyDropOldest, FramesInFlight: 4, OutputSize: Size{8, 4}, BlockBudget: 0.5, FrameCodec: CodecJPEG}
	started := open(t, serve(t, server, nil), &options).Started()
	if started.SessionID != "session 0" || started.Model.Name != "fake" || started.Resumed {
		t.Error(started)
	}
	if !reflect.DeepEqual(started.Options(), options) {
		t.Error(started.Options())
	}
	if started.Limits.MaxFrameBytes != 1000 || started.Limits.ResumeTTL != 1500*time.Millisecond {
		t.Error(started.Limits)
	}
}

// A stream is lost before or after a frame's answer, at random places; the server resumes, or it does not.
func TestLostStreamsCostNothing(t *testing.T) {
	for _, forgets := range []bool{false, true} {
		t.Run(fmt.Sprintf("forgets %v", forgets), func(t *testing.T) {
			random := rand.New(rand.NewPCG(1, 2))
			var mu sync.Mutex
			trouble := func(int, uint64) error {
				mu.Lock()
				defer mu.Unlock()
				if random.IntN(12) > 0 {
					return nil
				}
				code := []codes.Code{codes.Unavailable, codes.Internal, codes.Canceled, codes.Unknown}[random.IntN(4)]
				return status.Error(code, "trouble")
			}
			server := &fakeServer{accepted: trouble, answered: trouble, forgets: forgets}
			session := open(t, serve(t, server, nil), &SessionOptions{FramesInFlight: 4})
			feed(t, session, 400)
			if count, err := collect(t, session); count != 400 || err != nil {
				t.Fatal(count, err)
			}
			counts := session.Counts()
			if counts.FramesSent != 400 || counts.Reconnects < 20 || (counts.Resumes == 0) != forgets {
				t.Error(counts)
			}
			if !forgets && len(server.frames) != 400 {
				t.Errorf("%d frames were sent to a server that had them", len(server.frames)-400)
			}
		})
	}
}

func TestDrainingGoesOnInAnotherSession(t *testing.T) {
	server := &fakeServer{forgets: true, notice: func(_ int, id uint64) *pb.DrainingNotice {
		if id%10 == 9 {
			return &pb.DrainingNotice{Reason: pb.DrainReason_DRAIN_REASON_SHUTDOWN, RetryDelayMs: 1}
		}
		return nil
	}}
	session := open(t, serve(t, server, nil), nil)
	feed(t, session, 50)
	if count, err := collect(t, session); count != 50 || err != nil {
		t.Fatal(count, err)
	}
	if session.Counts().Reconnects < 4 {
		t.Error(session.Counts())
	}
}

func TestDrainingIsAnErrorWithoutReconnecting(t *testing.T) {
	server := &fakeServer{notice: func(int, uint64) *pb.DrainingNotice {
		return &pb.DrainingNotice{Reason: pb.DrainReason_DRAIN_REASON_MAX_AGE, RetryDelayMs: 250}
	}}
	session := open(t, serve(t, server, &Options{ReconnectTimeout: -1}), &SessionOptions{FramesInFlight: 1})
	feed(t, session, 50)
	count, err := collect(t, session)
	var draining *ServerDrainingError
	var busy *ServerBusyError
	if !errors.As(err, &draining) || !errors.As(err, &busy) || count != 1 {
		t.Fatal(count, err)
	}
	if draining.RetryAfter != 250*time.Millisecond || !strings.Contains(err.Error(), "max_age") {
		t.Error(err, draining.RetryAfter)
	}
	if err := session.Send(t.Context(), Frame{}); !errors.As(err, &draining) {
		t.Error(err)
	}
}

func TestAbortedIsNotTriedAgain(t *testing.T) {
	server := &fakeServer{accepted: func(_ int, id uint64) error {
		if id == 3 {
			return status.Error(codes.Aborted, "another stream resumed this session")
		}
		return nil
	}}
	session := open(t, serve(t, server, nil), nil)
	feed(t, session, 10)
	count, err := collect(t, session)
	var closed *SessionClosedError
	var lost *ConnectionLostError
	if count > 3 || !errors.As(err, &closed) || errors.As(err, &lost) || closed.Code != codes.Aborted {
		t.Fatal(count, err)
	}
	if !slices.Contains(closed.Unanswered, 3) || len(server.configs) != 1 {
		t.Error(closed.Unanswered, len(server.configs))
	}
}

func TestRefusalsAtOpening(t *testing.T) {
	field := &errdetails.BadRequest_FieldViolation{Field: "config.weight", Description: "0.01 to 100"}
	bad := protoadapt.MessageV1Of(&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{field}})
	full := protoadapt.MessageV1Of(&errdetails.ErrorInfo{Reason: "FULL"})
	for _, test := range []struct {
		refusal error
		right   func(error) bool
	}{
		{refusal(codes.ResourceExhausted, "64 sessions", retryIn(1500*time.Millisecond), full), func(err error) bool {
			var busy *ServerBusyError
			return errors.As(err, &busy) && busy.RetryAfter == 1500*time.Millisecond && strings.Contains(err.Error(), "is full (try again in 1.5s)")
		}},
		{refusal(codes.InvalidArgument, "no", bad), func(err error) bool {
			var invalid *InvalidConfigError
			return errors.As(err, &invalid) && slices.Equal(invalid.Fields, []FieldError{{"weight", "0.01 to 100"}})
		}},
		{status.Error(codes.Unauthenticated, "who are you"), func(err error) bool {
			var denied *AccessDeniedError
			return errors.As(err, &denied)
		}},
		{status.Error(codes.PermissionDenied, "not you"), func(err error) bool {
			var denied *AccessDeniedError
			return errors.As(err, &denied)
		}},
		{refusal(codes.Unavailable, "shutting down", retryIn(0)), func(err error) bool {
			var draining *ServerDrainingError
			return errors.As(err, &draining)
		}},
		{status.Error(codes.FailedPrecondition, "what"), func(err error) bool {
			var protocol *ProtocolError
			return errors.As(err, &protocol)
		}},
		{status.Error(codes.Internal, "oh"), func(err error) bool {
			var fault *ServerFaultError
			return errors.As(err, &fault)
		}},
		{status.Error(codes.ResourceExhausted, "Received message larger than max"), func(err error) bool {
			var large *MessageTooLargeError
			return errors.As(err, &large)
		}},
	} {
		t.Run(test.refusal.Error(), func(t *testing.T) {
			client := serve(t, &fakeServer{refusals: []error{test.refusal}}, nil)
			session, err := client.Open(t.Context(), nil)
			var failure *Failure
			if session != nil || !test.right(err) || !errors.As(err, &failure) || failure.Code != status.Code(test.refusal) {
				t.Errorf("%T: %v", err, err)
			}
		})
	}
}

func TestABusyServerIsAskedAgainWhenItSays(t *testing.T) {
	lost := false
	server := &fakeServer{accepted: func(_ int, id uint64) error {
		if id == 2 && !lost {
			lost = true
			return status.Error(codes.Unavailable, "gone")
		}
		return nil
	}}
	delay := 60 * time.Millisecond
	server.refusals = []error{nil, refusal(codes.ResourceExhausted, "full", retryIn(delay))}
	session := open(t, serve(t, server, nil), nil)
	began := time.Now()
	feed(t, session, 5)
	if count, err := collect(t, session); count != 5 || err != nil {
		t.Fatal(count, err)
	}
	if time.Since(began) < delay || len(server.configs) != 3 {
		t.Error(time.Since(began), len(server.configs))
	}
}

func TestAnOutageIsGivenUp(t *testing.T) {
	server := &fakeServer{accepted: func(int, uint64) error { return status.Error(codes.Unavailable, "gone") }, forgets: true}
	session := open(t, serve(t, server, &Options{ReconnectTimeout: 30 * time.Millisecond}), nil)
	feed(t, session, 5)
	count, err := collect(t, session)
	var lost *ConnectionLostError
	if count != 0 || !errors.As(err, &lost) || !slices.Contains(lost.Unanswered, 0) {
		t.Fatal(count, err)
	}
	if !strings.Contains(err.Error(), "tried to come back") {
		t.Error(err)
	}
}

func TestSendWaitsForCredit(t *testing.T) {
	server := &fakeServer{hold: make(chan struct{})}
	session := open(t, serve(t, server, nil), &SessionOptions{FramesInFlight: 2})
	for index := range 2 {
		if err := session.Send(t.Context(), Frame{Data: []byte("x"), Name: fmt.Sprint(index)}); err != nil {
			t.Fatal(err)
		}
	}
	short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := session.Send(short, Frame{Data: []byte("x")}); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	close(server.hold)
	feedFrom2 := func() {
		_ = session.Send(t.Context(), Frame{Data: []byte("x"), Name: "2"})
		session.CloseSend()
	}
	go feedFrom2()
	if count, err := collect(t, session); count != 3 || err != nil { // the frame that was given up took no id
		t.Fatal(count, err)
	}
}

func TestBreakingOutCancels(t *testing.T) {
	server := &fakeServer{}
	session := open(t, serve(t, server, nil), nil)
	feed(t, session, 1000)
	for result, err := range session.Results() {
		if err != nil || !result.OK() {
			t.Fatal(err)
		}
		break
	}
	<-server.ended
	var closed *SessionClosedError
	if err := session.Send(t.Context(), Frame{}); !errors.As(err, &closed) {
		t.Error(err)
	}
	for _, err := range session.Results() {
		if !errors.As(err, &closed) || !strings.Contains(err.Error(), "once") {
			t.Error(err)
		}
	}
}

func TestTheContextEndsTheSession(t *testing.T) {
	client := serve(t, &fakeServer{hold: make(chan struct{})}, nil)
	ctx, cancel := context.WithCancel(t.Context())
	session, err := client.Open(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	feed(t, session, 5)
	cancel()
	_, err = collect(t, session)
	var closed *SessionClosedError
	if !errors.Is(err, context.Canceled) || !errors.As(err, &closed) {
		t.Error(err)
	}
}

func TestCloseWhileAllWait(t *testing.T) {
	client := serve(t, &fakeServer{hold: make(chan struct{})}, nil)
	session := open(t, client, nil)
	feed(t, session, 5)
	over := make(chan error)
	go func() {
		_, err := collect(t, session)
		over <- err
	}()
	client.Close()
	var closed *SessionClosedError
	if err := <-over; !errors.As(err, &closed) {
		t.Error(err)
	}
	if _, err := client.Open(t.Context(), nil); !errors.As(err, &closed) {
		t.Error(err)
	}
	session.Close()
}

func TestAFrameThatIsTooLargeConcernsItselfOnly(t *testing.T) {
	session := open(t, serve(t, &fakeServer{limits: &pb.SessionLimits{MaxMessageBytes: 1000}}, nil), nil)
	var large *MessageTooLargeError
	if err := session.Send(t.Context(), Frame{Data: make([]byte, 1000)}); !errors.As(err, &large) {
		t.Fatal(err)
	}
	feed(t, session, 3)
	if count, err := collect(t, session); count != 3 || err != nil {
		t.Fatal(count, err)
	}
}

func TestHeartbeatsKeepAnIdleSession(t *testing.T) {
	server := &fakeServer{limits: &pb.SessionLimits{IdleTimeoutMs: 30}}
	session := open(t, serve(t, server, nil), nil)
	for {
		server.mu.Lock()
		beats := server.heartbeats
		server.mu.Unlock()
		if beats >= 3 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	session.CloseSend()
	if count, err := collect(t, session); count != 0 || err != nil {
		t.Fatal(count, err)
	}
}

func TestASilentServerIsGivenUp(t *testing.T) {
	client := serve(t, &fakeServer{silent: true}, &Options{Timeout: 30 * time.Millisecond})
	_, err := client.Open(t.Context(), nil)
	var failed *ConnectionFailedError
	if !errors.As(err, &failed) || !strings.Contains(err.Error(), "did not open a session within 30ms") {
		t.Error(err)
	}
}

func TestNobodyThereIsAnErrorAtOnce(t *testing.T) {
	client, err := New("127.0.0.1:1", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	_, err = client.Open(t.Context(), nil)
	var failed *ConnectionFailedError
	if !errors.As(err, &failed) || failed.Code != codes.Unavailable {
		t.Error(err)
	}
	if _, err := client.Info(t.Context()); !errors.As(err, &failed) {
		t.Error(err)
	}
}

func TestTokenGoesWithEveryCall(t *testing.T) {
	asked := 0
	source := func(context.Context) (string, error) {
		asked++
		return fmt.Sprintf("secret %d", asked), nil
	}
	lost := false
	server := &fakeServer{accepted: func(int, uint64) error {
		if !lost {
			lost = true
			return status.Error(codes.Unavailable, "gone")
		}
		return nil
	}}
	session := open(t, serve(t, server, &Options{TokenSource: source}), nil)
	feed(t, session, 3)
	if _, err := collect(t, session); err != nil {
		t.Fatal(err)
	}
	for index, header := range server.headers {
		if got := header.Get("authorization"); !slices.Equal(got, []string{fmt.Sprintf("Bearer secret %d", index+1)}) {
			t.Error(got)
		}
	}
	if len(server.headers) != 2 {
		t.Error(len(server.headers))
	}
}

func TestFates(t *testing.T) {
	session := open(t, serve(t, &fakeServer{}, nil), &SessionOptions{FramesInFlight: 5})
	taken := time.UnixMicro(1234567)
	for _, frame := range []Frame{{Data: []byte("drop")}, {Data: []byte("invalid")}, {Data: []byte("x"), CaptureTime: taken, ForceKeyFrame: true}} {
		if err := session.Send(t.Context(), frame); err != nil {
			t.Fatal(err)
		}
	}
	session.CloseSend()
	var said []string
	var last *Result
	for result, err := range session.Results() {
		if err != nil {
			t.Fatal(err)
		}
		said = append(said, fmt.Sprint(result.Status, " ", result.Reason()))
		last = result
		var mask *MaskError
		if _, err := result.Labels(); !result.OK() && !errors.As(err, &mask) {
			t.Error(err)
		}
	}
	if !slices.Equal(said, []string{"dropped overload", "invalid not_jpeg", "ok "}) {
		t.Error(said)
	}
	if !last.Reuse.KeyFrame || last.Reuse.BlockDropRate() != 0.75 || last.Times.Total != 1500*time.Microsecond {
		t.Error(last.Reuse, last.Times)
	}
	if !last.Frame.CaptureTime.Equal(taken) || last.Latency <= 0 {
		t.Error(last.Frame.CaptureTime, last.Latency)
	}
}

func TestQuestions(t *testing.T) {
	client := serve(t, &fakeServer{}, nil)
	if info, err := client.Info(t.Context()); err != nil || info.GetVersion() != "fake" {
		t.Error(info, err)
	}
	if models, err := client.Models(t.Context()); err != nil || len(models) != 1 || models[0].Classes[1].Name != "sky" {
		t.Error(models, err)
	}
	if sessions, err := client.Sessions(t.Context()); err != nil || len(sessions) != 2 {
		t.Error(sessions, err)
	}
}

func TestStreamTellsOfAFailingSourceAtTheEnd(t *testing.T) {
	client := serve(t, &fakeServer{}, nil)
	frames := func(yield func(Frame, error) bool) {
		_ = yield(Frame{Data: []byte("x")}, nil) && yield(Frame{Data: []byte("y")}, nil) && yield(Frame{}, io.ErrUnexpectedEOF)
	}
	count := 0
	var last error
	for result, err := range client.Stream(t.Context(), frames, nil) {
		if err == nil && result.OK() {
			count++
		}
		last = err
	}
	if count != 2 || !errors.Is(last, io.ErrUnexpectedEOF) {
		t.Error(count, last)
	}
}

// A token that is wrong, or that the server takes no longer, is an error at once: nothing is tried again.
func TestWrongTokens(t *testing.T) {
	unknown := status.Error(codes.Unauthenticated, "this token is not known")
	for name, refusals := range map[string][]error{"at first": {unknown}, "after the stream was lost": {nil, unknown}} {
		t.Run(name, func(t *testing.T) {
			lose := func(int, uint64) error { return status.Error(codes.Unavailable, "gone") }
			server := &fakeServer{refusals: refusals, answered: lose}
			wrong := func(context.Context) (string, error) { return "wrong", nil }
			client := serve(t, server, &Options{TokenSource: wrong})
			session, err := client.Open(t.Context(), nil)
			if err == nil {
				feed(t, session, 3)
				_, err = collect(t, session)
			}
			var denied *AccessDeniedError
			if !errors.As(err, &denied) || denied.Code != codes.Unauthenticated {
				t.Fatalf("%T: %v", err, err)
			}
			if want := "passthrough:///fake refuses the credentials: this token is not known"; err.Error() != want {
				t.Error(err)
			}
			if len(server.configs) != len(refusals) {
				t.Errorf("the server was asked %d times", len(server.configs))
			}
			for _, header := range server.headers {
				if got := header.Get("authorization"); !slices.Equal(got, []string{"Bearer wrong"}) {
					t.Error(got)
				}
			}
		})
	}
}
