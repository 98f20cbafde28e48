package tilestream

import (
	pb "github.com/tilestream/tilestream/client/go/tilestream/v1"
)

// maxReplayBytes is what is kept. Of a longer group of pictures nothing is, and a new session waits for the next key
// unit.
const maxReplayBytes = 64 << 20

// replay holds the access units that a new decoder would need: those since the key unit before the oldest open frame.
// For JPEG it keeps nothing.
type replay struct {
	codec FrameCodec
	kept  queue[*pb.Frame]
	keys  queue[uint64] // ids of the key units among them
	bytes int
}

// sent keeps a unit. oldest: the oldest frame without an answer.
func (r *replay) sent(frame *pb.Frame, oldest uint64) {
	if r.codec != CodecH264 && r.codec != CodecH265 {
		return
	}
	if isKeyUnit(r.codec, frame.Data) {
		r.keys.push(frame.FrameId)
	}
	r.kept.push(frame)
	r.bytes += len(frame.Data)
	r.forgetAnswered(oldest)
	if r.bytes > maxReplayBytes {
		r.kept, r.keys, r.bytes = queue[*pb.Frame]{}, queue[uint64]{}, 0
	}
}

// before is what to send again for the decoder alone: all from a key unit on but what the server lacks and gets
// anyway. oldest: as of sent, or the next frame where all have their answers.
func (r *replay) before(oldest uint64, lacks map[uint64]bool) []*pb.StreamSegmentRequest {
	r.forgetAnswered(oldest)
	var again []*pb.StreamSegmentRequest
	for _, frame := range r.kept.all() {
		if r.keys.len() > 0 && frame.FrameId >= r.keys.first() && !lacks[frame.FrameId] {
			again = append(again, frameRequest(&pb.Frame{FrameId: frame.FrameId, Data: frame.Data, DecodeOnly: true}))
		}
	}
	return again
}

func (r *replay) forgetAnswered(oldest uint64) {
	for r.keys.len() > 1 && r.keys.all()[1] <= oldest {
		r.keys.pop()
		for r.kept.first().FrameId < r.keys.first() {
			r.bytes -= len(r.kept.pop().Data)
		}
	}
}

func frameRequest(frame *pb.Frame) *pb.StreamSegmentRequest {
	return &pb.StreamSegmentRequest{Request: &pb.StreamSegmentRequest_Frame{Frame: frame}}
}
