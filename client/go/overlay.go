package tilestream

import (
	"image"
	"image/color"
	"image/draw"
)

// Overlay is the frame with the labels' colours over it; alpha 0 = the frame alone, 1 = colours alone. It has the
// size of the frame. Instances are drawn over it; without a mask (Outputs.NoMask) over the frame alone. nil palette:
// the model's; labels that a shorter one has no colour for are left as the frame is.
func (r *Result) Overlay(alpha float64, palette color.Palette) (*image.RGBA, error) {
	labels := &Labels{}
	if r.Mask != nil || !r.OK() {
		var err error
		if labels, err = r.Labels(); err != nil {
			return nil, err
		}
	}
	picture, err := r.Image()
	if err != nil {
		return nil, sourceError(err, "frame %d is no image: %v", r.FrameID, err)
	}
	if palette == nil {
		palette = r.Model.Palette()
	}
	bounds := image.Rect(0, 0, picture.Bounds().Dx(), picture.Bounds().Dy())
	out := image.NewRGBA(bounds)
	draw.Draw(out, bounds, picture, picture.Bounds().Min, draw.Src)
	if labels.Width > 0 && labels.Height > 0 {
		blend(out, labels, colours(palette), min(max(alpha, 0), 1))
	}
	drawInstances(out, r.Instances, r.Size(), colours(palette))
	return out, nil
}

// blend mixes the colours in; labels of another size are read at the nearest pixel.
func blend(out *image.RGBA, labels *Labels, colours []color.RGBA, alpha float64) {
	weight := int(alpha*256 + 0.5)
	mix := func(frame, colour uint8) uint8 { return uint8((int(frame)*(256-weight) + int(colour)*weight) >> 8) }
	width, height := out.Rect.Dx(), out.Rect.Dy()
	for y := range height {
		row := labels.Pix[y*labels.Height/height*labels.Width:]
		pixels := out.Pix[y*out.Stride : y*out.Stride+4*width]
		for x := range width {
			label := int(row[x*labels.Width/width])
			if label >= len(colours) {
				continue
			}
			colour, pixel := colours[label], pixels[4*x:4*x+3]
			pixel[0], pixel[1], pixel[2] = mix(pixel[0], colour.R), mix(pixel[1], colour.G), mix(pixel[2], colour.B)
		}
	}
}

func colours(palette color.Palette) []color.RGBA {
	converted := make([]color.RGBA, len(palette))
	for index, colour := range palette {
		converted[index] = color.RGBAModel.Convert(colour).(color.RGBA)
	}
	return converted
}
