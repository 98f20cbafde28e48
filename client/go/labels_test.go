package tilestream

import (
	"bytes"
	"errors"
	"image"
	"image/color"
	"image/png"
	"math/rand/v2"
	"slices"
	"testing"
)

func everyEncoding(labels []uint8, width int) []EncodedMask {
	height := len(labels) / width
	return []EncodedMask{
		{width, height, EncodingPNG, encodePNG(labels, width)},
		{width, height, EncodingRLE, encodeRLE(labels)},
		{width, height, EncodingRaw, labels},
	}
}

// randomLabels are runs of random lengths.
func randomLabels(random *rand.Rand, count, classes int) []uint8 {
	labels := make([]uint8, count)
	for at := 0; at < count; {
		label, end := uint8(random.IntN(classes)), min(count, at+1+random.IntN(300))
		for ; at < end; at++ {
			labels[at] = label
		}
	}
	return labels
}

func TestMasksOfEveryEncoding(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, size := range []image.Point{{1, 1}, {7, 5}, {33, 20}, {640, 360}} {
		for _, classes := range []int{2, 11, 16, 256} {
			labels := randomLabels(random, size.X*size.Y, classes)
			for _, mask := range everyEncoding(labels, size.X) {
				for _, buffer := range [][]uint8{nil, make([]uint8, 1), make([]uint8, size.X*size.Y+5)} {
					got, err := mask.Decode(buffer)
					if err != nil || !slices.Equal(got.Pix, labels) {
						t.Fatalf("%s of %v, %d classes: %v", mask.Encoding, size, classes, err)
					}
					if cap(buffer) > len(labels) && &got.Pix[0] != &buffer[0] {
						t.Errorf("%s did not use the buffer", mask.Encoding)
					}
					if x, y := size.X-1, size.Y/2; got.At(x, y) != labels[y*size.X+x] {
						t.Error(x, y)
					}
				}
			}
		}
	}
}

func TestMasksThatAreDamaged(t *testing.T) {
	labels := randomLabels(rand.New(rand.NewPCG(1, 2)), 40*30, 11)
	for _, mask := range everyEncoding(labels, 40) {
		for _, wrong := range []EncodedMask{
			{41, 30, mask.Encoding, mask.Data},
			{40, 29, mask.Encoding, mask.Data},
			{40, 30, mask.Encoding, mask.Data[:len(mask.Data)/2]},
			{40, 30, mask.Encoding, nil},
			{1 << 31, 1 << 31, mask.Encoding, mask.Data},
			{40, 30, 9, mask.Data},
		} {
			var problem *MaskError
			if _, err := wrong.Decode(nil); !errors.As(err, &problem) {
				t.Errorf("%s %dx%d, %d bytes: %v", wrong.Encoding, wrong.Width, wrong.Height, len(wrong.Data), err)
			}
		}
	}
	forged := [][]byte{
		{0, 0}, {0, 4, 0}, {0x80}, {0, 0x80}, {0x80, 2, 4}, {0, 3}, {0, 5},
		{0, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1, 0, 5}, // wraps around to 4
	}
	for _, data := range forged {
		if _, err := (&EncodedMask{2, 2, EncodingRLE, data}).Decode(nil); err == nil {
			t.Errorf("%v was decoded", data)
		}
	}
}

func TestPNGsOfOtherKinds(t *testing.T) {
	encode := func(picture image.Image) []byte {
		var out bytes.Buffer
		if err := png.Encode(&out, picture); err != nil {
			t.Fatal(err)
		}
		return out.Bytes()
	}
	gray := image.NewGray(image.Rect(0, 0, 3, 2))
	gray.Pix = []uint8{0, 1, 2, 3, 4, 255}
	if got, err := (&EncodedMask{3, 2, EncodingPNG, encode(gray)}).Decode(nil); err != nil || !slices.Equal(got.Pix, gray.Pix) {
		t.Error(got, err)
	}
	if _, err := (&EncodedMask{3, 2, EncodingPNG, encode(image.NewRGBA(gray.Rect))}).Decode(nil); err == nil {
		t.Error("a picture in colours was taken for labels")
	}
}

func TestPaletted(t *testing.T) {
	client := serve(t, &fakeServer{}, nil)
	for result, err := range client.Stream(t.Context(), pairs(Frame{Data: []byte("x")}), nil) {
		if err != nil {
			t.Fatal(err)
		}
		picture, err := result.Paletted()
		if err != nil || picture.Bounds() != image.Rect(0, 0, fakeWidth, fakeHeight) {
			t.Fatal(picture, err)
		}
		if got := picture.At(2, 0); got != (color.RGBA{0x46, 0x82, 0xB4, 255}) {
			t.Error(got)
		}
	}
}

func pairs(frames ...Frame) func(func(Frame, error) bool) {
	return func(yield func(Frame, error) bool) {
		for _, frame := range frames {
			if !yield(frame, nil) {
				return
			}
		}
	}
}
