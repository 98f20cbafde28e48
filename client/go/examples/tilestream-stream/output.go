package main

import (
	"bufio"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
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
	return writeFile(filepath.Join(folder, name+".png"), func(file io.Writer) error { return o.encoder.Encode(file, picture) })
}

// full is the palette with black for the labels that it has no colour for: a PNG needs one for each.
func full(palette color.Palette) color.Palette {
	all := append(color.Palette{}, palette...)
	for len(all) < 256 {
		all = append(all, color.RGBA{A: 255})
	}
	return all
}

// checkPlaces refuses outputs that would overwrite the source, which is a file or a folder.
func (j job) checkPlaces() error {
	source, err := os.Stat(j.source)
	if err != nil {
		return nil // standard input, or it is not there, which opening it tells
	}
	for option, path := range map[string]string{"masks": j.masks, "overlays": j.overlays, "json": j.json} {
		if found, err := os.Stat(path); path != "" && err == nil && os.SameFile(source, found) {
			return fmt.Errorf("%s is the input: give -%s another name", path, option)
		}
	}
	return nil
}

// writeFile has write make a file beside path, which takes its place when it is whole.
func writeFile(path string, write func(io.Writer) error) (err error) {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() { // such as /dev/stdout
		file, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		return errors.Join(write(file), file.Close())
	}
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target // a link is followed, not replaced
	}
	beside := filepath.Join(filepath.Dir(path), fmt.Sprintf(".tilestream-%d%s", os.Getpid(), filepath.Ext(path)))
	defer func() {
		if err != nil {
			os.Remove(beside)
			err = fmt.Errorf("cannot write %s: %w", path, err)
		}
	}()
	file, err := os.Create(beside)
	if err != nil {
		return err
	}
	buffer := bufio.NewWriter(file)
	if err := errors.Join(write(buffer), buffer.Flush(), file.Close()); err != nil {
		return err
	}
	return os.Rename(beside, path)
}
