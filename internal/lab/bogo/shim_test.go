package bogo

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/lab/testpki"
)

// Flags are for the connections that they name, and belong to the certificate before them.
func TestParse(t *testing.T) {
	first, later, err := parse(strings.Fields("-server -port 7 -on-resume-expect-alpn h2 -on-initial-min-version 771 -curves 29 -curves 23 " +
		"-on-shim-no-tls13 -on-handshaker-no-tls12 -on-retry-verify-fail -cert-file plain " +
		"-new-x509-credential -cert-file a -key-file b -new-x509-credential -cert-file c"))
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range []*options{first, later} {
		groups, err := ids(o.values["curves"])
		if err != nil || !slices.Equal(groups, []uint16{29, 23}) || !o.has("server") || !o.has("no-tls13") || o.has("no-tls12") || o.has("verify-fail") {
			t.Errorf("%+v, %v", o, err)
		}
		if len(o.credentials) != 2 || o.credentials[0]["key-file"][0] != "b" || o.credentials[1]["cert-file"][0] != "c" || o.text("cert-file") != "plain" {
			t.Errorf("%+v", o.credentials)
		}
	}
	if first.has("expect-alpn") || later.text("expect-alpn") != "h2" || later.has("min-version") || first.text("min-version") != "771" {
		t.Errorf("%+v, %+v", first.values, later.values)
	}
	for _, bad := range []string{"server", "-port"} {
		if _, _, err := parse([]string{bad}); err == nil || errors.Is(err, errUnimplemented) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

// The exit codes are what the runner takes them for.
func TestExitCodes(t *testing.T) {
	for args, code := range map[string]int{
		"-is-handshaker-supported":       exitOK,
		"-config std":                    exitOK,
		"-config native":                 exitOK,
		"-config none":                   exitFailed,
		"-psk secret":                    exitUnimplemented,
		"-on-resume-renegotiate-freely":  exitUnimplemented,
		"-resume-count 1":                exitUnimplemented,
		"-server -port 1 -shim-id 1":     exitUnimplemented, // without a certificate
		"-max-version 770":               exitUnimplemented,
		"-port x -shim-id 1":             exitFailed,
		"-engine other -port 1":          exitFailed,
		"-port 1 -shim-id 1 -trust-cert": exitFailed,
	} {
		var stdout, stderr bytes.Buffer
		if got := Run(t.Context(), strings.Fields(args), &stdout, &stderr); got != code {
			t.Errorf("%s: %d, %s", args, got, stderr.String())
		}
		if code == exitOK && stdout.Len() == 0 || code != exitOK && stderr.Len() == 0 {
			t.Errorf("%s: says nothing", args)
		}
	}
}

// Each feature that tests are left out for has its reason, and each pattern is one.
func TestConfig(t *testing.T) {
	list, err := features(disabledText)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, f := range list {
		if len(f.patterns) == 0 || len(f.reason) < 20 {
			t.Errorf("%q: %v", f.reason, f.patterns)
		}
		for _, p := range f.patterns {
			_, err := filepath.Match(p, "name")
			if key := f.engine + p; err != nil || p != strings.TrimSpace(p) || p == "*" || seen[key] || seen["both"+p] {
				t.Errorf("pattern %q, %v", p, err)
			} else {
				seen[key] = true
			}
		}
	}
	for _, engine := range []string{"std", "native"} {
		text, err := Config(engine)
		if err != nil {
			t.Fatal(err)
		}
		var config struct {
			DisabledTests map[string]string
			ErrorMap      map[string][]string
		}
		if err := json.Unmarshal(text, &config); err != nil || len(config.DisabledTests) == 0 || len(config.ErrorMap) == 0 {
			t.Errorf("%s: %v", text, err)
		}
		for name, words := range config.ErrorMap {
			if slices.Contains(words, "") {
				t.Errorf("%s is any error", name)
			}
		}
	}
	for _, bad := range []string{"\tpattern", "word", "other reason"} {
		if _, err := features(bad); err == nil {
			t.Errorf("%q can be read", bad)
		}
	}
}

// runner plays BoGo's part: it takes the shim's connections, one by one.
type runner struct {
	listener net.Listener
	args     []string
}

const shimID = 0x0102030405060708

func newRunner(t *testing.T, args ...string) *runner {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	port := l.Addr().(*net.TCPAddr).Port
	return &runner{listener: l, args: append([]string{"-port", strconv.Itoa(port), "-shim-id", strconv.FormatUint(shimID, 10)}, args...)}
}

// with runs the shim against what peer does with each connection.
func (r *runner) with(t *testing.T, peers ...func(net.Conn) error) (code int, stderr string) {
	t.Helper()
	type end struct {
		code int
		text string
	}
	done := make(chan end, 1)
	ctx, cancel := context.WithCancel(testenv.Context(t))
	go func() {
		var stdout, stderr bytes.Buffer
		code := Run(ctx, r.args, &stdout, &stderr)
		done <- end{code, stderr.String()}
	}()
	defer cancel()
	for i, peer := range peers {
		_ = r.listener.(*net.TCPListener).SetDeadline(testenv.Deadline())
		conn, err := r.listener.Accept()
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(testenv.Deadline())
		var id [8]byte
		if _, err := io.ReadFull(conn, id[:]); err != nil || binary.LittleEndian.Uint64(id[:]) != shimID {
			t.Fatalf("%x, %v", id, err)
		}
		if err := peer(conn); err != nil {
			t.Errorf("connection %d: %v", i, err)
		}
		_ = conn.Close()
	}
	e := testenv.Receive(t, "the shim's end", done)
	return e.code, e.text
}

// echoed sends data and wants it back with its bits turned.
func echoed(c *tls.Conn) error {
	if _, err := c.Write([]byte{0, 1, 0xff}); err != nil {
		return err
	}
	got := make([]byte, 3)
	if _, err := io.ReadFull(c, got); err != nil {
		return err
	}
	if !bytes.Equal(got, []byte{0xff, 0xfe, 0}) {
		return errors.New("other data came back")
	}
	if err := c.CloseWrite(); err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, c)
	return err
}

// files are a certificate for "test" and the root above it, as BoGo writes them.
func files(t *testing.T) (cert, key, root string, pair tls.Certificate, ca *testpki.CA) {
	t.Helper()
	ca = testpki.Must(testpki.NewCA(testpki.Options{CN: "Root"}))
	leaf := testpki.Must(ca.Issue(testpki.Leaf{CN: "test", DNS: []string{serverName}}))
	dir := t.TempDir()
	cert, key, err := leaf.WritePEM(dir, "leaf")
	if err != nil {
		t.Fatal(err)
	}
	root = filepath.Join(dir, "root.pem")
	if err := os.WriteFile(root, ca.PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	return cert, key, root, leaf.TLS(), ca
}

// Both engines, both sides, both versions: against crypto/tls in BoGo's place.
func TestShim(t *testing.T) {
	cert, key, root, pair, ca := files(t)
	for _, engine := range []string{"std", "native"} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			is := func(want bool) []string {
				if want {
					return nil
				}
				return []string{"-expect-version", "769"} // what no handshake comes to
			}
			for _, fits := range []bool{true, false} {
				code := exitOK
				if !fits {
					code = exitFailed
				}
				name := engine + " " + tls.VersionName(version) + " " + strconv.FormatBool(fits)
				t.Run(name+" server", func(t *testing.T) {
					config := &tls.Config{RootCAs: ca.Pool(), ServerName: serverName, MinVersion: version, MaxVersion: version, ClientSessionCache: tls.NewLRUClientSessionCache(1)}
					client := func(resumed bool) func(net.Conn) error {
						return func(raw net.Conn) error {
							c := tls.Client(raw, config)
							err := echoed(c)
							if err == nil && c.ConnectionState().DidResume != resumed {
								err = errors.New("resumed: another than expected")
							}
							if !fits {
								return nil // the shim may end at any time
							}
							return err
						}
					}
					peers := []func(net.Conn) error{client(false), client(true)}
					if !fits {
						peers = peers[:1]
					}
					r := newRunner(t, append(is(fits), "-engine", engine, "-server", "-cert-file", cert, "-key-file", key, "-resume-count", "1")...)
					if got, stderr := r.with(t, peers...); got != code {
						t.Errorf("%d, %s", got, stderr)
					}
				})
				if engine == "native" && version == tls.VersionTLS12 {
					code = exitUnimplemented // TLS 1.3 alone, towards destinations
				}
				t.Run(name+" client", func(t *testing.T) {
					r := newRunner(t, append(is(fits), "-engine", engine, "-trust-cert", root, "-host-name", serverName)...)
					got, stderr := r.with(t, func(raw net.Conn) error {
						err := echoed(tls.Server(raw, &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: version, MaxVersion: version}))
						if code != exitOK {
							return nil
						}
						return err
					})
					if got != code {
						t.Errorf("%d, %s", got, stderr)
					}
				})
			}
		}
	}
}

// A refusal is told with its alert, which is what the runner's expectations are held
// against.
func TestShimTellsItsAlert(t *testing.T) {
	cert, key, root, _, _ := files(t)
	for _, engine := range []string{"std", "native"} {
		r := newRunner(t, "-engine", engine, "-server", "-cert-file", cert, "-key-file", key, "-trust-cert", root, "-require-any-client-certificate")
		var alert tls.AlertError
		code, stderr := r.with(t, func(raw net.Conn) error {
			c := tls.Client(raw, &tls.Config{InsecureSkipVerify: true})
			_, err := io.Copy(io.Discard, c)
			if errors.As(err, &alert) || err == nil {
				return err
			}
			return nil // crypto/tls gives alerts of the peer a type of its own
		})
		if code != exitFailed || !strings.Contains(stderr, "no_certificate") || !strings.Contains(stderr, "sent certificate_required(116)") {
			t.Errorf("%s: %d, %s", engine, code, stderr)
		}
	}
}
