package tilestream

import (
	"context"
	"crypto/tls"
	"log/slog"
	"time"

	pb "github.com/tilestream/tilestream/client/go/tilestream/v1"
	"google.golang.org/grpc"
)

const (
	defaultTimeout          = 20 * time.Second
	defaultReconnectTimeout = time.Minute
)

// Options of a Client. The zero value of every field is its default.
type Options struct {
	// TLS is how to check the server and what to show it; LoadTLS makes one of files. nil: plain text.
	TLS *tls.Config
	// TokenSource gives the token that goes with every call as "authorization: Bearer"; it is asked for each call
	// and may keep what it has. White space at its ends is not sent; what cannot be sent is an *InvalidConfigError.
	// nil: no token.
	TokenSource func(ctx context.Context) (string, error)
	// Logger is told of lost and reopened sessions. nil: nobody is.
	Logger *slog.Logger
	// DialOptions come after the client's own, such as otelgrpc's stats handler or another keepalive. nil: none.
	DialOptions []grpc.DialOption
	// Timeout is for everything that is answered at once: the opening of a session, questions. 0: 20 s.
	Timeout time.Duration
	// ReconnectTimeout is after which an outage is given up with a ConnectionLostError. 0: a minute. Negative: a
	// lost session is an error at once.
	ReconnectTimeout time.Duration
	// BackOff is between the attempts to open a lost session again. 0: up to 100 ms, 200 ms, ... 5 s.
	BackOff BackOff
}

func (o *Options) withDefaults() Options {
	var options Options
	if o != nil {
		options = *o
	}
	if options.Timeout <= 0 {
		options.Timeout = defaultTimeout
	}
	if options.ReconnectTimeout == 0 {
		options.ReconnectTimeout = defaultReconnectTimeout
	}
	if options.Logger == nil {
		options.Logger = slog.New(slog.DiscardHandler)
	}
	options.BackOff = options.BackOff.withDefaults()
	return options
}

// Size is a width and a height in pixels. The zero Size: the server's choice.
type Size struct{ Width, Height int }

// SessionOptions say how a session wants to be served. The zero value of every field is as the server likes it;
// ranges are the server's to check (InvalidConfigError).
type SessionOptions struct {
	// CameraID is a name for people and logs; it also spreads the cameras' whole frames over time. "": none.
	CameraID string
	// Model is a name from Client.Models. "": the server's default.
	Model string
	// MaskEncoding is how masks travel. 0: PNG.
	MaskEncoding MaskEncoding
	// QueuePolicy is for frames that come faster than they are computed. 0: wait, which is for files.
	QueuePolicy QueuePolicy
	// FramesInFlight is how many frames may be between Send and Results; Send waits for a place. With a policy
	// that drops, 16 more may be. 0: 2.
	FramesInFlight int
	// OutputSize is that of the masks. 0: the size of each frame.
	OutputSize Size
	// ComputeSize is what the network works at. 0: the size of each frame, limited.
	ComputeSize Size
	// BlockBudget is the share (0, 1] of the block units that a frame may compute. 0: automatic.
	BlockBudget float64
	// Weight is the share of this session in a busy server, relative to others. 0: 1.
	Weight float64
	// MaxDelay is how long results may wait for later frames: the same accuracy for less computing. More frames are
	// in flight then. 0: not at all. Session.Started says what is in force.
	MaxDelay time.Duration
	// IncludeBins asks for Result.Bins. false: there are none.
	IncludeBins bool
	// FrameCodec is what frames are; of video each is one access unit, and 16 frames more than FramesInFlight may be
	// between Send and Results, since pictures may be shown in another order. 0: JPEG.
	FrameCodec FrameCodec
	// Rotation is by how many degrees clockwise the server turns frames first: 0, 90, 180 or 270.
	Rotation int
	// IncludeConfidence asks for Result.Confidence. false: there is none.
	IncludeConfidence bool
	// Outputs are what results say of the labels beside the mask, or instead of it. Zero: nothing.
	Outputs Outputs
	// Regions are named parts of the picture, for Result.Regions and Rules. At most 64.
	Regions []Region
	// Rules make Result.Events. At most 64.
	Rules []Rule
}

func (o *SessionOptions) toProto() *pb.SessionConfig {
	if o == nil {
		o = &SessionOptions{}
	}
	config := &pb.SessionConfig{
		CameraId:          o.CameraID,
		Model:             o.Model,
		MaskEncoding:      pb.MaskEncoding(o.MaskEncoding),
		FrameCodec:        pb.FrameCodec(o.FrameCodec),
		Rotation:          uint32(max(0, o.Rotation)),
		QueuePolicy:       pb.QueuePolicy(o.QueuePolicy),
		FramesInFlight:    uint32(max(0, o.FramesInFlight)),
		BlockBudget:       float32(o.BlockBudget),
		Weight:            float32(o.Weight),
		MaxDelayMs:        uint32(max(0, o.MaxDelay.Milliseconds())),
		IncludeBins:       o.IncludeBins,
		IncludeConfidence: o.IncludeConfidence,
		Outputs:           o.Outputs.toProto(),
		Regions:           regionsToProto(o.Regions),
		Rules:             rulesToProto(o.Rules),
	}
	if o.FrameCodec == CodecDefault {
		config.FrameCodec = pb.FrameCodec_FRAME_CODEC_JPEG
	}
	if o.OutputSize != (Size{}) {
		config.OutputSize = o.OutputSize.toProto()
	}
	if o.ComputeSize != (Size{}) {
		config.ComputeSize = o.ComputeSize.toProto()
	}
	return config
}

func (s Size) toProto() *pb.Size {
	return &pb.Size{Width: uint32(max(0, s.Width)), Height: uint32(max(0, s.Height))}
}

func sizeFromProto(message *pb.Size) Size {
	return Size{int(message.GetWidth()), int(message.GetHeight())}
}

func optionsFromProto(config *pb.SessionConfig) SessionOptions {
	return SessionOptions{
		CameraID:          config.GetCameraId(),
		Model:             config.GetModel(),
		MaskEncoding:      MaskEncoding(config.GetMaskEncoding()),
		QueuePolicy:       QueuePolicy(config.GetQueuePolicy()),
		FrameCodec:        FrameCodec(config.GetFrameCodec()),
		Rotation:          int(config.GetRotation()),
		FramesInFlight:    int(config.GetFramesInFlight()),
		OutputSize:        sizeFromProto(config.GetOutputSize()),
		ComputeSize:       sizeFromProto(config.GetComputeSize()),
		BlockBudget:       float64(config.GetBlockBudget()),
		Weight:            float64(config.GetWeight()),
		MaxDelay:          time.Duration(config.GetMaxDelayMs()) * time.Millisecond,
		IncludeBins:       config.GetIncludeBins(),
		IncludeConfidence: config.GetIncludeConfidence(),
		Outputs:           outputsFromProto(config.GetOutputs()),
		Regions:           regionsFromProto(config.GetRegions()),
		Rules:             rulesFromProto(config.GetRules()),
	}
}
