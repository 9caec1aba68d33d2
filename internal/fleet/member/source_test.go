package member

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/sslgate/sslgate/internal/fleet/bundle"
	"github.com/sslgate/sslgate/internal/fleet/seal"
	"github.com/sslgate/sslgate/internal/lab/testpki"
)

func poolOf(roots *x509.CertPool) func() (*x509.CertPool, error) {
	return func() (*x509.CertPool, error) { return roots, nil }
}

// A web server is as good as a directory: the same bundle, by mutual TLS, and an unchanged one is
// not sent again.
func TestWebSource(t *testing.T) {
	o := newOffice(t)
	ca := testpki.Must(testpki.NewCA(testpki.Options{}))
	var heads, bodies, redirects atomic.Int64
	files := http.FileServer(http.Dir(o.dir))
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case redirects.Load() > 0:
			http.Redirect(w, r, "/elsewhere", http.StatusFound)
			return
		case r.URL.Path == "/at/"+bundle.HeadName:
			heads.Add(1)
			text, err := os.ReadFile(filepath.Join(o.dir, bundle.HeadName))
			if err != nil {
				break
			}
			w.Header().Set("ETag", `"`+bundle.Sum(text)+`"`)
			if r.Header.Get("If-None-Match") != `"`+bundle.Sum(text)+`"` {
				bodies.Add(1)
			}
		}
		http.StripPrefix("/at", files).ServeHTTP(w, r)
	}))
	pair := testpki.Must(ca.Issue(testpki.Leaf{IPs: []string{"127.0.0.1"}})).TLS()
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.Pool()}
	srv.StartTLS()
	defer srv.Close()
	own := testpki.Must(ca.Issue(testpki.Leaf{URIs: []string{"spiffe://acme/gw/berlin/one"}})).TLS()
	use := func(roots *x509.CertPool, cert *tls.Certificate) func(*Options) {
		return func(opt *Options) {
			opt.Source, opt.Credentials.Roots = srv.URL+"/at", poolOf(roots)
			if cert != nil {
				opt.Credentials.Certificate = func() (tls.Certificate, error) { return *cert, nil }
			}
		}
	}
	g := o.gate("berlin", use(ca.Pool(), &own))
	g.refuses("nothing is there", seal.Unreachable)
	o.publish(1)
	g.looks(1)
	g.looks(0)
	g.looks(0)
	if heads.Load() != 4 || bodies.Load() != 1 {
		t.Errorf("asked %d times, sent %d times", heads.Load(), bodies.Load())
	}
	o.publish(2)
	g.looks(2)
	o.put(bundle.HeadName, make([]byte, seal.MaxEnvelope+1))
	g.refuses("an endless answer", seal.TooLarge)
	redirects.Store(1)
	g.refuses("a redirect", seal.Unreachable)
	redirects.Store(0)
	o.gate("berlin", use(ca.Pool(), nil)).refuses("without the gateway's certificate", seal.Unreachable)
	other := testpki.Must(testpki.NewCA(testpki.Options{}))
	o.gate("berlin", use(other.Pool(), &own)).refuses("a server of another CA", seal.Unreachable)
}

func TestSourcesThatAreTaken(t *testing.T) {
	for text, ok := range map[string]bool{
		"file:/srv/fleet": true, "https://fleet.example/a/b": true, "https://fleet.example": true,
		"file:srv": false, "http://fleet.example": false, "https://u:p@fleet.example": false, "https://": false,
		"file://host/x": false, "https://a/?x=1": false, "https://a/#x": false, "": false, "/srv/fleet": false, "etcd://a": false,
		"etcd://a:2379/sslgate/acme": true, "etcd://a:2379,[::1]:2380/x": true, "etcd://a:2379": false, "etcd://a:2379/": false, "etcd://a:2379/../x": false,
		"etcd://a:2379,b/x": false, "etcd://:2379/x": false, "etcd://a:0/x": false, "etcd://u@a:2379/x": false, "etcd://a:2379/x?y": false, "etcd:///x": false,
	} {
		if _, err := parseSource(text); (err == nil) != ok {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestNames(t *testing.T) {
	ca := testpki.Must(testpki.NewCA(testpki.Options{}))
	for _, c := range []struct {
		uris []string
		ok   bool
	}{
		{[]string{"spiffe://acme/gw/berlin/one"}, true},
		{[]string{"spiffe://acme/gw/berlin/one", "spiffe://acme/pay"}, true},
		{[]string{"spiffe://acme/gw/berlin/one", "spiffe://acme/gw/oslo/one"}, false},
		{[]string{"spiffe://acme/gw/berlin"}, false},
		{[]string{"spiffe://acme/gw/../one"}, false},
		{[]string{"https://acme/gw/berlin/one"}, false},
		{nil, false},
	} {
		leaf := testpki.Must(ca.Issue(testpki.Leaf{DNS: []string{"a.example"}, URIs: c.uris}))
		fleet, site, gw, err := Names(leaf.Cert)
		if (err == nil) != c.ok || c.ok && (fleet != "acme" || site != "berlin" || gw != "one") {
			t.Errorf("%v: %q, %q, %q, %v", c.uris, fleet, site, gw, err)
		}
	}
}
