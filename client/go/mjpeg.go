package tilestream

import (
	"errors"
	"fmt"
	"io"
	"iter"

	"github.com/tilestream/tilestream/client/go/internal/mjpeg"
)

// MJPEGFrames cuts a motion JPEG into its pictures: bare JPEGs one after the other, as `ffmpeg -f mjpeg` writes, or
// the multipart/x-mixed-replace body of a camera's HTTP answer. What lies between pictures is skipped. Pictures are
// passed on byte for byte, also damaged ones: the server says of each what is wrong with it. A *SourceError where
// reading fails, or where there is no picture at all.
func MJPEGFrames(source io.Reader) iter.Seq2[Frame, error] {
	return func(yield func(Frame, error) bool) {
		splitter := mjpeg.NewSplitter(source)
		for count := 0; ; count++ {
			data, err := splitter.Next()
			if err != nil && !errors.Is(err, io.EOF) {
				yield(Frame{}, sourceError(err, "cannot read picture %d: %v", count, err))
				return
			}
			if data == nil {
				if count == 0 {
					yield(Frame{}, sourceError(nil, "there are no JPEGs in the stream"))
				}
				return
			}
			if !yield(Frame{Data: data, Name: fmt.Sprintf("%06d", count)}, nil) {
				return
			}
		}
	}
}
