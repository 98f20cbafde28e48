// Package mjpeg cuts a motion JPEG into its pictures.
package mjpeg

import (
	"bufio"
	"errors"
	"fmt"
	"io"
)

const (
	maxPictureBytes = 64 << 20 // more is no picture of a camera, and memory has to be bounded
	bufferBytes     = 64 << 10
)

// Markers of a JPEG, behind 0xFF.
const (
	markStart = 0xD8
	markEnd   = 0xD9
)

// Splitter follows the segments of each picture, so that a thumbnail within one is no picture of its own.
type Splitter struct {
	reader  *bufio.Reader
	picture []byte
	started bool // the start of the next picture was read already, at the end of one that was cut off
}

// Next is the next picture, nil and io.EOF at the end. One that the stream ends within is given as it is.
func (s *Splitter) Next() ([]byte, error) {
	if !s.started {
		if err := s.findStart(); err != nil {
			return nil, err
		}
	}
	s.started = false
	size := max(4096, len(s.picture)) // pictures of a camera are alike
	s.picture = append(make([]byte, 0, size+size/8), 0xFF, markStart)
	err := s.readPicture()
	if errors.Is(err, io.EOF) || err == nil {
		return s.picture, nil
	}
	return nil, err
}

// NewSplitter reads from source, ahead of what it gives.
func NewSplitter(source io.Reader) *Splitter {
	return &Splitter{reader: bufio.NewReaderSize(source, bufferBytes)}
}

// findStart reads up to and with a start of image.
func (s *Splitter) findStart() error {
	last := byte(0)
	for {
		next, err := s.reader.ReadByte()
		if err != nil {
			return err
		}
		if last == 0xFF && next == markStart {
			return nil
		}
		last = next
	}
}

// readPicture reads the segments of a picture up to its end, or to the start of another one.
func (s *Splitter) readPicture() error {
	for {
		mark, err := s.nextMark()
		if err != nil {
			return err
		}
		switch {
		case mark == markStart && len(s.picture) == 4: // some cameras send two
			s.picture = s.picture[:2]
			continue
		case mark == markStart: // the last one has no end
			s.picture = s.picture[:len(s.picture)-2]
			s.started = true
			return nil
		case mark == markEnd:
			return nil
		case mark >= 0xD0 && mark <= 0xD7, mark == 0x01, mark == 0x00: // they stand alone
			continue
		}
		if err := s.readSegment(); err != nil {
			return err
		}
	}
}

// nextMark reads up to and with a marker; in the data of a scan 0xFF 0x00 is none.
func (s *Splitter) nextMark() (byte, error) {
	for {
		chunk, err := s.reader.ReadSlice(0xFF)
		if grown := s.add(chunk); grown != nil {
			return 0, grown
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if err != nil {
			return 0, err
		}
		mark := byte(0xFF)
		for mark == 0xFF { // any number of them may stand before a marker
			if mark, err = s.reader.ReadByte(); err != nil {
				return 0, err
			}
			if grown := s.add([]byte{mark}); grown != nil {
				return 0, grown
			}
		}
		return mark, nil
	}
}

// readSegment reads the length of a segment and what it holds.
func (s *Splitter) readSegment() error {
	var length [2]byte
	n, err := io.ReadFull(s.reader, length[:])
	if grown := s.add(length[:n]); grown != nil {
		return grown
	}
	if err != nil {
		return ended(err)
	}
	left := max(0, (int(length[0])<<8|int(length[1]))-2) // the length counts itself
	at := len(s.picture)
	if grown := s.add(make([]byte, left)); grown != nil {
		return grown
	}
	n, err = io.ReadFull(s.reader, s.picture[at:])
	s.picture = s.picture[:at+n]
	return ended(err)
}

func (s *Splitter) add(data []byte) error {
	if len(s.picture)+len(data) > maxPictureBytes {
		return fmt.Errorf("it has more than %d bytes", maxPictureBytes)
	}
	s.picture = append(s.picture, data...)
	return nil
}

// ended makes an end within a segment a plain end.
func ended(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return io.EOF
	}
	return err
}
