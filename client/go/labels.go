package tilestream

import (
	"github.com/tilestream/tilestream/client/go/internal/masks"
	pb "github.com/tilestream/tilestream/client/go/tilestream/v1"
)

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
	var pix []uint8
	var err error
	switch m.Encoding {
	case EncodingPNG:
		pix, err = masks.DecodePNG(m.Data, m.Width, m.Height, buffer)
	case EncodingRLE:
		pix, err = masks.DecodeRLE(m.Data, m.Width, m.Height, buffer)
	case EncodingRaw:
		pix, err = masks.DecodeRaw(m.Data, m.Width, m.Height, buffer)
	default:
		return nil, maskError("masks of encoding %s need a newer client", m.Encoding)
	}
	if err != nil {
		return nil, maskError("%v", err)
	}
	return &Labels{m.Width, m.Height, pix}, nil
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
