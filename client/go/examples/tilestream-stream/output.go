package main

import (
	"bufio"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"os"
	"path/filepath"
	"strings"

	tilestream "github.com/tilestream/tilestream/client/go"
)

// output writes what the job asks for.
type output struct {
	job     job
	palette color.Palette
	encoder png.Encoder
}

func newOutput(j job) (*output, error) {
	out := &output{job: j, encoder: png.Encoder{CompressionLevel: png.BestSpeed}}
	for _, folder := range []string{j.masks, j.overlays} {
		if folder == "" {
			continue
		}
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return nil, err
		}
	}
	if j.palette != "" {
		var err error
		if out.palette, err = loadPalette(j.palette); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// add writes the pictures of one result; there are none where there is no mask.
func (o *output) add(result *tilestream.Result) error {
	if !result.OK() {
		return nil
	}
	if o.job.masks != "" {
		mask, err := result.Paletted()
		if err != nil {
			return err
		}
		if o.palette != nil {
			mask.Palette = full(o.palette)
		}
		if err := o.write(o.job.masks, result, mask); err != nil {
			return err
		}
	}
	if o.job.overlays != "" {
		picture, err := result.Overlay(o.job.alpha, o.palette)
		if err != nil {
			return err
		}
		return o.write(o.job.overlays, result, picture)
	}
	return nil
}

func (o *output) write(folder string, result *tilestream.Result, picture image.Image) error {
	name := strings.TrimSuffix(result.Frame.Name, filepath.Ext(result.Frame.Name))
	if name == "" {
		name = fmt.Sprintf("%06d", result.FrameID)
	}
	file, err := os.Create(filepath.Join(folder, name+".png"))
	if err != nil {
		return err
	}
	defer file.Close()
	buffer := bufio.NewWriter(file)
	if err := o.encoder.Encode(buffer, picture); err != nil {
		return err
	}
	if err := buffer.Flush(); err != nil {
		return err
	}
	return file.Close()
}

// full is the palette with black for the labels that it has no colour for: a PNG needs one for each.
func full(palette color.Palette) color.Palette {
	all := append(color.Palette{}, palette...)
	for len(all) < 256 {
		all = append(all, color.RGBA{A: 255})
	}
	return all
}
