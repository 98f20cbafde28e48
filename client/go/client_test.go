package tilestream

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
)

func TestTokensThatCannotBeHad(t *testing.T) {
	problem := errors.New("the issuer is away")
	client := serve(t, &fakeServer{}, &Options{TokenSource: func(context.Context) (string, error) { return "", problem }})
	if _, err := client.Info(t.Context()); !errors.Is(err, problem) {
		t.Error(err)
	}
	if _, err := client.Open(t.Context(), nil); !errors.Is(err, problem) {
		t.Error(err)
	}
}

func TestTargetsThatAreNone(t *testing.T) {
	var failed *ConnectionFailedError
	if _, err := New("no\nname:%zz", nil); !errors.As(err, &failed) {
		t.Error(err)
	}
}

// Who uses this client builds no more than these.
func TestDependencies(t *testing.T) {
	text, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	var direct []string
	for _, line := range strings.Split(string(text), "\n") {
		if words := strings.Fields(line); strings.HasPrefix(line, "\t") && !strings.HasSuffix(line, "// indirect") {
			direct = append(direct, words[0])
		}
	}
	want := []string{
		"go.uber.org/goleak", // of the tests
		"google.golang.org/genproto/googleapis/rpc", "google.golang.org/grpc", "google.golang.org/protobuf",
	}
	if !slices.Equal(direct, want) {
		t.Error(direct)
	}
}
