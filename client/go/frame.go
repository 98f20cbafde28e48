package tilestream

import "time"

// Frame is one frame to send.
type Frame struct {
	// Data is a JPEG, or an access unit where SessionOptions.FrameCodec says so. It must not be changed until its result has come: a session that is lost sends it again.
	Data []byte
	// Name comes back in Result.Frame, such as a file's. "": none.
	Name string
	// CaptureTime is when the frame was taken, by the camera's clock. Zero: unknown.
	CaptureTime time.Time
	// ForceKeyFrame asks to compute this frame in full, whatever the budget says.
	ForceKeyFrame bool
	// Problem is what is wrong with it as far as is known here, and comes back as the Detail of its result if the
	// server finds it invalid, too. "": nothing.
	Problem string
}
