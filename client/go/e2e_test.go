package tilestream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/jpeg"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// Tests against a real server: tests/e2e/test_go_client.py starts one whose engine labels a gray frame of shade
// n * fakeStep with n, and runs these with its address.
const (
	realServer = "TILESTREAM_E2E_SERVER"
	fakeStep   = 20
	fakeShades = 12
)

func realTarget(t *testing.T) string {
	t.Helper()
	target := os.Getenv(realServer)
	if target == "" {
		t.Skip("no real server: tests/e2e/test_go_client.py runs this with one")
	}
	ignore := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, ignore) })
	return target
}

func grayFrame(shade int) []byte {
	picture := image.NewGray(image.Rect(0, 0, 64, 48))
	for index := range picture.Pix {
		picture.Pix[index] = uint8(shade * fakeStep)
	}
	var out bytes.Buffer
	if err := jpeg.Encode(&out, picture, &jpeg.Options{Quality: 95}); err != nil {
		panic(err)
	}
	return out.Bytes()
}

// cutter is a TCP proxy that cuts its connections after random numbers of bytes.
type cutter struct {
	listener net.Listener
	target   string
	between  int // bytes, on average
	left     atomic.Int64
	cuts     atomic.Int64

	mu     sync.Mutex
	random *rand.Rand
	open   map[net.Conn]struct{}
	all    sync.WaitGroup
}

func newCutter(t *testing.T, target string, cuts, between int, seed uint64) *cutter {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cutter{listener: listener, target: target, between: between, random: rand.New(rand.NewPCG(seed, 1)), open: map[net.Conn]struct{}{}}
	c.left.Store(int64(cuts))
	c.all.Go(c.accept)
	t.Cleanup(func() {
		listener.Close()
		c.cut()
		c.all.Wait()
	})
	return c
}

func (c *cutter) accept() {
	for {
		here, err := c.listener.Accept()
		if err != nil {
			return
		}
		there, err := net.Dial("tcp", c.target)
		if err != nil {
			here.Close()
			continue
		}
		c.mu.Lock()
		c.open[here], c.open[there] = struct{}{}, struct{}{}
		limit := &atomic.Int64{}
		limit.Store(int64(c.random.IntN(2*c.between) + 1))
		c.mu.Unlock()
		c.all.Go(func() { c.pump(here, there, limit) })
		c.all.Go(func() { c.pump(there, here, limit) })
	}
}

// pump passes bytes on until there were enough in both directions together.
func (c *cutter) pump(from, to net.Conn, limit *atomic.Int64) {
	buffer := make([]byte, 4096)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			if limit.Add(-int64(n)) < 0 && c.left.Add(-1) >= 0 {
				c.cuts.Add(1)
				_, _ = to.Write(buffer[:n/2])
				c.cut()
				return
			}
			_, _ = to.Write(buffer[:n])
		}
		if err != nil {
			from.Close()
			to.Close()
			return
		}
	}
}

// cut resets every connection; what is on its way is lost.
func (c *cutter) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for conn := range c.open {
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		conn.Close()
		delete(c.open, conn)
	}
}

func TestRealServerOverANetworkThatBreaks(t *testing.T) {
	target := realTarget(t)
	const cuts, least = 200, 300
	network := newCutter(t, target, cuts, 12_000, 7)
	options := &Options{BackOff: BackOff{FirstDelay: time.Millisecond, MaxDelay: 20 * time.Millisecond}}
	client, session := comeIn(t, network.listener.Addr().String(), options)
	defer client.Close()
	frames := make([][]byte, fakeShades)
	for shade := range frames {
		frames[shade] = grayFrame(shade)
	}
	sent := make(chan int, 1)
	go func() {
		count := 0
		for ; count < least || network.left.Load() > 0; count++ {
			if session.Send(t.Context(), Frame{Data: frames[count%fakeShades]}) != nil {
				break
			}
		}
		session.CloseSend()
		sent <- count
	}()
	count := 0
	for result, err := range session.Results() {
		if err != nil {
			t.Fatal(count, err)
		}
		labels, err := result.Labels()
		if err != nil || result.FrameID != uint64(count) {
			t.Fatalf("result %d is of frame %d: %v", count, result.FrameID, err)
		}
		for _, label := range labels.Pix {
			if int(label) != count%fakeShades {
				t.Fatalf("frame %d has label %d", count, label)
			}
		}
		count++
	}
	if all := <-sent; count != all || session.Counts().FramesSent != all {
		t.Errorf("%d results of %d frames", count, all)
	}
	counts := session.Counts()
	if network.cuts.Load() != cuts || counts.Reconnects == 0 || counts.Resumes == 0 {
		t.Error(network.cuts.Load(), counts)
	}
	t.Logf("%d frames, %d cuts: %d reconnects, of these %d resumes", count, network.cuts.Load(), counts.Reconnects, counts.Resumes)
}

// comeIn opens a session though the first connections may be cut.
func comeIn(t *testing.T, target string, options *Options) (*Client, *Session) {
	t.Helper()
	client, err := New(target, options)
	if err != nil {
		t.Fatal(err)
	}
	for {
		session, err := client.Open(t.Context(), &SessionOptions{FramesInFlight: 4})
		var failed *ConnectionFailedError
		if !errors.As(err, &failed) {
			if err != nil {
				t.Fatal(err)
			}
			return client, session
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func TestRealServerThatIsFull(t *testing.T) {
	target := realTarget(t)
	client, err := New(target, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	info, err := client.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for range info.GetMaxSessions() {
		if _, err := client.Open(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
	}
	_, err = client.Open(t.Context(), nil)
	var busy *ServerBusyError
	if !errors.As(err, &busy) || busy.RetryAfter <= 0 {
		t.Error(err)
	}
}

// A token that nobody knows begins a new session, which is sent what has no answer.
func TestRealServerDoesNotKnowTheToken(t *testing.T) {
	network := newCutter(t, realTarget(t), 0, 1<<30, 1)
	client, session := comeIn(t, network.listener.Addr().String(), nil)
	defer client.Close()
	session.mu.Lock()
	session.exchange.started.resumeToken = []byte("nobody's")
	session.mu.Unlock()
	go func() {
		_ = session.SendAll(t.Context(), func(yield func(Frame, error) bool) {
			for count := range 60 {
				if !yield(Frame{Data: grayFrame(count % fakeShades)}, nil) {
					return
				}
			}
		})
	}()
	count := 0
	for result, err := range session.Results() {
		if err != nil || !result.OK() || result.FrameID != uint64(count) {
			t.Fatal(count, err)
		}
		if labels, err := result.Labels(); err != nil || int(labels.At(5, 5)) != count%fakeShades {
			t.Fatal(count, err)
		}
		if count++; count == 20 {
			network.cut()
		}
	}
	if counts := session.Counts(); count != 60 || counts.Reconnects != 1 || counts.Resumes != 0 {
		t.Error(count, counts)
	}
}

func TestRealServerRefusesAConfig(t *testing.T) {
	client, err := New(realTarget(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	_, err = client.Open(t.Context(), &SessionOptions{Weight: 1000})
	var invalid *InvalidConfigError
	if !errors.As(err, &invalid) || len(invalid.Fields) != 1 || invalid.Fields[0].Field != "weight" {
		t.Error(err)
	}
}

// A reader that takes its time slows the sender down, and nothing is lost.
func TestRealServerAndASlowReader(t *testing.T) {
	client, err := New(realTarget(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	var taken, ahead atomic.Int64
	frames := func(yield func(Frame, error) bool) {
		for index := range int64(60) {
			ahead.Store(max(ahead.Load(), index-taken.Load()))
			if !yield(Frame{Data: grayFrame(int(index % fakeShades))}, nil) {
				return
			}
		}
	}
	for result, err := range client.Stream(t.Context(), frames, &SessionOptions{FramesInFlight: 3}) {
		if err != nil || !result.OK() || result.FrameID != uint64(taken.Load()) {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Millisecond)
		taken.Add(1)
	}
	if taken.Load() != 60 || ahead.Load() > 3+2 { // one is being read, one is in the loop
		t.Error(taken.Load(), ahead.Load())
	}
}

// The server is killed and comes back while frames flow; whoever runs this does that when it is told to.
func TestRealServerThatRestarts(t *testing.T) {
	target := realTarget(t)
	told := os.Getenv("TILESTREAM_E2E_PROGRESS")
	if told == "" {
		t.Skip("nobody restarts the server")
	}
	client, session := comeIn(t, target, nil)
	defer client.Close()
	wanted, _ := strconv.Atoi(os.Getenv("TILESTREAM_E2E_RECONNECTS"))
	sent := make(chan int, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	go func() {
		count := 0
		for ; session.Counts().Reconnects < wanted || count < 200; count++ {
			if session.Send(ctx, Frame{Data: grayFrame(count % fakeShades)}) != nil {
				break
			}
		}
		session.CloseSend()
		sent <- count
	}()
	count := 0
	for result, err := range session.Results() {
		if err != nil {
			t.Fatal(err)
		}
		if labels, err := result.Labels(); result.FrameID != uint64(count) || (err == nil && int(labels.At(5, 5)) != count%fakeShades) {
			t.Fatal(count, result.FrameID)
		}
		if !result.OK() && result.DropReason != DropShutdown {
			t.Fatal(result.Status, result.Reason())
		}
		if count++; count%20 == 0 {
			if err := os.WriteFile(told, []byte(fmt.Sprint(session.Counts().Reconnects)), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	if all := <-sent; count != all {
		t.Errorf("%d results of %d frames", count, all)
	}
	t.Logf("%d frames: %+v", count, session.Counts())
}
