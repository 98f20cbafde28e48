package tilestream

import (
	"bytes"
	"errors"
	"image"
	"image/jpeg"
	"reflect"
	"testing"
	"time"

	pb "github.com/tilestream/tilestream/client/go/tilestream/v1"
)

var everything = SessionOptions{
	MaxDelay:   500 * time.Millisecond,
	FrameCodec: CodecJPEG,
	Outputs: Outputs{
		NoMask: true, Areas: true, Instances: true, MinInstancePixels: 9, InstanceClasses: []uint8{1, 2},
		Polygons: true, PolygonTolerance: 0.5, COCORLE: true,
	},
	Regions: []Region{{"lane", []Point{{0, 0}, {0.5, 0}, {0.5, 1}}}},
	Rules:   []Rule{{"person", []uint8{2}, "lane", 0.25, 500 * time.Millisecond}},
}

func TestWishesTravelAndComeBack(t *testing.T) {
	if got := optionsFromProto(everything.toProto()); !reflect.DeepEqual(got, everything) {
		t.Errorf("%+v", got)
	}
}

func TestFindingsAreTypedValues(t *testing.T) {
	frame := Frame{Data: grayFrame(0)}
	message := &pb.FrameResult{
		Status:    pb.FrameStatus_FRAME_STATUS_OK,
		Areas:     []*pb.ClassArea{{Value: 2, Pixels: 12, Share: 0.25, CocoRle: []byte("0T3")}},
		Instances: []*pb.Instance{{Value: 2, Pixels: 12, Box: &pb.Box{X: 1, Y: 2, Width: 4, Height: 3}, Centroid: &pb.Point{X: 0.5, Y: 0.25}, Polygons: []*pb.Polygon{{Points: []float32{1, 2, 5, 2, 5, 5, 1, 5}}}}},
		Regions:   []*pb.RegionAreas{{Name: "lane", Pixels: 24, Areas: []*pb.ClassArea{{Value: 1, Pixels: 24, Share: 1}}}},
		Events:    []*pb.Event{{Rule: "person", Kind: pb.EventKind_EVENT_KIND_BEGAN, TimeUs: 1_500_000}},
	}
	started := &Started{config: everything.toProto(), Model: modelFromProto(fakeModel)}
	result, err := newResult(message, &pending{frame: frame}, started, 0)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(result.Areas, []ClassArea{{2, 12, 0.25, []byte("0T3")}}) {
		t.Error(result.Areas)
	}
	instance := result.Instances[0]
	if instance.Box != image.Rect(1, 2, 5, 5) || instance.Centroid != (Point{0.5, 0.25}) || instance.Polygons[0][2] != (Point{5, 5}) {
		t.Errorf("%+v", instance)
	}
	if !reflect.DeepEqual(result.Regions, []RegionAreas{{"lane", 24, []ClassArea{{1, 24, 1, nil}}}}) {
		t.Error(result.Regions)
	}
	if event := result.Events[0]; event.Rule != "person" || event.Kind != EventBegan || event.Kind.String() != "began" || !event.Time.Equal(time.UnixMicro(1_500_000)) {
		t.Errorf("%+v", event)
	}
	if result.Size() != (Size{64, 48}) {
		t.Error(result.Size())
	}
	drawn, err := result.Overlay(0.5, nil)
	if err != nil || drawn.RGBAAt(3, 2) != fakeColour(t, 2) || drawn.RGBAAt(20, 20) == fakeColour(t, 2) {
		t.Error(err, drawn.RGBAAt(3, 2))
	}
	var missing *MaskError
	if _, err := result.Labels(); !errors.As(err, &missing) {
		t.Error(err)
	}
}

func fakeColour(t *testing.T, value int) (colour struct{ R, G, B, A uint8 }) {
	t.Helper()
	r, g, b, a := modelFromProto(fakeModel).Palette()[value].RGBA()
	return struct{ R, G, B, A uint8 }{uint8(r >> 8), uint8(g >> 8), uint8(b >> 8), uint8(a >> 8)}
}

func TestAMaskIsThereIfAndOnlyIfItWasAskedFor(t *testing.T) {
	ok, mask := pb.FrameStatus_FRAME_STATUS_OK, fakeMask(0, pb.MaskEncoding_MASK_ENCODING_RAW)
	for _, test := range []struct {
		noMask  bool
		message *pb.FrameResult
		right   bool
	}{
		{false, &pb.FrameResult{Status: ok, Mask: mask}, true},
		{false, &pb.FrameResult{Status: ok}, false},
		{true, &pb.FrameResult{Status: ok}, true},
		{true, &pb.FrameResult{Status: ok, Mask: mask}, false},
		{true, &pb.FrameResult{Status: pb.FrameStatus_FRAME_STATUS_DROPPED}, true},
	} {
		started := &Started{config: &pb.SessionConfig{Outputs: &pb.Outputs{NoMask: test.noMask}}, Model: modelFromProto(fakeModel)}
		if _, err := newResult(test.message, &pending{}, started, 0); (err == nil) != test.right {
			t.Error(test.noMask, test.message, err)
		}
	}
}

func TestCOCORunLengths(t *testing.T) {
	instance := Instance{COCORLE: []byte("61X13mN000`0")} // 6 1 40 4 5 4 5 4 21
	mask, err := instance.Mask(10, 9)
	if err != nil {
		t.Fatal(err)
	}
	var inside int
	for x := range 10 {
		for y := range 9 {
			at := x*9 + y
			want := at == 6 || at >= 47 && at < 51 || at >= 56 && at < 60 || at >= 65 && at < 69
			if (mask.At(x, y) == 1) != want {
				t.Error(x, y)
			}
			inside += int(mask.At(x, y))
		}
	}
	if inside != 13 {
		t.Error(inside)
	}
	for _, damaged := range []string{"", "6", "61X13mN000`", "~~~", "oooooooooooooo", "0\x7f"} {
		var problem *MaskError
		if _, err := (&Instance{COCORLE: []byte(damaged)}).Mask(10, 9); !errors.As(err, &problem) {
			t.Errorf("%q: %v", damaged, err)
		}
	}
}

func TestRealServerTellsWhatIsThere(t *testing.T) {
	target := realTarget(t)
	client, err := New(target, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	options := SessionOptions{
		Outputs: Outputs{Areas: true, Instances: true, Polygons: true, COCORLE: true, InstanceClasses: []uint8{4}},
		Regions: []Region{{"left", []Point{{0, 0}, {0.5, 0}, {0.5, 1}, {0, 1}}}},
		Rules:   []Rule{{Name: "now", Classes: []uint8{4}, Region: "left", AboveShare: 0.01}},
	}
	frames := func(yield func(Frame, error) bool) {
		for index := range 3 {
			frame := Frame{Data: squareFrame(index == 1), CaptureTime: time.UnixMicro(int64(index+1) * 100_000)}
			if !yield(frame, nil) {
				return
			}
		}
	}
	var kinds []string
	for result, err := range client.Stream(t.Context(), frames, &options) {
		if err != nil {
			t.Fatal(err)
		}
		labels, err := result.Labels()
		if err != nil {
			t.Fatal(err)
		}
		total := 0
		for _, area := range result.Areas {
			if count := bytes.Count(labels.Pix, []byte{area.Value}); count != area.Pixels {
				t.Error(result.FrameID, area, count)
			}
			total += area.Pixels
		}
		if size := result.Size(); total != size.Width*size.Height {
			t.Error(total, size)
		}
		for _, instance := range result.Instances {
			mask, err := instance.Mask(labels.Width, labels.Height)
			if err != nil || bytes.Count(mask.Pix, []byte{1}) != instance.Pixels || instance.Box != image.Rect(8, 8, 24, 24) || len(instance.Polygons[0]) != 4 {
				t.Errorf("%v %+v", err, instance)
			}
		}
		if (len(result.Instances) == 1) != (result.FrameID == 1) || result.Regions[0].Pixels != labels.Width/2*labels.Height {
			t.Errorf("%d %+v", result.FrameID, result.Regions)
		}
		for _, event := range result.Events {
			kinds = append(kinds, event.Kind.String()+event.Time.UTC().Format(".000"))
		}
	}
	if !reflect.DeepEqual(kinds, []string{"began.200", "ended.300"}) {
		t.Error(kinds)
	}
}

// squareFrame is black, or has a square that the fake engine labels 4.
func squareFrame(square bool) []byte {
	picture := image.NewGray(image.Rect(0, 0, 64, 48))
	for y := 8; y < 24 && square; y++ {
		for x := 8; x < 24; x++ {
			picture.Pix[y*picture.Stride+x] = 4 * fakeStep
		}
	}
	var out bytes.Buffer
	if err := jpeg.Encode(&out, picture, &jpeg.Options{Quality: 100}); err != nil {
		panic(err)
	}
	return out.Bytes()
}
