package tilestream

import (
	"bytes"
	"encoding/binary"
	"image"
	"image/png"

	pb "github.com/tilestream/tilestream/client/go/tilestream/v1"
)

// maxPixels bounds what an answer may make this process allocate: twice the largest frame that a server takes.
const maxPixels = 1 << 27

const pngDepthAt = 24 // the byte of a PNG that has its bit depth: behind the signature, IHDR's header and two sizes

// Labels are one byte per pixel, row by row without padding.
type Labels struct {
	Width, Height int
	Pix           []uint8
}

// At is the value at column x and row y, from the top left. It panics outside.
func (l *Labels) At(x, y int) uint8 {
	if x < 0 || x >= l.Width || y < 0 || y >= l.Height {
		panic("tilestream: a pixel outside of the labels")
	}
	return l.Pix[y*l.Width+x]
}

// EncodedMask is a map of bytes as it travelled.
type EncodedMask struct {
	Width, Height int
	Encoding      MaskEncoding
	Data          []byte
}

// Decode gives the values; a *MaskError where the data is not what it says. buffer is used for the pixels where it
// has room for them; nil: new memory is.
func (m *EncodedMask) Decode(buffer []uint8) (*Labels, error) {
	if m.Width < 0 || m.Height < 0 || (m.Height > 0 && m.Width > maxPixels/m.Height) {
		return nil, maskError("a mask of %dx%d pixels is too large", m.Width, m.Height)
	}
	var pix []uint8
	var err error
	switch m.Encoding {
	case EncodingPNG:
		pix, err = m.decodePNG(buffer)
	case EncodingRLE:
		pix, err = m.decodeRLE(buffer)
	case EncodingRaw:
		pix, err = m.decodeRaw(buffer)
	default:
		err = maskError("masks of encoding %s need a newer client", m.Encoding)
	}
	if err != nil {
		return nil, err
	}
	return &Labels{m.Width, m.Height, pix}, nil
}

func (m *EncodedMask) decodePNG(buffer []uint8) ([]uint8, error) {
	config, err := png.DecodeConfig(bytes.NewReader(m.Data))
	if err != nil {
		return nil, maskError("the PNG cannot be decoded: %v", err)
	}
	if config.Width != m.Width || config.Height != m.Height {
		return nil, maskError("the PNG is %dx%d, announced were %dx%d", config.Width, config.Height, m.Width, m.Height)
	}
	decoded, err := png.Decode(bytes.NewReader(m.Data))
	if err != nil {
		return nil, maskError("the PNG cannot be decoded: %v", err)
	}
	var pix []uint8
	stride := 0
	switch decoded := decoded.(type) {
	case *image.Paletted:
		pix, stride = decoded.Pix, decoded.Stride
	case *image.Gray:
		if m.Data[pngDepthAt] != 8 { // fewer bits were spread over the range
			return nil, maskError("the gray PNG has %d bits, not 8", m.Data[pngDepthAt])
		}
		pix, stride = decoded.Pix, decoded.Stride
	default:
		return nil, maskError("the PNG is neither palette nor 8-bit gray")
	}
	if stride == m.Width && buffer == nil {
		return pix, nil
	}
	out := room(buffer, m.Width*m.Height)
	for y := range m.Height {
		copy(out[y*m.Width:(y+1)*m.Width], pix[y*stride:])
	}
	return out, nil
}

func (m *EncodedMask) decodeRLE(buffer []uint8) ([]uint8, error) {
	pixels := m.Width * m.Height
	if err := checkRuns(m.Data, uint64(pixels)); err != nil { // before anything of that size is allocated
		return nil, err
	}
	out := room(buffer, pixels)
	left := out
	for data := m.Data; len(data) > 0; {
		label, n := binary.Uvarint(data)
		length, k := binary.Uvarint(data[n:])
		data = data[n+k:]
		fill(left[:length], uint8(label))
		left = left[length:]
	}
	return out, nil
}

// checkRuns makes sure that the runs are well formed and add up.
func checkRuns(data []byte, pixels uint64) error {
	sum := uint64(0)
	for len(data) > 0 {
		label, n := binary.Uvarint(data)
		if n <= 0 {
			return maskError("the run lengths end within a number, or one is too large")
		}
		length, k := binary.Uvarint(data[n:])
		if k <= 0 {
			return maskError("the run lengths end within a pair, or one is too large")
		}
		if label > 255 || length < 1 {
			return maskError("a run has a label above 255 or no pixels")
		}
		if length > pixels-sum {
			return maskError("the runs have more than %d pixels", pixels)
		}
		sum += length
		data = data[n+k:]
	}
	if sum != pixels {
		return maskError("the runs have %d of %d pixels", sum, pixels)
	}
	return nil
}

func (m *EncodedMask) decodeRaw(buffer []uint8) ([]uint8, error) {
	if len(m.Data) != m.Width*m.Height {
		return nil, maskError("%d bytes are not a mask of %dx%d pixels", len(m.Data), m.Width, m.Height)
	}
	return append(room(buffer, len(m.Data))[:0], m.Data...), nil
}

// fill sets all of run to label; doubling copies are several times as fast as a loop on long runs.
func fill(run []uint8, label uint8) {
	run[0] = label
	for done := 1; done < len(run); done *= 2 {
		copy(run[done:], run[:done])
	}
}

func room(buffer []uint8, pixels int) []uint8 {
	if cap(buffer) >= pixels {
		return buffer[:pixels]
	}
	return make([]uint8, pixels)
}

func maskFromProto(mask *pb.Mask) *EncodedMask {
	if mask == nil {
		return nil
	}
	return &EncodedMask{int(mask.GetWidth()), int(mask.GetHeight()), MaskEncoding(mask.GetEncoding()), mask.GetData()}
}

func confidenceFromProto(mask *pb.ConfidenceMap) *EncodedMask {
	if mask == nil {
		return nil
	}
	return &EncodedMask{int(mask.GetWidth()), int(mask.GetHeight()), MaskEncoding(mask.GetEncoding()), mask.GetData()}
}
