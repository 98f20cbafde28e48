package tilestream

import (
	"image"
	"time"

	"github.com/tilestream/tilestream/client/go/internal/masks"
	pb "github.com/tilestream/tilestream/client/go/tilestream/v1"
)

// ClassArea is how much of the picture, or of a region, one class covers.
type ClassArea struct {
	// Value is the class, a LabelClass.Value.
	Value uint8
	// Pixels are those of the mask.
	Pixels int
	// Share is that of the picture or the region, 0..1.
	Share float64
	// COCORLE is "counts" of COCO's compressed run lengths; nil unless asked for.
	COCORLE []byte
}

// Instance is pixels of one class that hang together, corners included.
type Instance struct {
	// Value is the class, a LabelClass.Value.
	Value uint8
	// Pixels are those of the mask.
	Pixels int
	// Box is the smallest one around it, in pixels of the mask.
	Box image.Rectangle
	// Centroid is the centre of mass, as shares of the picture.
	Centroid Point
	// Polygons are the outer outline and then the holes, in pixels of the mask: X and Y of corners, 0, 0 is the
	// corner of the first pixel. nil unless asked for.
	Polygons [][]Point
	// COCORLE is "counts" of COCO's compressed run lengths; nil unless asked for.
	COCORLE []byte
}

// Mask has 1 inside the instance and 0 elsewhere; width and height are those of the masks, Result.Size. A *MaskError
// where there are no run lengths or they are damaged.
func (i *Instance) Mask(width, height int) (*Labels, error) {
	pix, err := masks.DecodeCOCORLE(i.COCORLE, width, height, nil)
	if err != nil {
		return nil, maskError("%v", err)
	}
	return &Labels{width, height, pix}, nil
}

// RegionAreas are the classes of one region of SessionOptions.Regions.
type RegionAreas struct {
	Name string
	// Pixels of the mask whose centres are inside.
	Pixels int
	Areas  []ClassArea
}

// Event tells that a rule of SessionOptions.Rules began to hold, or ceased to.
type Event struct {
	Rule string
	Kind EventKind
	// Time is when, by the clock of the frames' capture times, or of the server where they have none.
	Time time.Time
}

func areasFromProto(messages []*pb.ClassArea) []ClassArea {
	var areas []ClassArea
	for _, area := range messages {
		areas = append(areas, ClassArea{uint8(area.GetValue()), int(area.GetPixels()), float64(area.GetShare()), area.GetCocoRle()})
	}
	return areas
}

func instancesFromProto(messages []*pb.Instance) []Instance {
	var instances []Instance
	for _, message := range messages {
		box := message.GetBox()
		x, y := int(box.GetX()), int(box.GetY())
		instance := Instance{
			Value:    uint8(message.GetValue()),
			Pixels:   int(message.GetPixels()),
			Box:      image.Rect(x, y, x+int(box.GetWidth()), y+int(box.GetHeight())),
			Centroid: pointFromProto(message.GetCentroid()),
			COCORLE:  message.GetCocoRle(),
		}
		for _, polygon := range message.GetPolygons() {
			instance.Polygons = append(instance.Polygons, cornersFromProto(polygon))
		}
		instances = append(instances, instance)
	}
	return instances
}

func cornersFromProto(polygon *pb.Polygon) []Point {
	numbers := polygon.GetPoints()
	corners := make([]Point, len(numbers)/2)
	for index := range corners {
		corners[index] = Point{float64(numbers[2*index]), float64(numbers[2*index+1])}
	}
	return corners
}

func regionAreasFromProto(messages []*pb.RegionAreas) []RegionAreas {
	var regions []RegionAreas
	for _, message := range messages {
		regions = append(regions, RegionAreas{message.GetName(), int(message.GetPixels()), areasFromProto(message.GetAreas())})
	}
	return regions
}

func eventsFromProto(messages []*pb.Event) []Event {
	var events []Event
	for _, message := range messages {
		events = append(events, Event{message.GetRule(), EventKind(message.GetKind()), time.UnixMicro(message.GetTimeUs())})
	}
	return events
}
