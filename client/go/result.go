package tilestream

import (
	"bytes"
	"image"
	"image/jpeg"
	"sync"
	"time"

	pb "github.com/tilestream/tilestream/client/go/tilestream/v1"
)

// Result is what became of one frame. Labels are decoded when they are first asked for.
type Result struct {
	// FrameID is the number of the frame in its session, from 0 on.
	FrameID uint64
	// Frame is what was sent.
	Frame Frame
	// Status says whether there are labels.
	Status FrameStatus
	// DropReason is set where Status is StatusDropped.
	DropReason DropReason
	// InvalidReason is set where Status is StatusInvalid.
	InvalidReason InvalidReason
	// Detail is more about the reason, for people; where OK, which of the Outputs are incomplete, "" for none.
	Detail string
	// Latency is from handing the frame to gRPC to reading its answer, by this machine's clock.
	Latency time.Duration
	// Times are where the time went on the server.
	Times StageTimes
	// Reuse is what the frame cost and what was reused; nil unless OK.
	Reuse *ReuseStats
	// Bins is the account of every bin of the frame; nil unless asked for and OK.
	Bins *pb.BinAccount
	// Model served the frame; it has the classes and the palette.
	Model *Model
	// Mask is the mask as it travelled; nil unless OK, and with Outputs.NoMask.
	Mask *EncodedMask
	// ConfidenceMap is how sure the model is, as it travelled; nil unless asked for and OK.
	ConfidenceMap *EncodedMask
	// Areas are the classes in the picture, by value; nil unless asked for and OK.
	Areas []ClassArea
	// Instances are the largest first; nil unless asked for and OK.
	Instances []Instance
	// Regions are one for each of SessionOptions.Regions, in that order; nil unless OK.
	Regions []RegionAreas
	// Events are what began or ended with this frame, in the order of SessionOptions.Rules.
	Events []Event

	outputSize Size
	labels     decoded
	confidence decoded
}

// StageTimes are where the time of a frame went, by the server's clock. 0: did not happen, or took less than 1 us.
// Motion, Gate, Tables, Backbone and Head are the frame's own shares of the step, which it had with others.
type StageTimes struct {
	Total, Queue, Decode, Engine, Motion, Gate, Tables, Backbone, Head, Encode time.Duration
}

// ReuseStats are what a frame cost and what was reused from earlier ones.
type ReuseStats struct {
	// KeyFrame tells whether it was computed in full.
	KeyFrame bool
	// UnitsComputed and UnitsDropped count block units, residual block x bin.
	UnitsComputed, UnitsDropped int
	// MeanDistortion is over all bins, luma steps 0..255.
	MeanDistortion float64
	// BlockBudget is the share of units that this frame was allowed.
	BlockBudget float64
	// MACs are the multiply-accumulates. 0: not counted.
	MACs uint64
	// Agreement is the share of recomputed pixels that kept their label; HasAgreement: it could be told.
	Agreement    float64
	HasAgreement bool
	// BinsRefreshed counts bins computed anew in a frame that is not a key frame.
	BinsRefreshed int
	// RefreshChanged is the share of their pixels that got another label. 0 also where it could not be told.
	RefreshChanged float64
	// FramesSinceSource is how many frames ago the one was that labels were moved from. 0: they are this frame's own.
	FramesSinceSource int
	// FramesUntilSource is the same to the frame after this one that labels were moved from. 0: there is none.
	FramesUntilSource int
	// FutureShare is the share of the pixels whose label came from the frame after this one, 0..1.
	FutureShare float64
}

// BlockDropRate is dropped block units / all of them, 0..1; 0 where there are none.
func (r ReuseStats) BlockDropRate() float64 {
	return float64(r.UnitsDropped) / float64(max(1, r.UnitsComputed+r.UnitsDropped))
}

// OK tells whether there are labels, and a mask unless the session asked for none.
func (r *Result) OK() bool { return r.Status == StatusOK }

// Reason is why there are no labels, one word such as "queue_full"; "" where there are.
func (r *Result) Reason() string {
	switch r.Status {
	case StatusDropped:
		return r.DropReason.String()
	case StatusInvalid:
		return r.InvalidReason.String()
	}
	return ""
}

// Size is that of the mask, in whose pixels Areas, Instances and Regions are; zero unless OK, and where there is neither
// a mask nor an OutputSize and the frame is no image.
func (r *Result) Size() Size {
	switch {
	case !r.OK():
		return Size{}
	case r.Mask != nil:
		return Size{r.Mask.Width, r.Mask.Height}
	case r.outputSize != (Size{}):
		return r.outputSize
	}
	config, err := jpeg.DecodeConfig(bytes.NewReader(r.Frame.Data))
	if err != nil {
		return Size{}
	}
	return Size{config.Width, config.Height}
}

// Labels are the label values of all pixels, decoded once. A *MaskError where there are none or they are damaged.
func (r *Result) Labels() (*Labels, error) { return r.labels.get(r, r.Mask) }

// Confidence is how sure the model is of every pixel, 0 = a tie of the two best classes, 255 = certain. A *MaskError
// where there is none or it is damaged.
func (r *Result) Confidence() (*Labels, error) { return r.confidence.get(r, r.ConfidenceMap) }

// Paletted is the mask in the model's colours. It shares the pixels of Labels.
func (r *Result) Paletted() (*image.Paletted, error) {
	labels, err := r.Labels()
	if err != nil {
		return nil, err
	}
	bounds := image.Rect(0, 0, labels.Width, labels.Height)
	return &image.Paletted{Pix: labels.Pix, Stride: labels.Width, Rect: bounds, Palette: r.Model.Palette()}, nil
}

// Image is the frame that was sent, decoded; an error for access units, whose pictures this client does not make.
func (r *Result) Image() (image.Image, error) { return jpeg.Decode(bytes.NewReader(r.Frame.Data)) }

// decoded is a map of bytes that is decoded when it is first asked for.
type decoded struct {
	once   sync.Once
	labels *Labels
	err    error
}

func (d *decoded) get(r *Result, mask *EncodedMask) (*Labels, error) {
	d.once.Do(func() {
		if mask == nil {
			d.err = maskError("frame %d has none: %s %s", r.FrameID, r.Status, r.Reason())
			return
		}
		d.labels, d.err = mask.Decode(nil)
	})
	return d.labels, d.err
}

// newResult is the generated message with what only the client knows. A *ProtocolError for a status that this
// release does not know.
func newResult(message *pb.FrameResult, sent *pending, started *Started, latency time.Duration) (*Result, error) {
	status := FrameStatus(message.GetStatus())
	known := status == StatusOK || status == StatusDropped || status == StatusInvalid
	config := started.config
	if !known || (status == StatusOK && !config.GetOutputs().GetNoMask()) != (message.GetMask() != nil) {
		return nil, protocolError("the answer to frame %d makes no sense: status %s", message.GetFrameId(), status)
	}
	return &Result{
		FrameID:       message.GetFrameId(),
		Frame:         sent.frame,
		Status:        status,
		DropReason:    DropReason(message.GetDropReason()),
		InvalidReason: InvalidReason(message.GetInvalidReason()),
		Detail:        message.GetDetail(),
		Latency:       latency,
		Times:         timesFromProto(message.GetTimes()),
		Reuse:         reuseFromProto(message.GetReuse()),
		Bins:          message.GetBins(),
		Model:         started.Model,
		Mask:          maskFromProto(message.GetMask()),
		ConfidenceMap: confidenceFromProto(message.GetConfidence()),
		Areas:         areasFromProto(message.GetAreas()),
		Instances:     instancesFromProto(message.GetInstances()),
		Regions:       regionAreasFromProto(message.GetRegions()),
		Events:        eventsFromProto(message.GetEvents()),
		outputSize:    sizeFromProto(config.GetOutputSize()),
	}, nil
}

func timesFromProto(times *pb.StageTimes) StageTimes {
	us := func(value uint64) time.Duration { return time.Duration(value) * time.Microsecond }
	return StageTimes{
		Total:    us(times.GetTotalUs()),
		Queue:    us(times.GetQueueUs()),
		Decode:   us(times.GetDecodeUs()),
		Engine:   us(times.GetEngineUs()),
		Motion:   us(times.GetMotionUs()),
		Gate:     us(times.GetGateUs()),
		Tables:   us(times.GetTablesUs()),
		Backbone: us(times.GetBackboneUs()),
		Head:     us(times.GetHeadUs()),
		Encode:   us(times.GetEncodeUs()),
	}
}

func reuseFromProto(reuse *pb.ReuseStats) *ReuseStats {
	if reuse == nil {
		return nil
	}
	return &ReuseStats{
		KeyFrame:       reuse.GetKeyFrame(),
		UnitsComputed:  int(reuse.GetUnitsComputed()),
		UnitsDropped:   int(reuse.GetUnitsDropped()),
		MeanDistortion: float64(reuse.GetMeanDistortion()),
		BlockBudget:    float64(reuse.GetBlockBudget()),
		MACs:           reuse.GetMacs(),
		Agreement:      float64(reuse.GetAgreement()),
		HasAgreement:   reuse.Agreement != nil,
		BinsRefreshed:  int(reuse.GetBinsRefreshed()),
		RefreshChanged: float64(reuse.GetRefreshChanged()),

		FramesSinceSource: int(reuse.GetFramesSinceSource()),
		FramesUntilSource: int(reuse.GetFramesUntilSource()),
		FutureShare:       float64(reuse.GetFutureShare()),
	}
}
