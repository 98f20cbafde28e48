package tilestream

import (
	"bufio"
	"fmt"
	"image/color"
	"io"
	"strconv"
	"strings"
)

// LoadPalette reads the colours of label values: a line "R G B name" for each, 0 to 255, the first for label 0.
// Empty lines and those that begin with '#' are skipped, and so is what GIMP's palette files have before their
// colours. It has as many colours as there are lines, 256 at most. A *SourceError where it is something else.
func LoadPalette(source io.Reader) (color.Palette, error) {
	var palette color.Palette
	lines := bufio.NewScanner(source)
	for number := 1; lines.Scan(); number++ {
		text := strings.TrimSpace(lines.Text())
		if text == "" || text[0] == '#' || isGIMPHeader(text) {
			continue
		}
		rgb, err := parseColor(text)
		if err != nil {
			return nil, sourceError(err, "line %d of the palette: %v", number, err)
		}
		if palette = append(palette, rgb); len(palette) > 256 {
			return nil, sourceError(nil, "the palette has more than 256 colours")
		}
	}
	if err := lines.Err(); err != nil {
		return nil, sourceError(err, "cannot read the palette: %v", err)
	}
	if len(palette) == 0 {
		return nil, sourceError(nil, "the palette has no colours")
	}
	return palette, nil
}

func isGIMPHeader(text string) bool {
	return text == "GIMP Palette" || strings.HasPrefix(text, "Name:") || strings.HasPrefix(text, "Columns:")
}

func parseColor(text string) (color.RGBA, error) {
	words := strings.Fields(text)
	if len(words) < 3 {
		return color.RGBA{}, fmt.Errorf("%q is not \"R G B name\"", text)
	}
	var rgb [3]uint8
	for index := range rgb {
		value, err := strconv.ParseUint(words[index], 10, 8)
		if err != nil {
			return color.RGBA{}, fmt.Errorf("%q is no number from 0 to 255", words[index])
		}
		rgb[index] = uint8(value)
	}
	return color.RGBA{rgb[0], rgb[1], rgb[2], 255}, nil
}
