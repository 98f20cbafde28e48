// Package tilestream streams camera frames to a tilestream server and gets a label mask for every one.
//
// A [Client] is a connection, a [Session] one camera's stream on it. Frames go in by [Session.Send], results come
// out of [Session.Results], one for each frame, in the order of the frames:
//
//	client, err := tilestream.New("localhost:50051", nil)
//	...
//	for result, err := range client.StreamDir(ctx, "frames/", nil) {
//		...
//	}
//
// # What holds
//
// Every frame that Send took has exactly one result, in order: a label mask, or why there is none. A stream that is
// lost (the connection broke, the server or a proxy went away, the server drains, the session reached its age
// limit) is opened again inside, after a random time of up to 0.1, 0.2, ... 5 seconds and not before the server
// wants it. A server that still has the session goes on where it was; else a new session begins. What would fail
// again is an error at once: a wrong config, wrong credentials, an idle time-out, a session that another stream
// resumed, and a server that is not there when the session is opened.
//
// Send waits while [SessionOptions.FramesInFlight] frames are between it and Results, so nothing piles up: read the
// results in another goroutine than the one that sends, as [Session.SendAll] and [Client.Stream] do.
//
// There is no global state, and no goroutine is left when [Client.Close] has returned.
//
// # Errors
//
// Every error is one of this package's types, found by errors.As, and so is the [Failure] in it with the gRPC code,
// [Failure.RetryAfter], and the frames that have no answer:
//
//	var busy *tilestream.ServerBusyError
//	if errors.As(err, &busy) {
//		time.Sleep(busy.RetryAfter)
//	}
//
// # Tracing and metrics
//
// [Options.DialOptions] take whatever gRPC takes, such as otelgrpc's stats handler; the context given to
// [Client.Open] has the trace and any outgoing metadata.
package tilestream
