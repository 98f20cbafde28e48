package tilestream

import (
	"bytes"
	"iter"
)

var startCode = []byte{0, 0, 1}

// NAL units of H.264 and H.265, by the kind in their headers.
const (
	h264Slice, h264IDR, h264SEI  = 1, 5, 6
	h265LastSlice                = 31
	h265FirstIntra, h265EndIntra = 16, 24 // random access points
	recoveryPoint                = 6      // of the messages of an SEI unit
)

// isKeyUnit: decoding can begin with this access unit (Annex B).
func isKeyUnit(codec FrameCodec, data []byte) bool {
	recovery := false
	for unit := range nalUnits(data) {
		kind := nalKind(codec, unit)
		switch {
		case codec == CodecH265 && kind <= h265LastSlice:
			return kind >= h265FirstIntra && kind < h265EndIntra
		case codec == CodecH265:
		case kind == h264SEI:
			recovery = recovery || tellsRecoveryPoint(unit[1:])
		case kind == h264Slice || kind == h264IDR:
			return kind == h264IDR || recovery
		}
	}
	return false
}

func nalKind(codec FrameCodec, unit []byte) int {
	if codec == CodecH265 {
		return int(unit[0]>>1) & 63
	}
	return int(unit[0]) & 31
}

// nalUnits are the NAL units of an access unit, without start codes; none is empty.
func nalUnits(data []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		_, rest, found := bytes.Cut(data, startCode)
		for found {
			var unit []byte
			unit, rest, found = bytes.Cut(rest, startCode)
			if len(unit) > 0 && !yield(unit) {
				return
			}
		}
	}
}

// tellsRecoveryPoint: one of the messages says that decoding may begin here.
func tellsRecoveryPoint(messages []byte) bool {
	for at := 0; at+2 < len(messages); {
		kind := messages[at]
		if kind == recoveryPoint {
			return true
		}
		at++
		size := 0
		for at < len(messages) && messages[at] == 0xFF {
			size += 0xFF
			at++
		}
		if at < len(messages) {
			size += int(messages[at])
		}
		at += 1 + size
	}
	return false
}
