package tilestream

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"
)

// unit makes an access unit of NAL units.
func unit(nals ...[]byte) []byte { return bytes.Join(append([][]byte{nil}, nals...), startCode) }

func TestKeyUnitsAreFound(t *testing.T) {
	recovery, other := []byte{6, 6, 1, 0xC4, 0x80}, []byte{6, 5, 2, 1, 6, 0x80}
	for name, one := range map[string]struct {
		codec FrameCodec
		data  []byte
		key   bool
	}{
		"IDR":                        {CodecH264, unit([]byte{0x67, 1}, []byte{0x68, 1}, []byte{0x65, 0x88}), true},
		"slice":                      {CodecH264, unit([]byte{0x41, 0x9A}), false},
		"recovery point":             {CodecH264, unit(recovery, []byte{0x41, 0x9A}), true},
		"recovery after another":     {CodecH264, unit([]byte{6, 5, 1, 9, 6, 1, 0xC4, 0x80}, []byte{0x41, 0x9A}), true},
		"other message":              {CodecH264, unit(other, []byte{0x41, 0x9A}), false},
		"parameter sets alone":       {CodecH264, unit([]byte{0x67, 1}), false},
		"random access":              {CodecH265, unit([]byte{40, 1, 9}, []byte{42, 1, 0x80}), true},
		"trailing picture":           {CodecH265, unit([]byte{2, 1, 0x80}), false},
		"nothing":                    {CodecH264, nil, false},
		"a start code and no header": {CodecH264, []byte{0, 0, 1}, false},
	} {
		if isKeyUnit(one.codec, one.data) != one.key {
			t.Errorf("%s: key unit is %v", name, !one.key)
		}
	}
}

func TestAnnexBIsCutIntoAccessUnits(t *testing.T) {
	units := map[FrameCodec][][]byte{
		CodecH264: {
			unit([]byte{0x67, 1}, []byte{0x68, 1}, []byte{0x65, 0x88, 3}, []byte{0x65, 0x08, 3}),
			unit([]byte{0x41, 0x9A, 1}),
			unit([]byte{9, 0x30}, []byte{0x41, 0x9A, 2}, []byte{0x41, 0x1A, 2}),
		},
		CodecH265: {
			unit([]byte{64, 1, 1}, []byte{66, 1, 1}, []byte{68, 1, 1}, []byte{38, 1, 0x80}, []byte{38, 1, 0x10}),
			unit([]byte{2, 1, 0x80}, []byte{80, 1, 5}),
			unit([]byte{2, 1, 0x80}),
		},
	}
	for codec, wanted := range units {
		stream := append([]byte{0}, bytes.Join(wanted, []byte{0})...) // a zero more before some start codes
		for _, source := range []io.Reader{bytes.NewReader(stream), iotest.OneByteReader(bytes.NewReader(stream))} {
			var found [][]byte
			for frame, err := range AnnexBFrames(source, codec) {
				if err != nil {
					t.Fatal(err)
				}
				found = append(found, frame.Data)
			}
			if len(found) != len(wanted) {
				t.Fatalf("%s: %d units: %x", codec, len(found), found)
			}
			for index := range wanted {
				if !bytes.Equal(found[index], wanted[index]) {
					t.Errorf("%s: unit %d is %x", codec, index, found[index])
				}
			}
		}
	}
}

func TestAStreamWithoutAccessUnitsIsAnError(t *testing.T) {
	for _, source := range []io.Reader{bytes.NewReader(nil), bytes.NewReader([]byte("no video")), iotest.ErrReader(io.ErrClosedPipe)} {
		for _, err := range AnnexBFrames(source, CodecH264) {
			var wrong *SourceError
			if !errors.As(err, &wrong) {
				t.Error(err)
			}
		}
	}
}

func FuzzAnnexB(f *testing.F) {
	f.Add(unit([]byte{0x67, 1}, []byte{0x65, 0x88}))
	f.Add([]byte{0, 0, 1, 6, 6, 0xFF, 0xFF})
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, codec := range []FrameCodec{CodecH264, CodecH265} {
			isKeyUnit(codec, data)
			for frame, err := range AnnexBFrames(bytes.NewReader(data), codec) {
				if err == nil && len(frame.Data) == 0 {
					t.Error("an empty unit")
				}
			}
		}
	})
}
