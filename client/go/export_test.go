package tilestream

import (
	"context"
	"net"

	pb "github.com/tilestream/tilestream/client/go/tilestream/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"
)

// FakeServer starts a server within the process, for the examples: how to dial it, and what stops it. Its masks
// are 8x4 stripes.
func FakeServer() (dial grpc.DialOption, stop func()) {
	return (&fakeServer{}).start()
}

// start serves over a connection in memory.
func (f *fakeServer) start() (dial grpc.DialOption, stop func()) {
	f.sessions = map[string]*fakeSession{}
	f.ended = make(chan error, 100)
	listener := bufconn.Listen(1 << 20)
	running := grpc.NewServer()
	pb.RegisterSegmentationServiceServer(running, f)
	serving := make(chan struct{})
	go func() {
		defer close(serving)
		_ = running.Serve(listener)
	}()
	dial = grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) })
	return dial, func() {
		running.Stop()
		<-serving
	}
}
