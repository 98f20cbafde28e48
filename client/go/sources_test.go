package tilestream

import (
	"bytes"
	"errors"
	"fmt"
	"image/color"
	"io"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

// pictures reads all; the error that ended them.
func pictures(frames iter.Seq2[Frame, error]) ([]Frame, error) {
	var all []Frame
	for frame, err := range frames {
		if err != nil {
			return all, err
		}
		all = append(all, frame)
	}
	return all, nil
}

func split(source io.Reader) ([][]byte, error) {
	frames, err := pictures(MJPEGFrames(source))
	var all [][]byte
	for _, frame := range frames {
		all = append(all, frame.Data)
	}
	return all, err
}

func equal(a, b [][]byte) bool { return slices.EqualFunc(a, b, bytes.Equal) }

// withThumbnail puts a JPEG into an APP1 segment of another one, as cameras do.
func withThumbnail(picture, thumbnail []byte) []byte {
	size := len(thumbnail) + 2
	segment := append([]byte{0xFF, 0xE1, byte(size >> 8), byte(size)}, thumbnail...)
	return slices.Concat(picture[:2], segment, picture[2:])
}

func TestAFolderWithFilesThatAreNoPictures(t *testing.T) {
	folder := t.TempDir()
	picture := encodeJPEG(16, 16, 90)
	for name, data := range map[string][]byte{"1.jpg": picture, "._1.jpg": []byte("a resource fork"), "2.jpg": nil, "4.jpg": picture} {
		if err := os.WriteFile(filepath.Join(folder, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(filepath.Join(folder, "away"), filepath.Join(folder, "3.jpg")); err != nil {
		t.Fatal(err)
	}
	frames, err := pictures(DirFrames(folder))
	var names []string
	for _, frame := range frames {
		names = append(names, frame.Name)
	}
	if err != nil || !slices.Equal(names, []string{"1.jpg", "2.jpg", "3.jpg", "4.jpg"}) {
		t.Fatal(names, err)
	}
	if len(frames[2].Data) != 0 || !strings.Contains(frames[2].Problem, "cannot read 3.jpg") || frames[1].Problem != "" {
		t.Error(frames[1:3])
	}
}

func TestMJPEGWithTwoStartMarkers(t *testing.T) {
	picture := encodeJPEG(16, 16, 90)
	doubled := slices.Concat(picture[:2], picture)
	if got, err := split(bytes.NewReader(slices.Concat(doubled, doubled, picture))); err != nil || !equal(got, [][]byte{picture, picture, picture}) {
		t.Error(len(got), err)
	}
}

func TestMJPEG(t *testing.T) {
	plain, small := encodeJPEG(64, 48, 90), encodeJPEG(8, 8, 3)
	thumbed := withThumbnail(plain, small)
	all := [][]byte{plain, thumbed, small}
	var multipart bytes.Buffer
	for _, picture := range all {
		fmt.Fprintf(&multipart, "--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%s\r\n", len(picture), picture)
	}
	multipart.WriteString("--frame--\r\n")
	for name, text := range map[string][]byte{
		"bare":      bytes.Join(all, nil),
		"padded":    bytes.Join(all, []byte{0, 0, 0xFF, 0xFF}),
		"multipart": multipart.Bytes(),
	} {
		t.Run(name, func(t *testing.T) {
			for _, reader := range []io.Reader{bytes.NewReader(text), iotest.OneByteReader(bytes.NewReader(text)), iotest.DataErrReader(bytes.NewReader(text))} {
				if got, err := split(reader); err != nil || !equal(got, all) {
					t.Errorf("%d pictures, %v", len(got), err)
				}
			}
		})
	}
}

func TestMJPEGThatIsDamaged(t *testing.T) {
	picture, next := encodeJPEG(64, 48, 90), encodeJPEG(8, 8, 3)
	for cut := 3; cut < len(picture); cut += 7 {
		if got, err := split(bytes.NewReader(picture[:cut])); err != nil || !equal(got, [][]byte{picture[:cut]}) {
			t.Fatalf("cut at %d: %d pictures, %v", cut, len(got), err)
		}
	}
	inScan := picture[:len(picture)-10]
	if got, err := split(bytes.NewReader(slices.Concat(inScan, next))); err != nil || !equal(got, [][]byte{inScan, next}) {
		t.Errorf("%d pictures, %v", len(got), err)
	}
	var source *SourceError
	if _, err := split(strings.NewReader("no picture at all")); !errors.As(err, &source) {
		t.Error(err)
	}
	broken := io.MultiReader(bytes.NewReader(picture), iotest.ErrReader(io.ErrClosedPipe))
	if got, err := split(broken); !errors.As(err, &source) || !errors.Is(err, io.ErrClosedPipe) || len(got) != 1 {
		t.Error(len(got), err)
	}
}

func TestDir(t *testing.T) {
	folder := t.TempDir()
	for _, name := range []string{"10.jpg", "2.jpg", "b.JPEG", "a3.jpg", "a20.jpg", "notes.txt", "010.jpg"} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	frames, err := pictures(DirFrames(folder))
	var names []string
	for _, frame := range frames {
		names = append(names, frame.Name)
	}
	if want := []string{"2.jpg", "010.jpg", "10.jpg", "a3.jpg", "a20.jpg", "b.JPEG"}; err != nil || !slices.Equal(names, want) {
		t.Error(names, err)
	}
	var source *SourceError
	for _, folder := range []string{t.TempDir(), filepath.Join(folder, "missing")} {
		if _, err := pictures(DirFrames(folder)); !errors.As(err, &source) {
			t.Error(err)
		}
	}
}

func TestStreamDirAndMJPEG(t *testing.T) {
	client := serve(t, &fakeServer{}, nil)
	folder := t.TempDir()
	picture := encodeJPEG(16, 8, 100)
	for _, name := range []string{"1.jpg", "2.jpg", "3.jpg"} {
		if err := os.WriteFile(filepath.Join(folder, name), picture, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, results := range map[string]iter.Seq2[*Result, error]{
		"folder": client.StreamDir(t.Context(), folder, nil),
		"mjpeg":  client.StreamMJPEG(t.Context(), bytes.NewReader(bytes.Repeat(picture, 3)), nil),
	} {
		count := 0
		for result, err := range results {
			if err != nil || !result.OK() || result.FrameID != uint64(count) {
				t.Fatal(name, err)
			}
			if over, err := result.Overlay(0.5, nil); err != nil || over.Bounds().Dx() != 16 {
				t.Error(err)
			}
			count++
		}
		if count != 3 {
			t.Error(name, count)
		}
	}
}

func TestLoadPalette(t *testing.T) {
	text := "GIMP Palette\nName: roads\nColumns: 3\n# labels\n128 64 128\troad\n\n 70 130 180 sky\n0 0 142\n"
	palette, err := LoadPalette(strings.NewReader(text))
	want := color.Palette{color.RGBA{128, 64, 128, 255}, color.RGBA{70, 130, 180, 255}, color.RGBA{0, 0, 142, 255}}
	if err != nil || !slices.Equal(palette, want) {
		t.Error(palette, err)
	}
	var source *SourceError
	for _, wrong := range []string{"", "1 2", "1 2 256 a", "a b c", strings.Repeat("1 2 3\n", 257)} {
		if _, err := LoadPalette(strings.NewReader(wrong)); !errors.As(err, &source) {
			t.Errorf("%.20q: %v", wrong, err)
		}
	}
}
