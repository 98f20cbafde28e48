// Command cmd runs the fake server in a process of its own, for benchmarks: it prints its address and serves until
// its standard input ends.
package main

import (
	"flag"
	"fmt"
	"io"
	"log"
	"os"

	"github.com/tilestream/tilestream/client/go/internal/fakeserver"
)

func main() {
	size := flag.Int("mask-bytes", 10_000, "bytes of every mask")
	flag.Parse()
	listener, err := fakeserver.Listen()
	if err != nil {
		log.Fatal(err)
	}
	server := fakeserver.New(*size)
	fmt.Println(listener.Addr())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		server.Stop()
	}()
	if err := server.Serve(listener); err != nil {
		log.Fatal(err)
	}
}
