package tilestream

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
)

// TLSFiles are paths of PEM files for a secure connection. The zero value of every field is its default.
type TLSFiles struct {
	// CA holds the authorities to trust. "": the system's.
	CA string
	// Certificate and Key are shown to a server that asks for a certificate. They are read again for every
	// connection, so they may be renewed in place. "": none is shown.
	Certificate, Key string
	// ServerName is the name that the server's certificate has to have. "": the one it is connected by.
	ServerName string
}

// LoadTLS makes Options.TLS of files, which it looks at: an *InvalidConfigError says which of them cannot be used
// and why. TLS is 1.2 at least.
func LoadTLS(files TLSFiles) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: files.ServerName}
	if files.CA != "" {
		pem, err := readPEM("ca", files.CA, "CERTIFICATE")
		if err != nil {
			return nil, err
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, wrongFile("ca", "%s holds a certificate that cannot be read", files.CA)
		}
	}
	if (files.Certificate == "") != (files.Key == "") {
		if files.Key == "" {
			return nil, wrongFile("key", "is missing: certificate is given, and they go together")
		}
		return nil, wrongFile("certificate", "is missing: key is given, and they go together")
	}
	if files.Certificate != "" {
		if _, err := files.own(); err != nil {
			return nil, err
		}
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return files.own() }
	}
	return config, nil
}

// own is the client's certificate, as it is now.
func (f TLSFiles) own() (*tls.Certificate, error) {
	certificate, err := readPEM("certificate", f.Certificate, "CERTIFICATE")
	if err != nil {
		return nil, err
	}
	key, err := readPEM("key", f.Key, "PRIVATE KEY")
	if err != nil {
		return nil, err
	}
	if strings.Contains(string(key), "ENCRYPTED") {
		return nil, wrongFile("key", "%s is encrypted; it has to be without a password", f.Key)
	}
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil && strings.Contains(err.Error(), "does not match") {
		return nil, wrongFile("key", "%s is not the key of the first certificate in %s", f.Key, f.Certificate)
	}
	if err != nil {
		return nil, wrongFile("certificate", "%s and %s cannot be read (%s)", f.Certificate, f.Key, err)
	}
	switch now := time.Now(); {
	case now.After(pair.Leaf.NotAfter):
		return nil, wrongFile("certificate", "%s has expired: renew it (or set this machine's clock)", f.Certificate)
	case now.Before(pair.Leaf.NotBefore):
		return nil, wrongFile("certificate", "%s is not valid yet: set this machine's clock", f.Certificate)
	}
	return &pair, nil
}

func readPEM(option, path, kind string) ([]byte, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		var failed *os.PathError
		if errors.As(err, &failed) {
			err = failed.Err
		}
		return nil, wrongFile(option, "cannot read %s: %s", path, err)
	}
	if !strings.Contains(string(content), kind+"-----") {
		return nil, wrongFile(option, "%s holds none; it has to be PEM, with -----BEGIN %s-----", path, kind)
	}
	return content, nil
}

func wrongFile(option, format string, args ...any) *InvalidConfigError {
	problem := fmt.Sprintf(format, args...)
	return &InvalidConfigError{Failure{Message: option + ": " + problem}, []FieldError{{option, problem}}}
}
