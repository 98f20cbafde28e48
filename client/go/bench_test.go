package tilestream

import (
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"sync"
	"testing"

	"github.com/tilestream/tilestream/client/go/internal/fakeserver"
)

const (
	benchFrameBytes = 60_000
	benchMaskBytes  = 10_000
)

// BenchmarkThroughput sends and takes frames as fast as they go; one operation is one frame. The server is the one
// at TILESTREAM_BENCH_SERVER, else it shares this process and its allocations count.
func BenchmarkThroughput(b *testing.B) {
	target := os.Getenv("TILESTREAM_BENCH_SERVER")
	if target == "" {
		listener, err := fakeserver.Listen()
		if err != nil {
			b.Fatal(err)
		}
		server := fakeserver.New(benchMaskBytes)
		go func() { _ = server.Serve(listener) }()
		b.Cleanup(server.Stop)
		target = listener.Addr().String()
	}
	for _, streams := range []int{1, 16, 64} {
		b.Run(fmt.Sprintf("streams=%d", streams), func(b *testing.B) { throughput(b, target, streams) })
	}
}

func throughput(b *testing.B, target string, streams int) {
	client, err := New(target, nil)
	if err != nil {
		b.Fatal(err)
	}
	defer client.Close()
	sessions := make([]*Session, streams)
	for index := range sessions {
		sessions[index] = open(b, client, &SessionOptions{MaskEncoding: EncodingRaw, FramesInFlight: 4})
	}
	data := make([]byte, benchFrameBytes)
	b.SetBytes(benchFrameBytes + benchMaskBytes)
	b.ReportAllocs()
	runtime.GC()
	b.ResetTimer()
	var all sync.WaitGroup
	for index, session := range sessions {
		count := b.N / streams
		if index < b.N%streams {
			count++
		}
		all.Go(func() {
			for range count {
				if session.Send(b.Context(), Frame{Data: data}) != nil {
					break
				}
			}
			session.CloseSend()
		})
		all.Go(func() {
			got := 0
			for _, err := range session.Results() {
				if err != nil {
					b.Error(err)
					return
				}
				got++
			}
			if got != count {
				b.Errorf("%d of %d", got, count)
			}
		})
	}
	all.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "frames/s")
}

// BenchmarkDecode decodes a mask of 1280x720 whose runs are some 60 pixels long.
func BenchmarkDecode(b *testing.B) {
	labels := make([]uint8, 0, 1280*720)
	random := rand.New(rand.NewPCG(1, 2))
	for len(labels) < cap(labels) {
		label := uint8(random.IntN(11))
		for range min(random.IntN(120)+1, cap(labels)-len(labels)) {
			labels = append(labels, label)
		}
	}
	buffer := make([]uint8, len(labels))
	for _, mask := range everyEncoding(labels, 1280) {
		b.Run(mask.Encoding.String(), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(labels)))
			for b.Loop() {
				if _, err := mask.Decode(buffer); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
