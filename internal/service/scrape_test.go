package service

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sslgate/sslgate/handshake/stdtls"
	"github.com/sslgate/sslgate/internal/config"
	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/work"
)

// scraped is a house whose metrics are read by prometheus.example alone.
func scraped(t *testing.T) *house {
	t.Helper()
	return scrapedBy(t, houseConfig)
}

// scrapedBy is scraped with another configuration to begin with.
func scrapedBy(t *testing.T, base string) *house {
	t.Helper()
	return newHouse(t, func(h *house) {
		h.put("srv.pem", 0o644, nil)
		srv := testpki.Must(h.ca.Issue(testpki.Leaf{DNS: []string{"pay.example"}, IPs: []string{"127.0.0.1"}}))
		chain, key, err := srv.PEM()
		if err != nil {
			t.Fatal(err)
		}
		h.put("srv.pem", 0o644, chain)
		h.put("srv.key", 0o600, key)
		h.put("sslgate.yaml", 0o644, []byte(strings.Replace(base, "token_file: token}", `token_file: token,
  metrics: {listen: "0.0.0.0:9441", from: [127.0.0.0/8], identity: pay, profile: modern,
    client: {authorities: [staff], allow: [{san_dns: [prometheus.example]}]}}}`, 1)))
	})
}

// reader is an HTTP client as Prometheus is one.
func (h *house) reader(t *testing.T, cert *tls.Certificate, change func(*tls.Config)) *http.Client {
	t.Helper()
	cfg := &tls.Config{RootCAs: h.ca.Pool(), ServerName: "127.0.0.1"}
	if cert != nil {
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil }
	}
	if change != nil {
		change(cfg)
	}
	tr := &http.Transport{TLSClientConfig: cfg}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: testenv.Patience()}
}

func fetch(c *http.Client, url string) (int, string, error) {
	res, err := c.Get(url)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return res.StatusCode, string(b), err
}

// /metrics off the loopback: only for who shows the certificate that the
// configuration asks for, and nothing else there.
func TestMetricsWithMutualTLS(t *testing.T) {
	h := scraped(t)
	url := "https://" + h.s.scrapes.String()
	issue := func(l testpki.Leaf) *tls.Certificate {
		c := testpki.Must(h.ca.Issue(l)).TLS()
		return &c
	}
	prometheus := testpki.Must(h.ca.Issue(testpki.Leaf{CN: "prometheus", DNS: []string{"prometheus.example"}}))
	good := prometheus.TLS()
	c := h.reader(t, &good, nil)
	for range 3 {
		code, body, err := fetch(c, url+"/metrics")
		if err != nil || code != http.StatusOK || !strings.Contains(body, "sslgate_build_info") {
			t.Fatalf("%d %v\n%.300s", code, err, body)
		}
	}
	for _, path := range []string{"/", "/v1/status", "/v1/health", "/v1/flows", "/debug/pprof/", "/metrics/x"} {
		if code, body, err := fetch(c, url+path); err != nil || code != http.StatusNotFound {
			t.Errorf("%s: %d %v %.100s", path, code, err, body)
		}
	}
	if res, err := c.Post(url+"/metrics", "text/plain", nil); err != nil || res.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("POST: %v %v", res, err)
	} else {
		res.Body.Close()
	}

	other := testpki.Must(testpki.NewCA(testpki.Options{CN: "other"}))
	foreign := testpki.Must(other.Issue(testpki.Leaf{DNS: []string{"prometheus.example"}})).TLS()
	expired := testpki.Must(h.ca.Expired(testpki.Leaf{DNS: []string{"prometheus.example"}})).TLS()
	stolen := testpki.Thief(prometheus, testpki.Must(testpki.NewKey(testpki.P256)))
	for _, bad := range []struct {
		name   string
		cert   *tls.Certificate
		change func(*tls.Config)
	}{
		{"no certificate", nil, nil},
		{"not allowed", issue(testpki.Leaf{DNS: []string{"alice.example"}}), nil},
		{"another CA", &foreign, nil},
		{"expired", &expired, nil},
		{"stolen", &stolen, nil},
		{"TLS 1.2, which the profile has not", &good, func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }},
	} {
		if code, body, err := fetch(h.reader(t, bad.cert, bad.change), url+"/metrics"); err == nil {
			t.Errorf("%s: %d %.100s", bad.name, code, body)
		}
	}
	plain, err := net.Dial("tcp", h.s.scrapes.String())
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	_, _ = plain.Write([]byte("GET /metrics HTTP/1.0\r\n\r\n"))
	if b, _ := io.ReadAll(plain); strings.Contains(string(b), "sslgate") {
		t.Errorf("plain HTTP is answered: %.100s", b)
	}

	// A certificate that is revoked reads no more: each connection is judged
	// anew.
	h.put("new.crl", 0o644, testpki.CRLPEM(testpki.Must(h.ca.CRL(2, time.Now().Add(time.Hour), prometheus.Cert))))
	if err := os.Rename(filepath.Join(h.dir, "new.crl"), filepath.Join(h.dir, "staff.crl")); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, "a revoked certificate reads no more", func() bool {
		_, _, err := fetch(h.reader(t, &good, nil), url+"/metrics")
		return err != nil
	})
}

// Readers that are not Go's.
func TestMetricsWithCurlAndOpenSSL(t *testing.T) {
	testenv.Tool(t, "curl")
	testenv.Tool(t, "openssl")
	h := scraped(t)
	if _, _, err := testpki.Must(h.ca.Issue(testpki.Leaf{CN: "prometheus", DNS: []string{"prometheus.example"}})).WritePEM(h.dir, "prom"); err != nil {
		t.Fatal(err)
	}
	curl := func(args ...string) (string, error) {
		ctx, cancel := context.WithTimeout(context.Background(), testenv.Patience())
		defer cancel()
		cmd := exec.CommandContext(ctx, "curl", append([]string{"-sS", "--cacert", "ca.pem", fmt.Sprintf("https://%s/metrics", h.s.scrapes)}, args...)...)
		cmd.Dir = h.dir
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := curl("--cert", "prom.pem", "--key", "prom.key"); err != nil || !strings.Contains(out, "sslgate_build_info") {
		t.Errorf("curl: %v\n%.300s", err, out)
	}
	if out, err := curl(); err == nil || strings.Contains(out, "sslgate_") {
		t.Errorf("curl without a certificate: %v\n%.300s", err, out)
	}
	ctx, cancel := context.WithTimeout(context.Background(), testenv.Patience())
	defer cancel()
	cmd := exec.CommandContext(ctx, "openssl", "s_client", "-quiet", "-verify_return_error", "-CAfile", "ca.pem", "-cert", "prom.pem", "-key", "prom.key",
		"-connect", h.s.scrapes.String())
	cmd.Dir, cmd.Stdin = h.dir, strings.NewReader("GET /metrics HTTP/1.0\r\nHost: x\r\n\r\n")
	if out, err := cmd.CombinedOutput(); !strings.Contains(string(out), "sslgate_build_info") {
		t.Errorf("openssl: %v\n%.300s", err, out)
	}
}

// Whoever says nothing holds a place for five seconds. From one address that is
// eight places, and others are not kept out; from many it is all there are, and
// those beyond it are closed at once.
func TestMetricsSilentCallers(t *testing.T) {
	testenv.Slow(t)
	h := scraped(t)
	port := h.s.scrapes.Port()
	silent := func(host byte) net.Conn {
		t.Helper()
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, host)}}
		c, err := d.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	closed := func(c net.Conn) bool {
		_ = c.SetReadDeadline(time.Now().Add(2 * time.Second)) // less than the five
		_, err := c.Read(make([]byte, 1))
		return !errors.Is(err, os.ErrDeadlineExceeded)
	}
	good := testpki.Must(h.ca.Issue(testpki.Leaf{DNS: []string{"prometheus.example"}})).TLS()
	reads := func() error {
		code, _, err := fetch(h.reader(t, &good, nil), "https://"+h.s.scrapes.String()+"/metrics")
		if err == nil && code != http.StatusOK {
			err = fmt.Errorf("status %d", code)
		}
		return err
	}
	first, began := silent(1), time.Now()
	for range 7 {
		silent(1)
	}
	for n := 0; n < 64 && time.Since(began) < 2*time.Second; n++ { // before the first are thrown out
		if !closed(silent(1)) {
			t.Fatal("one address holds more than eight places")
		}
	}
	if err := reads(); err != nil {
		t.Errorf("beside a silent address: %v", err)
	}
	_ = first.SetReadDeadline(testenv.Deadline())
	if _, err := first.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("a silent caller is kept for longer than 5 s")
	}
	for host := range byte(8) {
		for range 8 {
			silent(10 + host)
		}
	}
	if !closed(silent(99)) {
		t.Error("there are more than 64 places")
	}
	testenv.Eventually(t, "the silent ones are thrown out, and it reads", func() bool { return reads() == nil })
}

// Without mutual TLS there is no listener off the loopback, and check says so.
func TestMetricsCheck(t *testing.T) {
	const terms = `identity: pay, client: {authorities: [staff]}`
	for _, c := range []struct{ admin, want string }{
		{`{socket: "off", metrics: {listen: "0.0.0.0:9441", ` + terms + `}}`, ""},
		{`{socket: "off", metrics: {listen: "[::]:9441", ` + terms + `}}`, ""},
		{`{http: "0.0.0.0:9440", token_file: token}`, "admin.metrics serves /metrics there, with mutual TLS"},
		{`{metrics: {listen: "9441", ` + terms + `}}`, "is no address with a port"},
		{`{metrics: {` + terms + `}}`, "needs listen"},
		{`{metrics: {listen: "0.0.0.0:9441", identity: pay}}`, "authorities"},
		{`{metrics: {listen: "0.0.0.0:9441", client: {authorities: [staff]}}}`, "identity"},
		{`{metrics: {listen: "0.0.0.0:9441", identity: pay, client: {certificate: none}}}`, "is always required here"},
		{`{metrics: {listen: "0.0.0.0:9441", identity: pay, client: {certificate: optional, authorities: [staff]}}}`, "is always required here"},
		{`{metrics: {listen: "0.0.0.0:9441", identity: pya, client: {authorities: [staff]}}}`, `did you mean "pay"?`},
		{`{metrics: {listen: "0.0.0.0:9441", identity: pay, client: {authorities: [stuff]}}}`, `did you mean "staff"?`},
		{`{metrics: {listen: "0.0.0.0:9441", identity: pay, from: [300.0.0.1], client: {authorities: [staff]}}}`, "300.0.0.1"},
		{`{metrics: {listen: "0.0.0.0:9441", identity: pay, client: {authorities: [staff], allow: [{san_dns: ["a*b"]}]}}}`, "a*b"},
	} {
		h := files(t)
		text := strings.Replace(houseConfig, `admin: {socket: a.sock, http: "127.0.0.1:9440", token_file: token}`, "admin: "+c.admin, 1)
		h.put("sslgate.yaml", 0o644, []byte(text))
		rt, found := config.Check(filepath.Join(h.dir, "sslgate.yaml"), stdtls.New())
		var all []string
		for _, f := range found {
			all = append(all, f.String())
		}
		said := strings.Join(all, "\n")
		if (rt != nil) != (c.want == "") || !strings.Contains(said, c.want) || c.want == "" && len(found) > 0 {
			t.Errorf("%s: want %q, found:\n%s", c.admin, c.want, said)
		}
	}
}

// A reader of /metrics waits for a turn among the gateway's clients, and pays
// for what it costs: a flood of costly handshakes there is no way round limits.
func TestMetricsTakeTurns(t *testing.T) {
	h := scraped(t)
	good := testpki.Must(h.ca.Issue(testpki.Leaf{DNS: []string{"prometheus.example"}})).TLS()
	url := "https://" + h.s.scrapes.String() + "/metrics"
	before := h.s.gateway.Handshakes()
	if code, _, err := fetch(h.reader(t, &good, nil), url); err != nil || code != http.StatusOK {
		t.Fatal(code, err)
	}
	after := h.s.gateway.Handshakes()
	if after.Begun != before.Begun+1 || after.Work < before.Work+0.3 {
		t.Errorf("before %+v, after %+v", before, after)
	}
	// In debt, it waits for longer than it has.
	h.s.gateway.Turns().Charge(netip.MustParseAddr("127.0.0.1"), 1_000_000*work.Ordinary)
	done := make(chan error, 1)
	go func() {
		_, _, err := fetch(h.reader(t, &good, nil), url)
		done <- err
	}()
	testenv.Eventually(t, "it waits", func() bool { return h.s.gateway.Handshakes().Waiting == 1 })
	h.s.gateway.Turns().Charge(netip.MustParseAddr("127.0.0.1"), -1_000_000*work.Ordinary)
	if err := <-done; err != nil {
		t.Errorf("when its turn came: %v", err)
	}
}

// While a responder is asked about its certificate, a reader of /metrics holds no
// turn; once it has answered, the reader goes on.
func TestMetricsHoldNoTurnForAResponder(t *testing.T) {
	asked, answer := make(chan struct{}), make(chan struct{})
	ln := testpki.Must(net.Listen("tcp", "127.0.0.1:0"))
	responder := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked <- struct{}{}
		<-answer
		w.WriteHeader(http.StatusNotFound)
	})}
	over := make(chan struct{})
	go func() { defer close(over); _ = responder.Serve(ln) }()
	defer func() { _ = responder.Close(); <-over }()
	h := scrapedBy(t, strings.Replace(houseConfig, "crl: [staff.crl]}", `ocsp: {url: "http://`+ln.Addr().String()+`/"}, revocation: soft}`, 1))
	good := testpki.Must(h.ca.Issue(testpki.Leaf{DNS: []string{"prometheus.example"}})).TLS()
	done := make(chan error, 1)
	go func() {
		code, _, err := fetch(h.reader(t, &good, nil), "https://"+h.s.scrapes.String()+"/metrics")
		if err == nil && code != http.StatusOK {
			err = fmt.Errorf("status %d", code)
		}
		done <- err
	}()
	select {
	case <-asked:
	case err := <-done:
		t.Fatalf("no responder was asked: %v", err)
	}
	if s := h.s.gateway.Handshakes(); s.ForOthers != 1 || s.InFlight != 1 {
		t.Errorf("while the responder is asked: %+v", s)
	}
	close(answer)
	for {
		select {
		case <-asked: // again, about the proven peer
			continue
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
		}
		break
	}
}
