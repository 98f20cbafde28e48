package tilestream

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	pb "github.com/tilestream/tilestream/client/go/tilestream/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
)

// authority issues certificates into files of a folder.
type authority struct {
	folder, file string
	certificate  *x509.Certificate
	key          *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{folder: t.TempDir()}
	a.file = filepath.Join(a.folder, "ca.pem")
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	a.certificate, a.key = create(t, a.file, filepath.Join(a.folder, "ca.key"), template, nil)
	return a
}

// issued are the paths of a certificate and its key.
type issued struct{ certificate, key string }

// issue makes a certificate for these names and addresses (localhost if none), valid from now + begin to now + end.
func (a *authority) issue(t *testing.T, name string, begin, end time.Duration, hosts ...string) issued {
	t.Helper()
	if len(hosts) == 0 {
		hosts = []string{"localhost", "127.0.0.1"}
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(begin), NotAfter: time.Now().Add(end),
	}
	for _, host := range hosts {
		if address := net.ParseIP(host); address != nil {
			template.IPAddresses = append(template.IPAddresses, address)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	made := issued{filepath.Join(a.folder, name+".pem"), filepath.Join(a.folder, name+".key")}
	create(t, made.certificate, made.key, template, a)
	return made
}

func (a *authority) valid(t *testing.T, name string) issued {
	t.Helper()
	return a.issue(t, name, -time.Hour, time.Hour)
}

// server is the configuration of a server that shows this. mutual: clients have to show what a issued.
func (a *authority) server(t *testing.T, shown issued, mutual bool) *tls.Config {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(shown.certificate, shown.key)
	if err != nil {
		t.Fatal(err)
	}
	config := &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: []string{"h2"}}
	if mutual {
		config.ClientCAs, config.ClientAuth = x509.NewCertPool(), tls.RequireAndVerifyClientCert
		config.ClientCAs.AddCert(a.certificate)
	}
	return config
}

func create(t *testing.T, certificate, key string, template *x509.Certificate, by *authority) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	issuer, signer := template, own
	if by != nil {
		issuer, signer = by.certificate, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer, &own.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(own)
	if err != nil {
		t.Fatal(err)
	}
	put(t, certificate, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	put(t, key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}))
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return parsed, own
}

func put(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// listen serves the fake on a socket; config nil: in plain text.
func listen(t *testing.T, fake *fakeServer, config *tls.Config) string {
	t.Helper()
	fake.sessions = map[string]*fakeSession{}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var options []grpc.ServerOption
	if config != nil {
		options = append(options, grpc.Creds(credentials.NewTLS(config)))
	}
	running := grpc.NewServer(options...)
	pb.RegisterSegmentationServiceServer(running, fake)
	go func() { _ = running.Serve(listener) }()
	t.Cleanup(running.Stop)
	return listener.Addr().String()
}

// connect makes a client by these files; nil: in plain text.
func connect(t *testing.T, target string, files *TLSFiles) *Client {
	t.Helper()
	options := &Options{Timeout: 30 * time.Second}
	if files != nil {
		config, err := LoadTLS(*files)
		if err != nil {
			t.Fatal(err)
		}
		options.TLS = config
	}
	client, err := New(target, options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

func TestFramesTravelEncrypted(t *testing.T) {
	a := newAuthority(t)
	camera := a.valid(t, "camera")
	for _, test := range []struct {
		mutual bool
		hosts  []string
		files  TLSFiles
	}{
		{files: TLSFiles{CA: a.file}},
		{mutual: true, files: TLSFiles{CA: a.file, Certificate: camera.certificate, Key: camera.key}},
		{hosts: []string{"seg.example"}, files: TLSFiles{CA: a.file, ServerName: "seg.example"}},
	} {
		shown := a.issue(t, "server", -time.Hour, time.Hour, test.hosts...)
		client := connect(t, listen(t, &fakeServer{}, a.server(t, shown, test.mutual)), &test.files)
		session := open(t, client, nil)
		feed(t, session, 10)
		if count, err := collect(t, session); count != 10 || err != nil {
			t.Error(test, count, err)
		}
	}
}

func TestWhyThereIsNoConnection(t *testing.T) {
	a, others := newAuthority(t), newAuthority(t)
	server := a.valid(t, "server")
	trust := &TLSFiles{CA: a.file}
	stranger := others.valid(t, "stranger")
	strange := &TLSFiles{CA: a.file, Certificate: stranger.certificate, Key: stranger.key}
	for name, test := range map[string]struct {
		server *tls.Config
		client *TLSFiles
		says   string
	}{
		"the server's certificate has expired": {
			a.server(t, a.issue(t, "old", -2*time.Hour, -time.Hour), false), trust, "its certificate has expired: renew it there",
		},
		"it is not valid yet": {
			a.server(t, a.issue(t, "new", time.Hour, 2*time.Hour), false), trust, "its certificate is not valid yet: set this machine's clock",
		},
		"another name": {
			a.server(t, a.issue(t, "named", -time.Hour, time.Hour, "seg.example", "192.0.2.1"), false), trust,
			"its certificate is for seg.example, 192.0.2.1, not for 127.0.0.1: connect by such a name",
		},
		"unknown authority": {a.server(t, server, false), &TLSFiles{CA: others.file}, "not of an authority that this client trusts"},
		"nothing to show":   {a.server(t, server, true), trust, "it lets in only clients that show a certificate"},
		"of an authority that the server does not know": {a.server(t, server, true), strange, "it does not take this client's certificate"},
		"plain text to a server with TLS":               {a.server(t, server, false), nil, "it speaks TLS and this client does not: use Options.TLS"},
		"plain text to a server with mTLS":              {a.server(t, server, true), nil, "it speaks TLS and this client does not"},
		"TLS to a server without":                       {nil, trust, "it does not speak TLS and this client does: connect without"},
	} {
		t.Run(name, func(t *testing.T) {
			target := listen(t, &fakeServer{}, test.server)
			client := connect(t, target, test.client)
			_, asked := client.Info(t.Context())
			_, opened := client.Open(t.Context(), nil)
			for _, err := range []error{asked, opened} {
				expectTLSFailure(t, err, target, test.says)
			}
		})
	}
}

func expectTLSFailure(t *testing.T, err error, target, says string) {
	t.Helper()
	var (
		failed  *TLSFailedError
		general *ConnectionFailedError
		failure *Failure
	)
	if !errors.As(err, &failed) || !errors.As(err, &general) || !errors.As(err, &failure) {
		t.Fatalf("%T: %v", err, err)
	}
	if !strings.HasPrefix(err.Error(), "cannot connect to "+target+": ") || !strings.Contains(err.Error(), says) {
		t.Error(err)
	}
	if failure.Code != codes.Unavailable {
		t.Error(failure.Code)
	}
}

// Servers of gRPC's C++ core, such as the Python server, send no alert when they do not take a certificate.
func TestServersThatCloseWithoutAWord(t *testing.T) {
	a := newAuthority(t)
	config := a.server(t, a.valid(t, "server"), true)
	config.ClientAuth = tls.RequestClientCert
	listener, err := tls.Listen("tcp", "127.0.0.1:0", config)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_ = conn.(*tls.Conn).Handshake()
			conn.Close()
		}
	}()
	camera, target := a.valid(t, "camera"), listener.Addr().String()
	_, err = connect(t, target, &TLSFiles{CA: a.file}).Info(t.Context())
	expectTLSFailure(t, err, target, "it lets in only clients that show a certificate")
	_, err = connect(t, target, &TLSFiles{CA: a.file, Certificate: camera.certificate, Key: camera.key}).Info(t.Context())
	expectTLSFailure(t, err, target, "it does not take this client's certificate")
}

func TestWhereNobodyListensTLSIsNotBlamed(t *testing.T) {
	a := newAuthority(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	target := listener.Addr().String()
	listener.Close()
	for _, files := range []*TLSFiles{nil, {CA: a.file}} {
		_, err := connect(t, target, files).Info(t.Context())
		var failed *TLSFailedError
		if errors.As(err, &failed) || !strings.Contains(err.Error(), "is the server running there?") {
			t.Error(err)
		}
	}
}

// A server that was there and is gone failed for no reason of TLS.
func TestALostConnectionIsNotBlamedOnTLS(t *testing.T) {
	a := newAuthority(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	running := grpc.NewServer(grpc.Creds(credentials.NewTLS(a.server(t, a.valid(t, "server"), false))))
	pb.RegisterSegmentationServiceServer(running, &fakeServer{})
	go func() { _ = running.Serve(listener) }()
	client := connect(t, listener.Addr().String(), &TLSFiles{CA: a.file})
	if _, err := client.Info(t.Context()); err != nil {
		t.Fatal(err)
	}
	running.Stop()
	_, err = client.Info(t.Context())
	var failed *TLSFailedError
	if err == nil || errors.As(err, &failed) {
		t.Error(err)
	}
}

func TestCertificatesAreReadAgain(t *testing.T) {
	a, others := newAuthority(t), newAuthority(t)
	target := listen(t, &fakeServer{}, a.server(t, a.valid(t, "server"), true))
	mine := others.valid(t, "mine")
	client := connect(t, target, &TLSFiles{CA: a.file, Certificate: mine.certificate, Key: mine.key})
	_, err := client.Info(t.Context())
	expectTLSFailure(t, err, target, "it does not take this client's certificate")
	replace := func(by issued) {
		for source, target := range map[string]string{by.certificate: mine.certificate, by.key: mine.key} {
			content, err := os.ReadFile(source)
			if err != nil {
				t.Fatal(err)
			}
			put(t, target, content)
		}
	}
	replace(a.issue(t, "old", -2*time.Hour, -time.Hour))
	for err != nil && !strings.Contains(err.Error(), "mine.pem has expired: renew it") { // gRPC tries again in its own time
		_, err = client.Info(t.Context())
	}
	expectTLSFailure(t, err, target, "mine.pem has expired: renew it")
	replace(a.valid(t, "good"))
	for err != nil {
		_, err = client.Info(t.Context())
	}
}

func TestFilesThatCannotBeUsed(t *testing.T) {
	a := newAuthority(t)
	camera, other, old := a.valid(t, "camera"), a.valid(t, "other"), a.issue(t, "old", -2*time.Hour, -time.Hour)
	absent, garbage, half := filepath.Join(a.folder, "absent"), filepath.Join(a.folder, "garbage"), filepath.Join(a.folder, "half")
	put(t, garbage, []byte("garbage"))
	put(t, half, []byte("-----BEGIN CERTIFICATE-----\nYQ==\n-----END CERTIFICATE-----\n"))
	for _, test := range []struct {
		files           TLSFiles
		option, problem string
	}{
		{TLSFiles{CA: absent}, "ca", "cannot read " + absent + ": no such file"},
		{TLSFiles{CA: garbage}, "ca", garbage + " holds none; it has to be PEM"},
		{TLSFiles{CA: half}, "ca", half + " holds a certificate that cannot be read"},
		{TLSFiles{Certificate: camera.certificate}, "key", "is missing: certificate is given"},
		{TLSFiles{Key: camera.key}, "certificate", "is missing: key is given"},
		{TLSFiles{Certificate: absent, Key: camera.key}, "certificate", "cannot read " + absent},
		{TLSFiles{Certificate: camera.certificate, Key: absent}, "key", "cannot read " + absent},
		{TLSFiles{Certificate: half, Key: camera.key}, "certificate", "cannot be read"},
		{TLSFiles{Certificate: camera.certificate, Key: other.key}, "key", "is not the key of the first certificate"},
		{TLSFiles{Certificate: old.certificate, Key: old.key}, "certificate", "has expired: renew it"},
	} {
		_, err := LoadTLS(test.files)
		var invalid *InvalidConfigError
		if !errors.As(err, &invalid) || len(invalid.Fields) != 1 {
			t.Fatal(test, err)
		}
		if wrong := invalid.Fields[0]; wrong.Field != test.option || !strings.Contains(wrong.Problem, test.problem) {
			t.Error(test, wrong)
		}
	}
}

// A server that is away is not blamed on the handshake that failed before.
func TestTheLatestAttemptIsExplained(t *testing.T) {
	a := newAuthority(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	running := grpc.NewServer(grpc.Creds(credentials.NewTLS(a.server(t, a.valid(t, "server"), false))))
	go func() { _ = running.Serve(listener) }()
	client := connect(t, listener.Addr().String(), &TLSFiles{CA: newAuthority(t).file})
	_, err = client.Info(t.Context())
	expectTLSFailure(t, err, listener.Addr().String(), "not of an authority that this client trusts")
	running.Stop()
	for !strings.Contains(err.Error(), "connection refused") { // gRPC tries again in its own time
		_, err = client.Info(t.Context())
	}
	var failed *TLSFailedError
	if errors.As(err, &failed) {
		t.Error(err)
	}
}

// Tokens go over TLS as over anything else.
func TestTokens(t *testing.T) {
	a, fake := newAuthority(t), &fakeServer{}
	config, err := LoadTLS(TLSFiles{CA: a.file})
	if err != nil {
		t.Fatal(err)
	}
	target := listen(t, fake, a.server(t, a.valid(t, "server"), false))
	token := func(context.Context) (string, error) { return "secret", nil }
	client, err := New(target, &Options{TLS: config, TokenSource: token})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	session := open(t, client, nil)
	session.CloseSend()
	if count, err := collect(t, session); count != 0 || err != nil {
		t.Error(count, err)
	}
	if got := fake.headers[0].Get("authorization"); !slices.Equal(got, []string{"Bearer secret"}) || len(fake.headers) != 1 {
		t.Error(got)
	}
}
