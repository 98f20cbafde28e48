// Command many_cameras streams several folders or motion JPEGs at once over one connection:
//
//	go run ./examples/many_cameras localhost:50051 front/ rear.mjpeg ...
package main

import (
	"context"
	"fmt"
	"iter"
	"log"
	"os"
	"os/signal"
	"sync"

	tilestream "github.com/tilestream/tilestream/client/go"
)

func main() {
	if len(os.Args) < 3 {
		log.Fatalf("usage: %s HOST:PORT SOURCE...", os.Args[0])
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	client, err := tilestream.New(os.Args[1], nil)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	var cameras sync.WaitGroup
	for _, path := range os.Args[2:] {
		cameras.Go(func() {
			if err := watch(ctx, client, path); err != nil {
				log.Printf("%s: %v", path, err)
			}
		})
	}
	cameras.Wait()
}

// watch counts the frames of one source that got a mask.
func watch(ctx context.Context, client *tilestream.Client, path string) error {
	results, err := stream(ctx, client, path)
	if err != nil {
		return err
	}
	masks, frames := 0, 0
	for result, err := range results {
		if err != nil {
			return err
		}
		if frames++; result.OK() {
			masks++
		}
	}
	fmt.Printf("%s: %d of %d frames\n", path, masks, frames)
	return nil
}

func stream(ctx context.Context, client *tilestream.Client, path string) (iter.Seq2[*tilestream.Result, error], error) {
	options := &tilestream.SessionOptions{CameraID: path}
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return client.StreamDir(ctx, path, options), nil
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { file.Close() })
	return client.StreamMJPEG(ctx, file, options), nil
}
