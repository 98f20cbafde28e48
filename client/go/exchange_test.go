package tilestream

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	pb "github.com/tilestream/tilestream/client/go/tilestream/v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// The rules that the clients of all languages keep; their README says what the steps mean.
const scriptFolder = "../../proto/testdata/exchange"

type script struct {
	Name      string          `json:"name"`
	Config    json.RawMessage `json:"config"`
	Reconnect struct {
		Timeout    float64 `json:"timeout"`
		FirstDelay float64 `json:"first_delay"`
		MaxDelay   float64 `json:"max_delay"`
		Jitter     float64 `json:"jitter"`
	} `json:"reconnect"`
	Steps []scriptStep `json:"steps"`
}

type scriptStep struct {
	Do           string          `json:"do"`
	Key          *bool           `json:"key"`
	Gives        json.RawMessage `json:"gives"`
	Response     json.RawMessage `json:"response"`
	Fails        string          `json:"fails"`
	Frames       []uint64        `json:"frames"`
	Call         *int            `json:"call"`
	Error        string          `json:"error"`
	RetryAfter   float64         `json:"retry_after"`
	Seconds      float64         `json:"seconds"`
	ResumeToken  []byte          `json:"resume_token"`
	LastResultID *uint64         `json:"last_result_id"`
	Unanswered   []uint64        `json:"unanswered"`
	Unsent       []uint64        `json:"unsent"`
}

// player plays one script.
type player struct {
	*testing.T
	now      time.Time
	exchange *exchange
	call     int
}

func TestExchangeScripts(t *testing.T) {
	paths, err := filepath.Glob(filepath.Join(scriptFolder, "*.json"))
	if err != nil || len(paths) == 0 {
		t.Skipf("the scripts of the repository are not here (%v)", err)
	}
	count := 0
	for _, path := range paths {
		var file struct {
			Scripts []script `json:"scripts"`
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(text, &file); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		for _, script := range file.Scripts {
			count++
			t.Run(strings.TrimSuffix(filepath.Base(path), ".json")+": "+script.Name, func(t *testing.T) { play(t, script) })
		}
	}
	if count < 50 {
		t.Errorf("%d scripts", count)
	}
}

func play(t *testing.T, script script) {
	p := &player{T: t, now: time.Unix(100, 0)}
	clock := func() time.Time { return p.now }
	delays := BackOff{seconds(script.Reconnect.FirstDelay), seconds(script.Reconnect.MaxDelay)}
	attempts := newAttempts(delays, seconds(script.Reconnect.Timeout), clock)
	attempts.jitter = func() float64 { return script.Reconnect.Jitter }
	config := &pb.SessionConfig{}
	if script.Config != nil {
		parse(t, script.Config, config)
	}
	p.exchange = newExchange(config, attempts, clock)
	for number, step := range script.Steps {
		if problem := p.play(step); problem != "" {
			t.Fatalf("step %d, %s: %s", number, step.Do, problem)
		}
	}
}

// play does one step; what is wrong with what comes of it, "" for nothing.
func (p *player) play(step scriptStep) string {
	e, call := p.exchange, p.call
	if step.Call != nil {
		call = *step.Call
	}
	switch step.Do {
	case "opening":
		config := e.openingRequest().GetConfig()
		if !bytes.Equal(config.ResumeToken, step.ResumeToken) || !reflect.DeepEqual(config.LastResultId, step.LastResultID) {
			return fmt.Sprint(config)
		}
	case "receive":
		response := &pb.StreamSegmentResponse{}
		parse(p.T, step.Response, response)
		return compare(name(e.receive(response, call)), step.Fails)
	case "answer":
		for _, id := range step.Frames {
			if problem := compare(name(e.receive(dropped(id), call)), step.Fails); problem != "" {
				return problem
			}
		}
	case "offer":
		if _, err := e.offer(Frame{Data: step.unit()}); err != nil {
			return err.Error()
		}
	case "source_ended":
		e.sourceEnded()
	case "next":
		request, next := e.nextRequest(call)
		return step.gives(requested(request, next))
	case "call_ended":
		e.ended(failed(step.Error, seconds(step.RetryAfter)), call)
	case "seconds_to_retry":
		return step.gives(inSeconds(e.timeToRetry()))
	case "begin_again":
		p.call = e.beginAgain()
		return step.gives(p.call)
	case "take":
		return p.take(step)
	case "advance":
		p.now = p.now.Add(seconds(step.Seconds))
	case "check":
		return p.check(step)
	default:
		return "no such step"
	}
	return ""
}

func (p *player) take(step scriptStep) string {
	result, next, err := p.exchange.take()
	switch {
	case next == stepGo:
		return step.gives(fmt.Sprintf("frame %d", result.FrameID))
	case next == stepWait:
		return step.gives("wait")
	case err == nil:
		return step.gives("end")
	}
	failure := failureOf(err)
	said := [3]any{append([]uint64{}, failure.Unanswered...), append([]uint64{}, failure.Unsent...), failure.RetryAfter}
	meant := [3]any{append([]uint64{}, step.Unanswered...), append([]uint64{}, step.Unsent...), seconds(step.RetryAfter)}
	if !reflect.DeepEqual(said, meant) {
		return fmt.Sprintf("%v instead of %v", said, meant)
	}
	return step.gives("error " + name(err))
}

// check compares what is known from outside; the keys of the step are read from its JSON once more.
func (p *player) check(step scriptStep) string {
	e := p.exchange
	known := map[string]any{
		"wants_frame": e.wantsFrame(), "window": e.window, "reconnects": e.reconnects, "resumes": e.resumes,
		"frames_sent": e.framesSent, "seconds_to_heartbeat": inSeconds(e.timeToHeartbeat()),
	}
	var meant map[string]json.RawMessage
	if err := json.Unmarshal(step.Gives, &meant); err != nil {
		return err.Error()
	}
	delete(meant, "do")
	for key, value := range meant {
		said, ok := known[key]
		if !ok {
			return "nothing is known of " + key
		}
		if problem := (scriptStep{Gives: value}).gives(said); problem != "" {
			return key + ": " + problem
		}
	}
	return ""
}

// UnmarshalJSON keeps the whole of a check.
func (s *scriptStep) UnmarshalJSON(text []byte) error {
	type plain scriptStep
	if err := json.Unmarshal(text, (*plain)(s)); err != nil {
		return err
	}
	if s.Do == "check" {
		s.Gives = append(json.RawMessage{}, text...)
	}
	return nil
}

// unit is what is offered: an access unit of H.264 where the step says whether it is a key unit.
func (s scriptStep) unit() []byte {
	switch {
	case s.Key == nil:
		return []byte("x")
	case *s.Key:
		return []byte{0, 0, 1, 0x65, 0x88}
	}
	return []byte{0, 0, 1, 0x41, 0x9A}
}

// gives compares what came of the step; seconds are rounded to microseconds on the way.
func (s scriptStep) gives(said any) string {
	var meant any
	if err := json.Unmarshal(s.Gives, &meant); err != nil {
		return err.Error()
	}
	if number, ok := said.(int); ok {
		said = float64(number)
	}
	return compare(said, meant)
}

func compare(said, meant any) string {
	if said != meant {
		return fmt.Sprintf("%v instead of %v", said, meant)
	}
	return ""
}

func requested(request *pb.StreamSegmentRequest, next step) string {
	switch {
	case next == stepWait:
		return "wait"
	case next == stepEnd:
		return "end"
	case request.GetHeartbeat() != nil:
		return "heartbeat"
	}
	if request.GetFrame().GetDecodeOnly() {
		return fmt.Sprintf("decode_only %d", request.GetFrame().GetFrameId())
	}
	return fmt.Sprintf("frame %d", request.GetFrame().GetFrameId())
}

func inSeconds(wait time.Duration, ok bool) any {
	if !ok {
		return nil
	}
	return wait.Round(time.Microsecond).Seconds()
}

func seconds(value float64) time.Duration { return time.Duration(value * float64(time.Second)) }

func dropped(id uint64) *pb.StreamSegmentResponse {
	result := &pb.FrameResult{FrameId: id, Status: pb.FrameStatus_FRAME_STATUS_DROPPED}
	return &pb.StreamSegmentResponse{Response: &pb.StreamSegmentResponse_Result{Result: result}}
}

func parse(t *testing.T, text []byte, into proto.Message) {
	t.Helper()
	if err := protojson.Unmarshal(text, into); err != nil {
		t.Fatal(err)
	}
}

// failed makes the error of that name; nil for none.
func failed(name string, retryAfter time.Duration) error {
	failure := Failure{Message: "as the script says", RetryAfter: retryAfter}
	closed, busy := SessionClosedError{failure}, ServerBusyError{failure}
	return map[string]error{
		"ConnectionFailed": &ConnectionFailedError{failure},
		"AccessDenied":     &AccessDeniedError{failure},
		"InvalidConfig":    &InvalidConfigError{failure, nil},
		"ServerBusy":       &busy,
		"ServerDraining":   &ServerDrainingError{busy},
		"ServerError":      &ServerFaultError{failure},
		"SessionClosed":    &closed,
		"ConnectionLost":   &ConnectionLostError{closed},
		"MessageTooLarge":  &MessageTooLargeError{failure},
		"ProtocolError":    &ProtocolError{failure},
	}[name]
}

// name is what the scripts call an error; "" for none.
func name(err error) string {
	if err == nil {
		return ""
	}
	var known failer
	if !errors.As(err, &known) {
		return err.Error()
	}
	full := strings.TrimPrefix(fmt.Sprintf("%T", known), "*tilestream.")
	switch full {
	case "ProtocolError":
		return full
	case "ServerFaultError":
		return "ServerError"
	}
	return strings.TrimSuffix(full, "Error")
}
