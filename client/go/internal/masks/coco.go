package masks

import "fmt"

const cocoFirst = 48 // the character of 0 in COCO's compressed run lengths

// DecodeCOCORLE decodes COCO's compressed run lengths, which go by columns, to 1 inside and 0 outside.
func DecodeCOCORLE(data []byte, width, height int, buffer []uint8) ([]uint8, error) {
	if err := checkSize(width, height); err != nil {
		return nil, err
	}
	counts, err := cocoCounts(data)
	if err != nil {
		return nil, err
	}
	pixels := int64(width) * int64(height)
	left := pixels
	for _, count := range counts {
		if count < 0 || count > left {
			return nil, fmt.Errorf("the COCO run lengths do not add up to %dx%d pixels", width, height)
		}
		left -= count
	}
	if left != 0 || len(counts) == 0 {
		return nil, fmt.Errorf("the COCO run lengths do not add up to %dx%d pixels", width, height)
	}
	out := room(buffer, int(pixels))
	clear(out)
	place := 0
	for index, count := range counts {
		if index%2 == 1 {
			for inside := place; inside < place+int(count); inside++ {
				out[inside%height*width+inside/height] = 1
			}
		}
		place += int(count)
	}
	return out, nil
}

// cocoCounts: five bits a character, lowest first; from the fourth on, differences to the last but one.
func cocoCounts(data []byte) ([]int64, error) {
	var counts []int64
	var value int64
	shift := 0
	for _, character := range data {
		bits := int64(character) - cocoFirst
		if bits < 0 || bits > 63 || shift > 40 {
			return nil, fmt.Errorf("the COCO run lengths are damaged")
		}
		value |= bits & 0x1F << shift
		shift += 5
		if bits&0x20 != 0 {
			continue
		}
		if bits&0x10 != 0 {
			value -= 1 << shift
		}
		if len(counts) > 2 {
			value += counts[len(counts)-2]
		}
		counts = append(counts, value)
		value, shift = 0, 0
	}
	if shift != 0 {
		return nil, fmt.Errorf("the COCO run lengths end within a number")
	}
	return counts, nil
}
