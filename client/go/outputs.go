package tilestream

import (
	"time"

	pb "github.com/tilestream/tilestream/client/go/tilestream/v1"
)

// Outputs are what results say of the labels beside the mask, or instead of it; all of it at the masks' size. The
// zero value: the mask alone.
type Outputs struct {
	// NoMask has no masks sent.
	NoMask bool
	// Areas asks for Result.Areas.
	Areas bool
	// Instances asks for Result.Instances.
	Instances bool
	// MinInstancePixels is the smallest instance that is told. 0: 64.
	MinInstancePixels int
	// InstanceClasses are the label values whose instances are told. Empty: all.
	InstanceClasses []uint8
	// Polygons asks for the instances' outlines, which needs Instances.
	Polygons bool
	// PolygonTolerance is how far they may be off, pixels. 0: 1.
	PolygonTolerance float64
	// COCORLE asks for COCO's run lengths of every instance; without Instances, of every class of Areas.
	COCORLE bool
}

// Point is a place in the picture as shares 0..1 of its width and height.
type Point struct{ X, Y float64 }

// Region is a named polygon of 3 to 64 corners, closed by itself.
type Region struct {
	Name   string
	Points []Point
}

// Rule makes an Event when it begins to hold, which is once the area of its classes was above a share of a region for
// a time, and when it ceases to, once it was not for as long.
type Rule struct {
	Name string
	// Classes are label values, whose areas are added. At least one.
	Classes []uint8
	// Region is a Region's name. "": the whole picture.
	Region string
	// AboveShare is 0 up to below 1. 0: any pixel.
	AboveShare float64
	// For is a time by Frame.CaptureTime, in whole milliseconds. 0: at once.
	For time.Duration
}

func (o *Outputs) toProto() *pb.Outputs {
	return &pb.Outputs{
		NoMask:            o.NoMask,
		Areas:             o.Areas,
		Instances:         o.Instances,
		MinInstancePixels: uint32(max(0, o.MinInstancePixels)),
		InstanceClasses:   widened(o.InstanceClasses),
		Polygons:          o.Polygons,
		PolygonTolerance:  float32(o.PolygonTolerance),
		CocoRle:           o.COCORLE,
	}
}

func outputsFromProto(outputs *pb.Outputs) Outputs {
	return Outputs{
		NoMask:            outputs.GetNoMask(),
		Areas:             outputs.GetAreas(),
		Instances:         outputs.GetInstances(),
		MinInstancePixels: int(outputs.GetMinInstancePixels()),
		InstanceClasses:   narrowed(outputs.GetInstanceClasses()),
		Polygons:          outputs.GetPolygons(),
		PolygonTolerance:  float64(outputs.GetPolygonTolerance()),
		COCORLE:           outputs.GetCocoRle(),
	}
}

func regionsToProto(regions []Region) []*pb.Region {
	var messages []*pb.Region
	for _, region := range regions {
		message := &pb.Region{Name: region.Name}
		for _, point := range region.Points {
			message.Points = append(message.Points, &pb.Point{X: float32(point.X), Y: float32(point.Y)})
		}
		messages = append(messages, message)
	}
	return messages
}

func regionsFromProto(messages []*pb.Region) []Region {
	var regions []Region
	for _, message := range messages {
		region := Region{Name: message.GetName()}
		for _, point := range message.GetPoints() {
			region.Points = append(region.Points, pointFromProto(point))
		}
		regions = append(regions, region)
	}
	return regions
}

func pointFromProto(point *pb.Point) Point {
	return Point{float64(point.GetX()), float64(point.GetY())}
}

func rulesToProto(rules []Rule) []*pb.Rule {
	var messages []*pb.Rule
	for _, rule := range rules {
		messages = append(messages, &pb.Rule{
			Name:       rule.Name,
			Classes:    widened(rule.Classes),
			Region:     rule.Region,
			AboveShare: float32(rule.AboveShare),
			ForMs:      uint32(max(0, rule.For.Milliseconds())),
		})
	}
	return messages
}

func rulesFromProto(messages []*pb.Rule) []Rule {
	var rules []Rule
	for _, message := range messages {
		rules = append(rules, Rule{
			Name:       message.GetName(),
			Classes:    narrowed(message.GetClasses()),
			Region:     message.GetRegion(),
			AboveShare: float64(message.GetAboveShare()),
			For:        time.Duration(message.GetForMs()) * time.Millisecond,
		})
	}
	return rules
}

func widened(values []uint8) []uint32 {
	var wide []uint32
	for _, value := range values {
		wide = append(wide, uint32(value))
	}
	return wide
}

func narrowed(values []uint32) []uint8 {
	var narrow []uint8
	for _, value := range values {
		narrow = append(narrow, uint8(value))
	}
	return narrow
}
