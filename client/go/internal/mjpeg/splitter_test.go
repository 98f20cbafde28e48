package mjpeg

import (
	"bytes"
	"errors"
	"image"
	"image/jpeg"
	"io"
	"slices"
	"testing"
)

// The splitter's tests are beside MJPEGFrames; here it is fuzzed, in a package that is quick to instrument.
func FuzzSplitter(f *testing.F) {
	var encoded bytes.Buffer
	if err := jpeg.Encode(&encoded, image.NewGray(image.Rect(0, 0, 16, 16)), nil); err != nil {
		f.Fatal(err)
	}
	picture := encoded.Bytes()
	f.Add(picture)
	f.Add(slices.Concat(picture, []byte("--frame\r\n"), picture[:2], []byte{0xFF, 0xE1, 0, 6}, picture[:4], picture[2:], picture[:20]))
	f.Fuzz(func(t *testing.T, text []byte) {
		splitter := NewSplitter(bytes.NewReader(text))
		at, count := 0, 0 // the pictures are pieces of the text, in order
		for {
			got, err := splitter.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			found := bytes.Index(text[at:], got)
			if !bytes.HasPrefix(got, []byte{0xFF, 0xD8}) || found < 0 {
				t.Fatalf("%x is no piece of the text", got)
			}
			at += found + len(got)
			count++
		}
		if bytes.Contains(text, []byte{0xFF, 0xD8}) != (count > 0) {
			t.Fatalf("%d pictures", count)
		}
	})
}
