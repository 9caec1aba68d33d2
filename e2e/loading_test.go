package e2e

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab"
	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/reason"
)

// hostileLists are what servers of revocation lists answer: a claim of 255 MiB
// and nothing behind it, zeros without end, drops, and a list of 180,000
// entries, nearly as large as one may be.
func hostileLists(t *testing.T, w *world) http.Handler {
	t.Helper()
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now().Add(-time.Hour), NextUpdate: time.Now().Add(time.Hour)}
	for i := range 180_000 {
		serial := new(big.Int).Lsh(big.NewInt(int64(i+1)), 100)
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: serial, RevocationTime: list.ThisUpdate, ReasonCode: 1})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, w.ca.Cert, w.ca.Key)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/claim", func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Length", "267386880")
		rw.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	mux.HandleFunc("/zeros", func(rw http.ResponseWriter, _ *http.Request) {
		for {
			if _, err := rw.Write(make([]byte, 64<<10)); err != nil {
				return
			}
		}
	})
	mux.HandleFunc("/drops", func(rw http.ResponseWriter, r *http.Request) {
		_, _ = rw.Write(make([]byte, 7<<20))
		rw.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	mux.HandleFunc("/large", func(rw http.ResponseWriter, _ *http.Request) { _, _ = rw.Write(der) })
	return mux
}

// What the gateway loads ends no live flow, however small limits.memory is: neither lists of
// hostile servers, nor a really large list, nor reloads of costly configurations that are
// refused.
func TestLoadingEndsNoFlow(t *testing.T) {
	const ceiling = 160 << 20
	w := newWorld(t, lab.Options{})
	w.origin(server(false), serveEcho)
	ln, err := w.lab.Listen(lab.Server, "tcp", netip.AddrPortFrom(lab.ServerAddr(0, false), 8000).String())
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: hostileLists(t, w)}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(ln) }()
	t.Cleanup(func() { _ = srv.Close(); <-done })

	w.limits(payRule, "{handshake: 10s, drain: 1s, memory: 160MiB}")
	config := w.rewrite("admin: {socket: off}", "admin: {socket: admin.sock}")
	g := w.startBinary(plainBinary(t), config)
	var flows []*tls.Conn
	for range 20 {
		c, err := w.dialTLS(false, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		flows = append(flows, c)
	}
	alive := func(when string) {
		t.Helper()
		for i, c := range flows {
			_ = c.SetDeadline(testenv.Deadline())
			_, err := c.Write([]byte("word"))
			if err == nil {
				_, err = io.ReadFull(c, make([]byte, 4))
			}
			if err != nil {
				t.Fatalf("%s: flow %d: %v\n%s", when, i, err, g.stderr.String())
			}
		}
	}
	alive("at first")
	good := w.read("sslgate.yaml")
	reload := func(taken bool) {
		t.Helper()
		if out, err := w.sslgate("reload", "--socket", w.socket()); (err == nil) != taken {
			t.Errorf("reload: %v\n%.2000s", err, out)
		}
	}

	list := "[" + strings.TrimSuffix(strings.Repeat("\"10.0.0.1:443\", ", 4000), ", ") + "]"
	for name, rules := range map[string]string{
		"aliases":  "    - {name: many, action: deny, to: &to " + list + "}\n" + strings.Repeat("    - {name: r, action: deny, to: *to}\n", 4000),
		"values":   strings.Repeat("    - {name: r, action: deny, to: [a, b, c, d, e, f, g, h]}\n", 40_000),
		"mistakes": strings.Repeat("    - {nam: r}\n", 100_000),
	} {
		w.pem("sslgate.yaml", []byte(strings.Replace(good, "  rules:\n", "  rules:\n"+rules, 1)))
		reload(false)
		alive("after a reload that was refused, " + name)
	}

	at := "http://" + ln.Addr().String()
	w.pem("sslgate.yaml", []byte(strings.Replace(good, "staff: {roots: ca.pem}",
		fmt.Sprintf("staff: {roots: ca.pem, revocation: soft, crl: [%q, %q, %q, %q]}", at+"/claim", at+"/zeros", at+"/drops", at+"/large"), 1)))
	reload(true)
	if !g.stderr.wait("revocation list taken", g.cmd.Done()) {
		t.Fatalf("the large list was not taken:\n%s", g.stderr.String())
	}
	for deadline := time.Now().Add(2 * testenv.Patience()); strings.Count(g.stderr.String(), "revocation list not taken") < 3; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not all of the others are said:\n%s", g.stderr.String())
		}
		alive("while lists come")
	}
	alive("with the list")
	w.echo("a new flow")
	if most := peak(t, g.cmd.Process.Pid); most > ceiling {
		t.Errorf("%d MiB resident, the ceiling is %d MiB", most>>20, ceiling>>20)
	}
	for _, c := range flows {
		_ = c.Close()
	}
	g.stop(syscall.SIGTERM)
	for _, r := range w.records(21) {
		if r.str("end") == string(reason.EndMemory) || r.str("reason") == string(reason.MemoryLimit) {
			t.Errorf("ended or refused for want of memory: %v", r)
		}
	}
}
