// Package masks decodes what labels travel as: plain bytes in, one byte per pixel out, row by row without padding.
// The pixels go into buffer where it has room for them.
package masks

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"image"
	"image/png"
)

// maxPixels bounds what an answer may make this process allocate: twice the largest frame that a server takes.
const maxPixels = 1 << 27

const pngDepthAt = 24 // the byte of a PNG that has its bit depth: behind the signature, IHDR's header and two sizes

func checkSize(width, height int) error {
	if width < 0 || height < 0 || (height > 0 && width > maxPixels/height) {
		return fmt.Errorf("a mask of %dx%d pixels is too large", width, height)
	}
	return nil
}

// DecodePNG decodes a palette PNG (any depth) or a gray one of 8 bits.
func DecodePNG(data []byte, width, height int, buffer []uint8) ([]uint8, error) {
	if err := checkSize(width, height); err != nil {
		return nil, err
	}
	config, err := png.DecodeConfig(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("the PNG cannot be decoded: %v", err)
	}
	if config.Width != width || config.Height != height {
		return nil, fmt.Errorf("the PNG is %dx%d, announced were %dx%d", config.Width, config.Height, width, height)
	}
	decoded, err := png.Decode(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("the PNG cannot be decoded: %v", err)
	}
	var pix []uint8
	stride := 0
	switch decoded := decoded.(type) {
	case *image.Paletted:
		pix, stride = decoded.Pix, decoded.Stride
	case *image.Gray:
		if data[pngDepthAt] != 8 { // fewer bits were spread over the range
			return nil, fmt.Errorf("the gray PNG has %d bits, not 8", data[pngDepthAt])
		}
		pix, stride = decoded.Pix, decoded.Stride
	default:
		return nil, fmt.Errorf("the PNG is neither palette nor 8-bit gray")
	}
	if stride == width && buffer == nil {
		return pix, nil
	}
	out := room(buffer, width*height)
	for y := range height {
		copy(out[y*width:(y+1)*width], pix[y*stride:])
	}
	return out, nil
}

// DecodeRLE decodes LEB128 pairs label, length, ...
func DecodeRLE(data []byte, width, height int, buffer []uint8) ([]uint8, error) {
	if err := checkSize(width, height); err != nil {
		return nil, err
	}
	pixels := width * height
	if err := checkRuns(data, uint64(pixels)); err != nil { // before anything of that size is allocated
		return nil, err
	}
	out := room(buffer, pixels)
	left := out
	for len(data) > 0 {
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
			return fmt.Errorf("the run lengths end within a number, or one is too large")
		}
		length, k := binary.Uvarint(data[n:])
		if k <= 0 {
			return fmt.Errorf("the run lengths end within a pair, or one is too large")
		}
		if label > 255 || length < 1 {
			return fmt.Errorf("a run has a label above 255 or no pixels")
		}
		if length > pixels-sum {
			return fmt.Errorf("the runs have more than %d pixels", pixels)
		}
		sum += length
		data = data[n+k:]
	}
	if sum != pixels {
		return fmt.Errorf("the runs have %d of %d pixels", sum, pixels)
	}
	return nil
}

// DecodeRaw copies one byte per pixel.
func DecodeRaw(data []byte, width, height int, buffer []uint8) ([]uint8, error) {
	if err := checkSize(width, height); err != nil {
		return nil, err
	}
	if len(data) != width*height {
		return nil, fmt.Errorf("%d bytes are not a mask of %dx%d pixels", len(data), width, height)
	}
	return append(room(buffer, len(data))[:0], data...), nil
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
