package tilestream

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/big"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	pb "github.com/tilestream/tilestream/client/go/tilestream/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
)

// certified makes a certificate for 127.0.0.1, and who trusts it.
func certified(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

func TestTLS(t *testing.T) {
	certificate, pool := certified(t)
	fake := &fakeServer{sessions: map[string]*fakeSession{}}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	running := grpc.NewServer(grpc.Creds(credentials.NewServerTLSFromCert(&certificate)))
	pb.RegisterSegmentationServiceServer(running, fake)
	go func() { _ = running.Serve(listener) }()
	defer running.Stop()
	token := func(context.Context) (string, error) { return "secret", nil }
	for _, test := range []struct {
		config *tls.Config
		right  bool
	}{{&tls.Config{RootCAs: pool}, true}, {&tls.Config{}, false}, {nil, false}} {
		client, err := New(listener.Addr().String(), &Options{TLS: test.config, TokenSource: token, Timeout: 5 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		session, err := client.Open(t.Context(), nil)
		var failed *ConnectionFailedError
		if test.right != (err == nil) || test.right == errors.As(err, &failed) {
			t.Error(test.right, err)
		}
		if session != nil {
			session.CloseSend()
			if count, err := collect(t, session); count != 0 || err != nil {
				t.Error(count, err)
			}
		}
		client.Close()
	}
	if got := fake.headers[0].Get("authorization"); !slices.Equal(got, []string{"Bearer secret"}) || len(fake.headers) != 1 {
		t.Error(got)
	}
}

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
