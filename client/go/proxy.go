package tilestream

import (
	"net/http"
	"net/url"
	"os"
	"strings"
)

// throughProxy tells, at the end of an error, that calls to target go through a proxy of the environment and which
// variable names it; not its value, which may hold a password. gRPC asks none for what is on this machine.
func throughProxy(target string) string {
	if strings.HasPrefix(target, "unix:") || strings.HasPrefix(target, "unix-abstract:") {
		return ""
	}
	proxy, err := http.ProxyFromEnvironment(&http.Request{URL: &url.URL{Scheme: "https", Host: target}})
	if err != nil || proxy == nil {
		return ""
	}
	for _, name := range []string{"HTTPS_PROXY", "https_proxy"} { // as gRPC looks for it, TLS or not
		if os.Getenv(name) != "" {
			return " (through the proxy of the environment's " + name + "; NO_PROXY exempts hosts)"
		}
	}
	return ""
}
