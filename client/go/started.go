package tilestream

import (
	"image/color"
	"sync"
	"time"

	pb "github.com/tilestream/tilestream/client/go/tilestream/v1"
)

// Started is an open session, as the server confirmed it.
type Started struct {
	// SessionID is its name in the server's lists, logs and traces. Not a secret.
	SessionID string
	// Model serves this session.
	Model *Model
	// Limits are those in force.
	Limits Limits
	// Resumed: the server went on with the session that was lost.
	Resumed bool

	resumeToken []byte
	lastFrame   *uint64
	config      *pb.SessionConfig
}

// Options are those in force, with the server's defaults filled in.
func (s *Started) Options() SessionOptions { return optionsFromProto(s.config) }

// Limits hold for a session. Durations: 0 is never.
type Limits struct {
	MaxFrameBytes     int // more: the frame is answered StatusInvalid
	MaxFramePixels    int // likewise
	MaxFrameSide      int // likewise, width and height
	MaxComputePixels  int // larger frames are scaled down first
	MaxMessageBytes   int // more: Send refuses the frame
	MaxFramesInFlight int
	HeartbeatInterval time.Duration // the server sends a sign of life after as long
	IdleTimeout       time.Duration // the client sends one before that
	MaxSessionAge     time.Duration
	ResumeTTL         time.Duration // a lost session can be resumed for this long
	MaxDelay          time.Duration // the largest SessionOptions.MaxDelay; 0: this server does not look ahead
}

// Model is a model that a server has loaded.
type Model struct {
	Name        string
	Description string
	Classes     []LabelClass
	// Stride: the network computes at multiples of this many pixels.
	Stride int
	// Parameters is the number of weights.
	Parameters uint64
	// ReferenceMIoU is of single frames, 0..1. 0: not known.
	ReferenceMIoU float64
	IsDefault     bool

	palette func() color.Palette
}

// LabelClass is one class: its value in masks, its name and its colour.
type LabelClass struct {
	Value uint8
	Name  string
	Color color.RGBA
}

// Palette has a colour for every label value, 256 of them: opaque black where the model has no class.
// It is shared: do not change it.
func (m *Model) Palette() color.Palette { return m.palette() }

func (m *Model) makePalette() color.Palette {
	palette := make(color.Palette, 256)
	for value := range palette {
		palette[value] = color.RGBA{A: 255}
	}
	for _, class := range m.Classes {
		palette[class.Value] = class.Color
	}
	return palette
}

func startedFromProto(message *pb.SessionStarted) *Started {
	return &Started{
		SessionID:   message.GetSessionId(),
		Model:       modelFromProto(message.GetModel()),
		Limits:      limitsFromProto(message.GetLimits()),
		Resumed:     message.GetResumed(),
		resumeToken: message.GetResumeToken(),
		lastFrame:   message.LastFrameId,
		config:      message.GetConfig(),
	}
}

func modelFromProto(message *pb.Model) *Model {
	model := &Model{
		Name:          message.GetName(),
		Description:   message.GetDescription(),
		Stride:        int(message.GetStride()),
		Parameters:    message.GetParameters(),
		ReferenceMIoU: float64(message.GetReferenceMiou()),
		IsDefault:     message.GetIsDefault(),
	}
	for _, class := range message.GetClasses() {
		value := class.GetColor()
		rgb := color.RGBA{uint8(value >> 16), uint8(value >> 8), uint8(value), 255}
		model.Classes = append(model.Classes, LabelClass{uint8(class.GetValue()), class.GetName(), rgb})
	}
	model.palette = sync.OnceValue(model.makePalette)
	return model
}

func limitsFromProto(message *pb.SessionLimits) Limits {
	ms := func(value uint64) time.Duration { return time.Duration(value) * time.Millisecond }
	return Limits{
		MaxFrameBytes:     int(message.GetMaxFrameBytes()),
		MaxFramePixels:    int(message.GetMaxFramePixels()),
		MaxFrameSide:      int(message.GetMaxFrameSide()),
		MaxComputePixels:  int(message.GetMaxComputePixels()),
		MaxMessageBytes:   int(message.GetMaxMessageBytes()),
		MaxFramesInFlight: int(message.GetMaxFramesInFlight()),
		HeartbeatInterval: ms(uint64(message.GetHeartbeatIntervalMs())),
		IdleTimeout:       ms(uint64(message.GetIdleTimeoutMs())),
		MaxSessionAge:     ms(message.GetMaxSessionAgeMs()),
		ResumeTTL:         ms(uint64(message.GetResumeTtlMs())),
		MaxDelay:          ms(uint64(message.GetMaxDelayMs())),
	}
}
