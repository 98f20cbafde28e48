package masks

import (
	"bytes"
	"image"
	"image/color"
	"image/png"
	"testing"
)

// The decoders' tests are beside EncodedMask; here they are fuzzed, in a package that is quick to instrument.

type decoder func(data []byte, width, height int, buffer []uint8) ([]uint8, error)

func fuzz(f *testing.F, decode decoder, seeds ...[]byte) {
	for _, seed := range seeds {
		f.Add(3, 2, seed)
	}
	f.Fuzz(func(t *testing.T, width, height int, data []byte) {
		if width > 4096 || height > 4096 {
			return // what is allowed, but takes too long
		}
		got, err := decode(data, width, height, nil)
		if err == nil && len(got) != width*height {
			t.Fatalf("%d pixels of %dx%d", len(got), width, height)
		}
		if err == nil {
			again, err := decode(data, width, height, make([]uint8, width*height))
			if err != nil || !bytes.Equal(got, again) {
				t.Fatal("a buffer makes a difference", err)
			}
		}
	})
}

func FuzzRLE(f *testing.F) {
	fuzz(f, DecodeRLE, []byte{0, 2, 1, 1, 2, 3}, []byte{0, 0x86, 0}, []byte{1, 6})
}

func FuzzPNG(f *testing.F) {
	palette := color.Palette{color.Black, color.White, color.Gray{9}}
	for len(palette) < 20 { // of more than 16 colours a PNG has 8 bits
		f.Add(3, 2, encode(f, &image.Paletted{Pix: []uint8{0, 0, 1, 2, 2, 2}, Stride: 3, Rect: image.Rect(0, 0, 3, 2), Palette: palette}))
		palette = append(palette, palette...)
	}
	fuzz(f, DecodePNG, encode(f, image.NewGray(image.Rect(0, 0, 3, 2))), encode(f, image.NewRGBA(image.Rect(0, 0, 3, 2))))
}

func encode(f *testing.F, picture image.Image) []byte {
	var out bytes.Buffer
	if err := png.Encode(&out, picture); err != nil {
		f.Fatal(err)
	}
	return out.Bytes()
}
