// Package fakeserver answers every frame at once with a mask of a fixed size: what is left is the transport.
package fakeserver

import (
	"errors"
	"io"
	"net"

	pb "github.com/tilestream/tilestream/client/go/tilestream/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
)

type server struct {
	pb.UnimplementedSegmentationServiceServer
	mask *pb.Mask
}

// New is a server whose masks have this many bytes (and as many pixels, in one row).
func New(maskBytes int) *grpc.Server {
	made := grpc.NewServer(grpc.MaxConcurrentStreams(1000))
	mask := &pb.Mask{Width: uint32(maskBytes), Height: 1, Encoding: pb.MaskEncoding_MASK_ENCODING_RAW, Data: make([]byte, maskBytes)}
	pb.RegisterSegmentationServiceServer(made, &server{mask: mask})
	return made
}

// Listen is a listener on a free port of loopback.
func Listen() (net.Listener, error) { return net.Listen("tcp", "127.0.0.1:0") }

func (s *server) StreamSegment(stream pb.SegmentationService_StreamSegmentServer) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	config := proto.Clone(first.GetConfig()).(*pb.SessionConfig)
	if config.FramesInFlight == 0 {
		config.FramesInFlight = 2
	}
	started := &pb.SessionStarted{SessionId: "fake", ResumeToken: []byte("fake"), Model: &pb.Model{Name: "fake"}, Config: config, Limits: &pb.SessionLimits{}}
	if err := stream.Send(&pb.StreamSegmentResponse{Response: &pb.StreamSegmentResponse_SessionStarted{SessionStarted: started}}); err != nil {
		return err
	}
	for {
		request, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		frame := request.GetFrame()
		if frame == nil {
			continue
		}
		answer := &pb.FrameResult{
			FrameId: frame.GetFrameId(), Status: pb.FrameStatus_FRAME_STATUS_OK, Mask: s.mask,
			Reuse: &pb.ReuseStats{UnitsComputed: 1}, Times: &pb.StageTimes{TotalUs: 1},
		}
		if err := stream.Send(&pb.StreamSegmentResponse{Response: &pb.StreamSegmentResponse_Result{Result: answer}}); err != nil {
			return err
		}
	}
}
