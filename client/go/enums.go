package tilestream

import (
	"strings"

	pb "github.com/tilestream/tilestream/client/go/tilestream/v1"
)

// FrameStatus is what became of a frame.
type FrameStatus int32

const (
	StatusOK      = FrameStatus(pb.FrameStatus_FRAME_STATUS_OK)      // there are labels: a mask, unless Outputs.NoMask
	StatusDropped = FrameStatus(pb.FrameStatus_FRAME_STATUS_DROPPED) // the server did not compute it; the frame may be fine
	StatusInvalid = FrameStatus(pb.FrameStatus_FRAME_STATUS_INVALID) // it cannot be used; sending it again will not help
)

// String is one word, such as "ok".
func (s FrameStatus) String() string { return word(pb.FrameStatus(s).String(), "FRAME_STATUS_") }

// DropReason is why a frame was not computed.
type DropReason int32

const (
	NotDropped      = DropReason(pb.DropReason_DROP_REASON_UNSPECIFIED)
	DropQueueFull   = DropReason(pb.DropReason_DROP_REASON_QUEUE_FULL)   // newer frames needed its place
	DropSuperseded  = DropReason(pb.DropReason_DROP_REASON_SUPERSEDED)   // a newer frame arrived
	DropOverload    = DropReason(pb.DropReason_DROP_REASON_OVERLOAD)     // the server has more work than it can do in time
	DropEngineError = DropReason(pb.DropReason_DROP_REASON_ENGINE_ERROR) // the computation of this frame failed
	DropShutdown    = DropReason(pb.DropReason_DROP_REASON_SHUTDOWN)     // the server shuts down
	DropQuota       = DropReason(pb.DropReason_DROP_REASON_QUOTA)        // more frames a second than this identity may send
)

// String is one word, such as "queue_full".
func (r DropReason) String() string { return word(pb.DropReason(r).String(), "DROP_REASON_") }

// InvalidReason is why a frame cannot be used.
type InvalidReason int32

const (
	NotInvalid           = InvalidReason(pb.InvalidReason_INVALID_REASON_UNSPECIFIED)
	InvalidEmpty         = InvalidReason(pb.InvalidReason_INVALID_REASON_EMPTY)
	InvalidTooManyBytes  = InvalidReason(pb.InvalidReason_INVALID_REASON_TOO_MANY_BYTES)
	InvalidTooManyPixels = InvalidReason(pb.InvalidReason_INVALID_REASON_TOO_MANY_PIXELS)
	InvalidNotJPEG       = InvalidReason(pb.InvalidReason_INVALID_REASON_NOT_JPEG)
	InvalidTruncated     = InvalidReason(pb.InvalidReason_INVALID_REASON_TRUNCATED)
	InvalidCorrupt       = InvalidReason(pb.InvalidReason_INVALID_REASON_CORRUPT)
	InvalidUnsupported   = InvalidReason(pb.InvalidReason_INVALID_REASON_UNSUPPORTED)
	InvalidNoKeyUnit     = InvalidReason(pb.InvalidReason_INVALID_REASON_NO_KEY_UNIT)
	InvalidTooCostly     = InvalidReason(pb.InvalidReason_INVALID_REASON_TOO_COSTLY)
)

// String is one word, such as "not_jpeg".
func (r InvalidReason) String() string { return word(pb.InvalidReason(r).String(), "INVALID_REASON_") }

// FrameCodec is how frames are encoded.
type FrameCodec int32

const (
	CodecDefault = FrameCodec(pb.FrameCodec_FRAME_CODEC_UNSPECIFIED) // JPEG
	CodecJPEG    = FrameCodec(pb.FrameCodec_FRAME_CODEC_JPEG)
	CodecH264    = FrameCodec(pb.FrameCodec_FRAME_CODEC_H264) // one access unit (Annex B) per frame
	CodecH265    = FrameCodec(pb.FrameCodec_FRAME_CODEC_H265) // likewise
)

// String is one word, such as "h264".
func (c FrameCodec) String() string { return word(pb.FrameCodec(c).String(), "FRAME_CODEC_") }

// MaskEncoding is how masks travel.
type MaskEncoding int32

const (
	EncodingDefault = MaskEncoding(pb.MaskEncoding_MASK_ENCODING_UNSPECIFIED) // PNG
	EncodingPNG     = MaskEncoding(pb.MaskEncoding_MASK_ENCODING_PNG)         // palette PNG: small, any viewer shows it in colours
	EncodingRLE     = MaskEncoding(pb.MaskEncoding_MASK_ENCODING_RLE)         // run lengths: cheapest where regions are large
	EncodingRaw     = MaskEncoding(pb.MaskEncoding_MASK_ENCODING_RAW)         // one byte per pixel
)

// String is one word, such as "png".
func (e MaskEncoding) String() string { return word(pb.MaskEncoding(e).String(), "MASK_ENCODING_") }

// QueuePolicy is what the server does with a frame that arrives while FramesInFlight are unanswered.
type QueuePolicy int32

const (
	PolicyDefault    = QueuePolicy(pb.QueuePolicy_QUEUE_POLICY_UNSPECIFIED) // wait
	PolicyWait       = QueuePolicy(pb.QueuePolicy_QUEUE_POLICY_WAIT)        // nothing is dropped, Send is slowed down: for files
	PolicyDropOldest = QueuePolicy(pb.QueuePolicy_QUEUE_POLICY_DROP_OLDEST) // the oldest waiting frame is dropped: for cameras
	PolicyLatestOnly = QueuePolicy(pb.QueuePolicy_QUEUE_POLICY_LATEST_ONLY) // only the newest frame waits: lowest latency
)

// String is one word, such as "drop_oldest".
func (p QueuePolicy) String() string { return word(pb.QueuePolicy(p).String(), "QUEUE_POLICY_") }

// DrainReason is why a server ends a stream.
type DrainReason int32

const (
	DrainShutdown = DrainReason(pb.DrainReason_DRAIN_REASON_SHUTDOWN) // the server shuts down
	DrainMaxAge   = DrainReason(pb.DrainReason_DRAIN_REASON_MAX_AGE)  // the session is too old
)

// String is one word, such as "shutdown".
func (r DrainReason) String() string { return word(pb.DrainReason(r).String(), "DRAIN_REASON_") }

// EventKind is why an event is told.
type EventKind int32

const (
	EventBegan = EventKind(pb.EventKind_EVENT_KIND_BEGAN) // the rule holds from this frame on
	EventEnded = EventKind(pb.EventKind_EVENT_KIND_ENDED) // the rule does not hold any more
)

// String is one word, such as "began".
func (k EventKind) String() string { return word(pb.EventKind(k).String(), "EVENT_KIND_") }

// word is a generated enum's name as a lower-case word; its number where this release does not know it.
func word(name, prefix string) string { return strings.ToLower(strings.TrimPrefix(name, prefix)) }
