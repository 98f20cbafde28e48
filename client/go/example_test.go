package tilestream_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/jpeg"
	"log"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	tilestream "github.com/tilestream/tilestream/client/go"
	"google.golang.org/grpc"
)

// The lines between the braces stand in README.md.
func ExampleClient_StreamDir() {
	ctx := context.Background()
	client, err := tilestream.New("localhost:50051", nil)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	for result, err := range client.StreamDir(ctx, "frames/", nil) {
		if err != nil {
			log.Fatal(err)
		}
		labels, err := result.Labels() // of a frame without a mask an error that says why
		fmt.Println(result.Frame.Name, result.Status, labels, err)
	}
}

// A camera sends from one goroutine and reads in another.
func ExampleSession_Send() {
	dial, stop := tilestream.FakeServer()
	defer stop()
	ctx := context.Background()
	client, err := tilestream.New("passthrough:///fake", &tilestream.Options{DialOptions: []grpc.DialOption{dial}})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	session, err := client.Open(ctx, &tilestream.SessionOptions{CameraID: "front", MaskEncoding: tilestream.EncodingRLE})
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		defer session.CloseSend()
		for range 3 {
			if err := session.Send(ctx, tilestream.Frame{Data: picture(), CaptureTime: time.Now()}); err != nil {
				return // the reader is told why
			}
		}
	}()
	for result, err := range session.Results() {
		if err != nil {
			log.Fatal(err)
		}
		labels, err := result.Labels()
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(result.FrameID, result.Status, labels.Width, labels.Height, labels.At(2, 0))
	}
	// Output:
	// 0 ok 8 4 1
	// 1 ok 8 4 2
	// 2 ok 8 4 0
}

func ExampleClient_StreamMJPEG() {
	dial, stop := tilestream.FakeServer()
	defer stop()
	client, err := tilestream.New("passthrough:///fake", &tilestream.Options{DialOptions: []grpc.DialOption{dial}})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	pipe := bytes.NewReader(bytes.Repeat(picture(), 2)) // such as the standard output of `ffmpeg ... -f mjpeg -`
	for result, err := range client.StreamMJPEG(context.Background(), pipe, nil) {
		if err != nil {
			log.Fatal(err)
		}
		mask, err := result.Paletted()
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(result.Frame.Name, mask.Bounds(), mask.At(0, 0))
	}
	// Output:
	// 000000 (0,0)-(8,4) {128 64 128 255}
	// 000001 (0,0)-(8,4) {70 130 180 255}
}

func ExampleNew() {
	client, err := tilestream.New("localhost:50051", &tilestream.Options{
		TokenSource:      func(context.Context) (string, error) { return os.Getenv("TILESTREAM_TOKEN"), nil },
		Logger:           slog.Default(),
		ReconnectTimeout: 5 * time.Minute,
	})
	if err != nil {
		log.Fatal(err)
	}
	client.Close()
}

func ExampleLoadTLS() {
	config, err := tilestream.LoadTLS(tilestream.TLSFiles{
		CA: "ca.pem", Certificate: "camera.pem", Key: "camera.key", // the last two where the server asks for them
	})
	if err != nil {
		log.Fatal(err)
	}
	client, err := tilestream.New("seg.example:50051", &tilestream.Options{TLS: config})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	_, err = client.Info(context.Background())
	var failed *tilestream.TLSFailedError
	if errors.As(err, &failed) {
		log.Fatal(failed) // which side is wrong about what, and what to do
	}
}

func ExampleServerBusyError() {
	client, err := tilestream.New("localhost:50051", nil)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	_, err = client.Open(context.Background(), nil)
	var busy *tilestream.ServerBusyError
	if errors.As(err, &busy) {
		time.Sleep(busy.RetryAfter)
	}
}

func ExampleLoadPalette() {
	palette, err := tilestream.LoadPalette(strings.NewReader("128 64 128 road\n70 130 180 sky\n"))
	fmt.Println(palette, err)
	// Output: [{128 64 128 255} {70 130 180 255}] <nil>
}

func ExampleEncodedMask_Decode() {
	mask := tilestream.EncodedMask{Width: 3, Height: 2, Encoding: tilestream.EncodingRLE, Data: []byte{0, 4, 7, 2}}
	labels, err := mask.Decode(nil) // or into memory of your own
	fmt.Println(labels.Pix, labels.At(2, 1), err)
	// Output: [0 0 0 0 7 7] 7 <nil>
}

func picture() []byte {
	var out bytes.Buffer
	if err := jpeg.Encode(&out, image.NewGray(image.Rect(0, 0, 16, 8)), nil); err != nil {
		log.Fatal(err)
	}
	return out.Bytes()
}

// What the README shows is what is compiled here.
func TestReadme(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(string(readme), "```go\n")[1:]
	if len(blocks) == 0 {
		t.Fatal("README.md has no example")
	}
	for _, block := range blocks {
		block, _, _ = strings.Cut(block, "```")
		indented := "\t" + strings.ReplaceAll(strings.TrimSuffix(block, "\n"), "\n", "\n\t") + "\n"
		if !strings.Contains(string(source), indented) {
			t.Errorf("this is not in example_test.go:\n%s", block)
		}
	}
}
