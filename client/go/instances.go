package tilestream

import (
	"image"
	"image/color"
	"math"
)

// drawInstances draws outlines, or boxes where there are none, in the classes' colours; size is that of the masks.
func drawInstances(out *image.RGBA, instances []Instance, size Size, colours []color.RGBA) {
	if size.Width == 0 || size.Height == 0 {
		return
	}
	x := float64(out.Rect.Dx()) / float64(size.Width)
	y := float64(out.Rect.Dy()) / float64(size.Height)
	for index := len(instances) - 1; index >= 0; index-- { // the smallest last: on top
		instance := &instances[index]
		colour := color.RGBA{255, 255, 255, 255}
		if int(instance.Value) < len(colours) {
			colour = colours[instance.Value]
		}
		for _, outline := range instance.outlines() {
			for corner, from := range outline {
				to := outline[(corner+1)%len(outline)]
				drawLine(out, Point{from.X * x, from.Y * y}, Point{to.X * x, to.Y * y}, colour)
			}
		}
	}
}

func (i *Instance) outlines() [][]Point {
	if i.Polygons != nil {
		return i.Polygons
	}
	left, top := float64(i.Box.Min.X), float64(i.Box.Min.Y)
	right, bottom := float64(i.Box.Max.X), float64(i.Box.Max.Y)
	return [][]Point{{{left, top}, {right, top}, {right, bottom}, {left, bottom}}}
}

// drawLine sets a pixel per step along the longer side; what is outside of the picture is left out.
func drawLine(out *image.RGBA, from, to Point, colour color.RGBA) {
	steps := math.Ceil(max(math.Abs(to.X-from.X), math.Abs(to.Y-from.Y), 1))
	if !(steps <= float64(2*(out.Rect.Dx()+out.Rect.Dy()))) { // no outline of this picture is as long; also not for NaN
		return
	}
	for step := range int(steps) + 1 {
		share := float64(step) / steps
		x, y := int(from.X+share*(to.X-from.X)), int(from.Y+share*(to.Y-from.Y))
		out.SetRGBA(min(x, out.Rect.Max.X-1), min(y, out.Rect.Max.Y-1), colour)
	}
}
