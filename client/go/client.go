package tilestream

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	pb "github.com/tilestream/tilestream/client/go/tilestream/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
)

const maxAnswerBytes = 64 << 20 // a raw mask of 8192x4096 with a confidence map; gRPC's own limit is 4 MiB

// Client is a connection to a server, for any number of sessions at a time. Its methods may be called by any
// number of goroutines. Nothing is sent before it is needed.
type Client struct {
	target     string
	options    Options
	handshakes *handshakes
	conn       *grpc.ClientConn
	stub       pb.SegmentationServiceClient

	mu       sync.Mutex
	closed   bool
	sessions map[*Session]struct{}
}

// New makes a client of the server at target, such as "localhost:50051", "unix:/path" or any name that gRPC resolves. nil options
// are the defaults.
func New(target string, options *Options) (*Client, error) {
	chosen := options.withDefaults()
	transport := insecure.NewCredentials()
	if chosen.TLS != nil {
		transport = credentials.NewTLS(chosen.TLS)
	}
	handshakes := watch(transport, chosen.TLS)
	dial := []grpc.DialOption{
		grpc.WithTransportCredentials(handshakes),
		grpc.WithUserAgent("tilestream-client-go/" + version),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxAnswerBytes)),
		// Finds servers that vanished.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 20 * time.Second, Timeout: 10 * time.Second}),
		grpc.WithConnectParams(grpc.ConnectParams{ // sessions have a back-off of their own
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 2 * time.Second},
			MinConnectTimeout: 5 * time.Second,
		}),
	}
	conn, err := grpc.NewClient(target, append(dial, chosen.DialOptions...)...)
	if err != nil {
		return nil, &ConnectionFailedError{Failure{Message: err.Error(), cause: err}}
	}
	return &Client{
		target:     target,
		options:    chosen,
		handshakes: handshakes,
		conn:       conn,
		stub:       pb.NewSegmentationServiceClient(conn),
		sessions:   map[*Session]struct{}{},
	}, nil
}

// Close ends all sessions and the connection; no goroutine is left when it returns. It may be called again.
func (c *Client) Close() error {
	c.mu.Lock()
	already := c.closed
	c.closed = true
	var open []*Session
	for session := range c.sessions {
		open = append(open, session)
	}
	c.mu.Unlock()
	for _, session := range open {
		session.Close()
	}
	if already {
		return nil
	}
	return c.conn.Close()
}

// Info is what the server is and what it offers.
func (c *Client) Info(ctx context.Context) (*pb.GetServerInfoResponse, error) {
	return ask(ctx, c, c.stub.GetServerInfo, &pb.GetServerInfoRequest{})
}

// Models are those that are loaded, the default first.
func (c *Client) Models(ctx context.Context) ([]*Model, error) {
	answer, err := ask(ctx, c, c.stub.ListModels, &pb.ListModelsRequest{})
	if err != nil {
		return nil, err
	}
	var models []*Model
	for _, model := range answer.GetModels() {
		models = append(models, modelFromProto(model))
	}
	return models, nil
}

// Sessions are the live ones of the server, oldest first.
func (c *Client) Sessions(ctx context.Context) ([]*pb.Session, error) {
	var sessions []*pb.Session
	request := &pb.ListSessionsRequest{}
	for {
		answer, err := ask(ctx, c, c.stub.ListSessions, request)
		if err != nil {
			return nil, err
		}
		sessions = append(sessions, answer.GetSessions()...)
		if answer.GetNextPageToken() == "" {
			return sessions, nil
		}
		request = &pb.ListSessionsRequest{PageToken: answer.GetNextPageToken()}
	}
}

// ask makes a call that is answered at once.
func ask[Q, A any](
	ctx context.Context, c *Client, method func(context.Context, *Q, ...grpc.CallOption) (*A, error), request *Q,
) (*A, error) {
	ctx, cancel := context.WithTimeout(ctx, c.options.Timeout)
	defer cancel()
	ctx, err := c.authorized(ctx)
	if err != nil {
		return nil, err
	}
	answer, err := method(ctx, request)
	if err != nil {
		return nil, c.failure(err, false)
	}
	return answer, nil
}

// failure is the error for a call that failed, see fromStatus.
func (c *Client) failure(err error, started bool) error {
	made := fromStatus(err, c.target, started)
	var failed *ConnectionFailedError
	if errors.As(made, &failed) && failed.Code == codes.Unavailable {
		if why := c.handshakes.why(failed.Message); why != "" {
			failed.Message = fmt.Sprintf("cannot connect to %s: %s", c.target, why)
			return &TLSFailedError{*failed}
		}
	}
	return made
}

// authorized is ctx with the token.
func (c *Client) authorized(ctx context.Context) (context.Context, error) {
	if c.options.TokenSource == nil {
		return ctx, nil
	}
	token, err := c.options.TokenSource(ctx)
	if err != nil {
		return nil, &ConnectionFailedError{Failure{Message: "there is no token: " + err.Error(), cause: err}}
	}
	if token, err = checkedToken(token); err != nil {
		return nil, err
	}
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token), nil
}

// register keeps the session until it has ended; false: the client is closed.
func (c *Client) register(session *Session) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.sessions[session] = struct{}{}
	return true
}

func (c *Client) forget(session *Session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.sessions, session)
}
