package tilestream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/credentials"
)

const probeTimeout = 2 * time.Second // of the connection that finds out whether a port speaks TLS

const (
	speaksTLS         = "it speaks TLS and this client does not: use Options.TLS (LoadTLS, with CA for an authority of your own)"
	speaksPlainText   = "it does not speak TLS and this client does: connect without Options.TLS, or give the server a certificate"
	unknownServer     = "its certificate is not of an authority that this client trusts: give the authority's certificate (LoadTLS: CA)"
	showACertificate  = "it lets in only clients that show a certificate, so give yours (LoadTLS: Certificate and Key)"
	unknownClient     = "it does not take this client's certificate, so use one of an authority that the server trusts (its tls_client_ca)"
	closedAfterwards  = "it closes the connection after the handshake: "
	remoteError       = "remote error"         // how crypto/tls names an alert of the other side
	certificateNeeded = "certificate required" // such an alert
	unknownAuthority  = "unknown certificate authority"
)

// handshakes are watched, since gRPC keeps of an error nothing but its text, and says little where a server closes
// the connection because it does not take the client's certificate, or because only one side speaks TLS.
type handshakes struct {
	credentials.TransportCredentials
	config *tls.Config // nil: plain text
	latest *latestFailure
}

// latestFailure is how the latest connection failed, shared by the clones of its handshakes.
type latestFailure struct {
	mu   sync.Mutex
	err  error    // of the handshake, or of the first read after it
	peer net.Addr // of a connection whose handshake was all right; nil: it was not
}

func watch(transport credentials.TransportCredentials, config *tls.Config) *handshakes {
	return &handshakes{transport, config, &latestFailure{}}
}

// ClientHandshake is that of the credentials; how it ends is kept.
func (h *handshakes) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn, info, err := h.TransportCredentials.ClientHandshake(ctx, authority, raw)
	if err != nil {
		h.latest.set(err, nil)
		return conn, info, err
	}
	return &watchedConn{Conn: conn, latest: h.latest}, info, nil
}

// Clone shares what is kept.
func (h *handshakes) Clone() credentials.TransportCredentials {
	return &handshakes{h.TransportCredentials.Clone(), h.config, h.latest}
}

// watchedConn keeps how it fails before anything was read: servers speak first.
type watchedConn struct {
	net.Conn
	latest *latestFailure
	begun  atomic.Bool
}

func (c *watchedConn) Read(buffer []byte) (int, error) {
	count, err := c.Conn.Read(buffer)
	if !c.begun.Load() {
		c.begin(count > 0, err)
	}
	return count, err
}

func (c *watchedConn) Write(buffer []byte) (int, error) {
	count, err := c.Conn.Write(buffer)
	if err != nil && !c.begun.Load() {
		c.begin(false, err)
	}
	return count, err
}

func (c *watchedConn) begin(works bool, err error) {
	if works {
		c.begun.Store(true)
		c.latest.set(nil, nil)
	} else if err != nil {
		c.latest.set(err, c.RemoteAddr())
	}
}

func (l *latestFailure) set(err error, peer net.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.err, l.peer = err, peer
}

// why is what TLS has to do with it that no connection came about, of which gRPC says this, and what to do; "":
// nothing.
func (h *handshakes) why(said string) string {
	h.latest.mu.Lock()
	err, peer := h.latest.err, h.latest.peer
	h.latest.mu.Unlock()
	switch {
	case err == nil, strings.Contains(said, "Error while dialing"): // it did not come to a handshake this time
		return ""
	case h.config == nil:
		if peer != nil && takesTLS(peer) {
			return speaksTLS
		}
		return ""
	case peer != nil && !isAlert(err):
		return closedAfterwards + h.aboutOurs()
	}
	return h.explain(err)
}

// explain says what is wrong with a handshake.
func (h *handshakes) explain(err error) string {
	var (
		invalid  x509.CertificateInvalidError
		another  x509.HostnameError
		unknown  x509.UnknownAuthorityError
		noRecord tls.RecordHeaderError
		ours     *InvalidConfigError
	)
	switch {
	case errors.As(err, &ours): // since the client was made, such as a date that came
		return ours.Message
	case errors.As(err, &noRecord):
		return speaksPlainText
	case errors.As(err, &another):
		return fmt.Sprintf(
			"its certificate is for %s, not for %s: connect by such a name, or say which one to expect (LoadTLS: ServerName)",
			names(another.Certificate), another.Host,
		)
	case errors.As(err, &unknown):
		return unknownServer
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		if time.Now().Before(invalid.Cert.NotBefore) {
			return "its certificate is not valid yet: set this machine's clock, or the server's"
		}
		return "its certificate has expired: renew it there (or set this machine's clock)"
	case isAlert(err):
		return h.explainAlert(err.Error())
	}
	var untrusted *tls.CertificateVerificationError
	if errors.As(err, &untrusted) {
		return "its certificate is not accepted: " + untrusted.Err.Error()
	}
	return ""
}

// explainAlert: the server breaks off.
func (h *handshakes) explainAlert(text string) string {
	switch {
	case strings.Contains(text, certificateNeeded), strings.Contains(text, "handshake failure") && !h.showsOne():
		return showACertificate
	case strings.Contains(text, unknownAuthority):
		return unknownClient
	}
	return "it breaks off the TLS handshake (" + text + ")"
}

func (h *handshakes) aboutOurs() string {
	if h.showsOne() {
		return unknownClient
	}
	return showACertificate
}

// showsOne: the client has a certificate.
func (h *handshakes) showsOne() bool {
	return len(h.config.Certificates) > 0 || h.config.GetClientCertificate != nil
}

func isAlert(err error) bool {
	var failed *net.OpError
	return errors.As(err, &failed) && failed.Op == remoteError
}

// names are those that a certificate is for.
func names(certificate *x509.Certificate) string {
	found := append([]string{}, certificate.DNSNames...)
	for _, address := range certificate.IPAddresses {
		found = append(found, address.String())
	}
	if len(found) == 0 {
		return "others"
	}
	return strings.Join(found, ", ")
}

// takesTLS makes one more connection to find out.
func takesTLS(peer net.Addr) bool {
	if _, ok := peer.(*net.TCPAddr); !ok {
		return false
	}
	anyone := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}} // it is only asked, and told nothing
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: probeTimeout}, "tcp", peer.String(), anyone)
	if err != nil {
		return isAlert(err)
	}
	_ = conn.Close()
	return true
}
