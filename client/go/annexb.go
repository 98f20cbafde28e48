package tilestream

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
)

const (
	maxUnitBytes  = 64 << 20 // more is no access unit of a camera, and memory has to be bounded
	unitReadBytes = 64 << 10
)

// AnnexBFrames cuts a stream of H.264 or H.265 in Annex B, as `ffmpeg -c copy -f h264` (or hevc) writes, into its access
// units. Units are passed on byte for byte, also damaged ones: the server says of each what is wrong with it. A
// *SourceError where reading fails, or where there is no unit at all.
func AnnexBFrames(source io.Reader, codec FrameCodec) iter.Seq2[Frame, error] {
	return func(yield func(Frame, error) bool) {
		var unit []byte
		count, hasPicture := 0, false
		give := func() bool {
			frame := Frame{Data: unit, Name: fmt.Sprintf("%06d", count)}
			unit, hasPicture = nil, false
			count++
			return yield(frame, nil)
		}
		for nal, err := range readNALUnits(source) {
			if err != nil {
				yield(Frame{}, sourceError(err, "cannot read unit %d: %v", count, err))
				return
			}
			picture, begins := nalRole(codec, nal)
			if hasPicture && begins && !give() {
				return
			}
			hasPicture = hasPicture || picture
			unit = append(append(unit, startCode...), nal...)
			if len(unit) > maxUnitBytes {
				yield(Frame{}, sourceError(nil, "unit %d has more than %d bytes", count, maxUnitBytes))
				return
			}
		}
		if hasPicture {
			give()
		} else if count == 0 {
			yield(Frame{}, sourceError(nil, "there are no access units of %s in the stream", codec))
		}
	}
}

// nalRole: whether a NAL unit is a part of a picture, and whether an access unit begins with it if the one before has a
// picture.
func nalRole(codec FrameCodec, nal []byte) (picture, begins bool) {
	kind := nalKind(codec, nal)
	if codec == CodecH265 {
		if kind <= h265LastSlice {
			return true, len(nal) > 2 && nal[2]&0x80 != 0 // the first slice of a picture
		}
		return false, kind <= 35 || kind == 39 || (kind >= 41 && kind <= 44) || kind >= 48
	}
	if kind == h264Slice || kind == h264IDR {
		return true, len(nal) > 1 && nal[1]&0x80 != 0 // first_mb_in_slice is 0
	}
	return false, (kind >= 6 && kind <= 9) || (kind >= 14 && kind <= 18)
}

// readNALUnits are the NAL units of a stream, without start codes and the zeros between; none is empty.
func readNALUnits(source io.Reader) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		var buffer []byte
		searched, begun := 0, false
		chunk := make([]byte, unitReadBytes)
		for {
			n, err := source.Read(chunk)
			buffer = append(buffer, chunk[:n]...)
			for {
				at := bytes.Index(buffer[searched:], startCode)
				if at < 0 {
					searched = max(0, len(buffer)-len(startCode)+1)
					break
				}
				nal := bytes.TrimRight(buffer[:searched+at], "\x00")
				if begun && len(nal) > 0 && !yield(bytes.Clone(nal), nil) {
					return
				}
				buffer, searched, begun = buffer[searched+at+len(startCode):], 0, true
			}
			switch {
			case errors.Is(err, io.EOF):
				if nal := bytes.TrimRight(buffer, "\x00"); begun && len(nal) > 0 {
					yield(nal, nil)
				}
				return
			case err == nil && len(buffer) > maxUnitBytes:
				err = fmt.Errorf("a part of it has more than %d bytes", maxUnitBytes)
			}
			if err != nil {
				yield(nil, err)
				return
			}
		}
	}
}
