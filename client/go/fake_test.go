package tilestream

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"image/jpeg"
	"image/png"
	"io"
	"sync"
	"testing"
	"time"

	pb "github.com/tilestream/tilestream/client/go/tilestream/v1"
	"go.uber.org/goleak"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"
)

const fakeWidth, fakeHeight = 8, 4

var fakeModel = &pb.Model{
	Name: "fake",
	Classes: []*pb.LabelClass{
		{Value: 0, Name: "road", Color: 0x804080}, {Value: 1, Name: "sky", Color: 0x4682B4}, {Value: 2, Name: "car", Color: 0x8E},
	},
	IsDefault: true,
}

// fakeServer keeps the promises of a real one: order, resuming, half-closing. Its hooks make trouble.
type fakeServer struct {
	pb.UnimplementedSegmentationServiceServer

	limits   *pb.SessionLimits
	refusals []error                                        // for the next streams, one each; nil: takes it
	silent   bool                                           // no session is opened
	forgets  bool                                           // no session is kept
	accepted func(stream int, id uint64) error              // a frame was accepted; an error loses the stream
	answered func(stream int, id uint64) error              // likewise, its answer was sent
	notice   func(stream int, id uint64) *pb.DrainingNotice // after a frame was accepted: no more frames are read
	hold     chan struct{}                                  // answers wait for it, where there is one

	mu         sync.Mutex
	sessions   map[string]*fakeSession
	configs    []*pb.SessionConfig
	headers    []metadata.MD
	frames     []*pb.Frame
	heartbeats int
	ended      chan error // why the contexts of streams ended
}

type fakeSession struct {
	config  *pb.SessionConfig
	last    *uint64
	answers []*pb.FrameResult
}

func (f *fakeServer) StreamSegment(stream pb.SegmentationService_StreamSegmentServer) error {
	defer func() {
		select {
		case f.ended <- stream.Context().Err():
		default:
		}
	}()
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	if f.silent {
		<-stream.Context().Done()
		return stream.Context().Err()
	}
	number, session, resumed, err := f.open(stream.Context(), first.GetConfig())
	if err != nil {
		return err
	}
	token := first.GetConfig().GetResumeToken()
	if !resumed {
		token = []byte(fmt.Sprintf("token %d", number))
		f.mu.Lock()
		f.sessions[string(token)] = session
		f.mu.Unlock()
	}
	started := &pb.SessionStarted{
		SessionId: fmt.Sprintf("session %d", number), ResumeToken: token, Resumed: resumed,
		Model: fakeModel, Config: session.config, Limits: f.limits,
	}
	if resumed {
		started.LastFrameId = session.last
	}
	if err := stream.Send(&pb.StreamSegmentResponse{Response: &pb.StreamSegmentResponse_SessionStarted{SessionStarted: started}}); err != nil {
		return err
	}
	if resumed {
		for _, answer := range session.answers {
			last := first.GetConfig().LastResultId
			if last == nil || answer.GetFrameId() > *last {
				if err := stream.Send(result(answer)); err != nil {
					return err
				}
			}
		}
	}
	return f.serve(stream, number, session)
}

func (f *fakeServer) open(ctx context.Context, config *pb.SessionConfig) (int, *fakeSession, bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	number := len(f.configs)
	header, _ := metadata.FromIncomingContext(ctx)
	f.configs, f.headers = append(f.configs, config), append(f.headers, header)
	if len(f.refusals) > 0 {
		refusal := f.refusals[0]
		f.refusals = f.refusals[1:]
		if refusal != nil {
			return number, nil, false, refusal
		}
	}
	if session := f.sessions[string(config.GetResumeToken())]; session != nil && !f.forgets {
		return number, session, true, nil
	}
	inForce := proto.Clone(config).(*pb.SessionConfig)
	inForce.ResumeToken, inForce.LastResultId = nil, nil
	if inForce.FramesInFlight == 0 {
		inForce.FramesInFlight = 2
	}
	return number, &fakeSession{config: inForce}, false, nil
}

func (f *fakeServer) serve(stream pb.SegmentationService_StreamSegmentServer, number int, session *fakeSession) error {
	for {
		request, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		frame := request.GetFrame()
		if frame == nil {
			f.mu.Lock()
			f.heartbeats++
			f.mu.Unlock()
			continue
		}
		if session.last != nil && frame.GetFrameId() <= *session.last {
			return status.Errorf(codes.FailedPrecondition, "frame %d came twice", frame.GetFrameId())
		}
		answer := f.answer(frame, session.config.GetMaskEncoding())
		f.mu.Lock()
		f.frames = append(f.frames, frame)
		session.last = &frame.FrameId
		session.answers = append(session.answers, answer)
		f.mu.Unlock()
		if f.accepted != nil {
			if err := f.accepted(number, frame.GetFrameId()); err != nil {
				return err
			}
		}
		if f.hold != nil {
			select {
			case <-f.hold:
			case <-stream.Context().Done():
				return stream.Context().Err()
			}
		}
		notice := (*pb.DrainingNotice)(nil)
		if f.notice != nil {
			notice = f.notice(number, frame.GetFrameId())
		}
		if notice != nil {
			if err := stream.Send(&pb.StreamSegmentResponse{Response: &pb.StreamSegmentResponse_Draining{Draining: notice}}); err != nil {
				return err
			}
		}
		if err := stream.Send(result(answer)); err != nil {
			return err
		}
		if notice != nil {
			return nil
		}
		if f.answered != nil {
			if err := f.answered(number, frame.GetFrameId()); err != nil {
				return err
			}
		}
	}
}

// answer depends on the frame's data: "drop" and "invalid" have these fates.
func (f *fakeServer) answer(frame *pb.Frame, encoding pb.MaskEncoding) *pb.FrameResult {
	answer := &pb.FrameResult{FrameId: frame.GetFrameId(), CaptureTimeUs: frame.GetCaptureTimeUs(), Times: &pb.StageTimes{TotalUs: 1500}}
	switch string(frame.GetData()) {
	case "drop":
		answer.Status, answer.DropReason = pb.FrameStatus_FRAME_STATUS_DROPPED, pb.DropReason_DROP_REASON_OVERLOAD
	case "invalid":
		answer.Status, answer.InvalidReason = pb.FrameStatus_FRAME_STATUS_INVALID, pb.InvalidReason_INVALID_REASON_NOT_JPEG
	default:
		answer.Status = pb.FrameStatus_FRAME_STATUS_OK
		answer.Mask = fakeMask(frame.GetFrameId(), encoding)
		answer.Reuse = &pb.ReuseStats{KeyFrame: frame.GetForceKeyFrame(), UnitsComputed: 1, UnitsDropped: 3}
	}
	return answer
}

func (f *fakeServer) GetServerInfo(context.Context, *pb.GetServerInfoRequest) (*pb.GetServerInfoResponse, error) {
	return &pb.GetServerInfoResponse{Version: "fake"}, nil
}

func (f *fakeServer) ListModels(context.Context, *pb.ListModelsRequest) (*pb.ListModelsResponse, error) {
	return &pb.ListModelsResponse{Models: []*pb.Model{fakeModel}}, nil
}

func (f *fakeServer) ListSessions(_ context.Context, request *pb.ListSessionsRequest) (*pb.ListSessionsResponse, error) {
	if request.GetPageToken() == "" {
		return &pb.ListSessionsResponse{Sessions: []*pb.Session{{SessionId: "a"}}, NextPageToken: "b"}, nil
	}
	return &pb.ListSessionsResponse{Sessions: []*pb.Session{{SessionId: "b"}}}, nil
}

// serve starts the server and gives a client of it. Both end with the test, and nothing may run after that.
func serve(t testing.TB, server *fakeServer, options *Options) *Client {
	t.Helper()
	ignore := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, ignore) })
	dial, stop := server.start()
	t.Cleanup(stop)
	var chosen Options
	if options != nil {
		chosen = *options
	}
	chosen.DialOptions = append(chosen.DialOptions, dial)
	if chosen.BackOff == (BackOff{}) {
		chosen.BackOff = BackOff{FirstDelay: time.Millisecond, MaxDelay: 5 * time.Millisecond}
	}
	client, err := New("passthrough:///fake", &chosen)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

func result(answer *pb.FrameResult) *pb.StreamSegmentResponse {
	return &pb.StreamSegmentResponse{Response: &pb.StreamSegmentResponse_Result{Result: answer}}
}

// fakeLabels are stripes that move on by one class per frame.
func fakeLabels(id uint64) []uint8 {
	labels := make([]uint8, fakeWidth*fakeHeight)
	for index := range labels {
		labels[index] = uint8((id + uint64(index%fakeWidth/2)) % 3)
	}
	return labels
}

func fakeMask(id uint64, encoding pb.MaskEncoding) *pb.Mask {
	labels := fakeLabels(id)
	mask := &pb.Mask{Width: fakeWidth, Height: fakeHeight, Encoding: encoding}
	switch encoding {
	case pb.MaskEncoding_MASK_ENCODING_RLE:
		mask.Data = encodeRLE(labels)
	case pb.MaskEncoding_MASK_ENCODING_RAW:
		mask.Data = labels
	default:
		mask.Encoding, mask.Data = pb.MaskEncoding_MASK_ENCODING_PNG, encodePNG(labels, fakeWidth)
	}
	return mask
}

func encodeRLE(labels []uint8) []byte {
	var out []byte
	for start := 0; start < len(labels); {
		end := start
		for end < len(labels) && labels[end] == labels[start] {
			end++
		}
		out = binary.AppendUvarint(out, uint64(labels[start]))
		out = binary.AppendUvarint(out, uint64(end-start))
		start = end
	}
	return out
}

func encodePNG(labels []uint8, width int) []byte {
	bounds := image.Rect(0, 0, width, len(labels)/width)
	picture := &image.Paletted{Pix: labels, Stride: width, Rect: bounds, Palette: modelFromProto(fakeModel).Palette()}
	var out bytes.Buffer
	if err := png.Encode(&out, picture); err != nil {
		panic(err)
	}
	return out.Bytes()
}

func encodeJPEG(width, height int, shade uint8) []byte {
	picture := image.NewGray(image.Rect(0, 0, width, height))
	for index := range picture.Pix {
		picture.Pix[index] = shade
	}
	var out bytes.Buffer
	if err := jpeg.Encode(&out, picture, nil); err != nil {
		panic(err)
	}
	return out.Bytes()
}

// refusal is a status with details.
func refusal(code codes.Code, message string, details ...protoadapt.MessageV1) error {
	made, err := status.New(code, message).WithDetails(details...)
	if err != nil {
		panic(err)
	}
	return made.Err()
}

func retryIn(delay time.Duration) protoadapt.MessageV1 {
	return protoadapt.MessageV1Of(&errdetails.RetryInfo{RetryDelay: durationpb.New(delay)})
}
