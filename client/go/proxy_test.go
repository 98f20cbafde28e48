package tilestream_test

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	tilestream "github.com/tilestream/tilestream/client/go"
)

// The environment is read once in a process, so every case runs in one of its own.
func TestAProxyThatIsInTheWayIsNamed(t *testing.T) {
	if target := os.Getenv("PROXY_TEST_TARGET"); target != "" {
		client, err := tilestream.New(target, &tilestream.Options{Timeout: 20 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		_, err = client.Info(context.Background())
		t.Log(err)
		return
	}
	for _, test := range []struct{ target, variable, exempt, named string }{
		{"server.example:50051", "HTTPS_PROXY", "", "environment's HTTPS_PROXY"},
		{"server.example:50051", "https_proxy", "", "environment's https_proxy"},
		{"server.example:50051", "https_proxy", "server.example", ""},
		{"127.0.0.1:1", "https_proxy", "", ""},
		{"localhost:1", "https_proxy", "", ""},
		{"unix:/nowhere", "https_proxy", "", ""},
	} {
		command := exec.Command(os.Args[0], "-test.run=^TestAProxyThatIsInTheWayIsNamed$", "-test.v")
		proxy := test.variable + "=http://user:secret@127.0.0.1:1" // where nobody listens
		command.Env = append(os.Environ(), "PROXY_TEST_TARGET="+test.target, "NO_PROXY="+test.exempt, proxy)
		output, err := command.CombinedOutput()
		said := string(output)
		if err != nil || !strings.Contains(said, "cannot reach") || strings.Contains(said, "secret") {
			t.Errorf("%v: %v: %s", test, err, said)
		}
		if strings.Contains(said, "through the proxy") != (test.named != "") || !strings.Contains(said, test.named) {
			t.Errorf("%v: %s", test, said)
		}
	}
}
