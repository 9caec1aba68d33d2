package gateway

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/sslgate/sslgate/internal/lab/testpki"
)

// answering is a destination that speaks TLS and answers these protocols.
func answering(protocols ...string) func(net.Conn) {
	ca := testpki.Must(testpki.NewCA(testpki.Options{}))
	own := testpki.Must(ca.Issue(testpki.Leaf{DNS: []string{"pay.example"}})).TLS()
	return func(c net.Conn) {
		tc := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{own}, NextProtos: protocols})
		_, _ = io.Copy(tc, tc)
		_ = tc.Close()
	}
}

// many are n protocols, p1 to pN.
func many(n int) []string {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprint("p", i+1))
	}
	return all
}

// Which leg answers the client's protocols, in each order of dialling, and what happens to a
// client that gets no answer. The two legs never have different protocols.
func TestALPN(t *testing.T) {
	for _, c := range []struct {
		name          string
		alpn          []string
		dest          string // tls and dial
		speaks, offer []string
		want, reason  string
		mode          string
		dials         int64
	}{
		{"none, plain", nil, "plain", nil, []string{"h2"}, "", "no_application_protocol", "", 0},
		{"none meant, plain", []string{}, "plain", nil, []string{"h2"}, "", "no_application_protocol", "", 0},
		{"none, plain, GREASE", nil, "plain", nil, []string{"\x2a\x2a", "h2"}, "", "no_application_protocol", "", 0},
		{"none, plain, acme", nil, "plain first", nil, []string{"acme-tls/1"}, "", "no_application_protocol", "", 0},
		{"none, plain, a way out", nil, "plain", nil, []string{"h2", "http/1.1"}, "", "verified", "", 1},
		{"none, plain, unknown", nil, "plain", nil, []string{"corp/1"}, "", "verified", "", 1},
		{"listed, plain", []string{"h2"}, "plain", nil, []string{"h2"}, "h2", "verified", "", 1},
		{"listed, plain, offers none", []string{"h2"}, "plain", nil, nil, "", "verified", "", 1},
		{"listed, plain, another", []string{"h2"}, "plain", nil, []string{"http/1.1"}, "", "no_application_protocol", "", 0},
		{"listed, TLS", []string{"h2", "http/1.1"}, "insecure", []string{"h2"}, []string{"http/1.1", "h2"}, "h2", "verified", "", 1},
		{"listed, TLS, another", []string{"h2"}, "insecure", []string{"http/1.1"}, []string{"h2"}, "h2", "destination_alpn_mismatch", "", 1},
		{"listed, TLS answers none", []string{"h2"}, "insecure", nil, []string{"h2"}, "h2", "destination_alpn_mismatch", "", 1},
		{"first", nil, "insecure first", []string{"h2"}, []string{"h2"}, "h2", "verified", "", 1},
		{"first, unknown", nil, "insecure first", []string{"corp/1"}, []string{"corp/1"}, "corp/1", "verified", "", 1},
		{"first, answers none", nil, "insecure first", nil, []string{"h2"}, "", "no_application_protocol", "", 1},
		{"first, answers none, a way out", nil, "insecure first", nil, []string{"h2", "http/1.1"}, "", "verified", "", 1},
		{"first, another", nil, "insecure first", []string{"http/1.1"}, []string{"h2"}, "", "destination_alpn_mismatch", "", 1},
		{"first, the last of many", nil, "insecure first", []string{"p64"}, many(64), "p64", "verified", "", 1},
		{"first, long names", nil, "insecure first", []string{strings.Repeat("x", 255)}, append(many(20), strings.Repeat("x", 255)), strings.Repeat("x", 255), "verified", "", 1},
		{"first, bytes that are no text", nil, "insecure first", []string{"\x00\xff"}, []string{"\x2a\x2a", "\x00\xff"}, "\x00\xff", "verified", "", 1},
		{"listed, the last of many", []string{"p64"}, "insecure", []string{"p64"}, many(64), "p64", "verified", "", 1},
		{"first, listed", []string{"http/1.1"}, "insecure first", []string{"h2", "http/1.1"}, []string{"h2", "http/1.1"}, "http/1.1", "verified", "", 1},
		{"first, listed, another", []string{"http/1.1"}, "insecure first", []string{"h2"}, []string{"h2"}, "", "no_application_protocol", "", 0},
		{"first, none meant", []string{}, "insecure first", []string{"h2"}, []string{"h2", "http/1.1"}, "", "verified", "", 1},
		{"observed, none", nil, "plain", nil, []string{"h2"}, "", "observed", "observe", 1},
		{"observed, another", []string{"h2"}, "plain", nil, []string{"http/1.1"}, "", "observed", "observe", 1},
		{"observed, first, answers none", nil, "insecure first", nil, []string{"h2"}, "", "observed", "observe", 1},
		{"observed, listed", []string{"h2"}, "plain", nil, []string{"h2"}, "h2", "verified", "observe", 1},
	} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			t.Run(c.name+", "+tls.VersionName(version), func(t *testing.T) {
				spec := mtls()
				mode, first := strings.CutSuffix(c.dest, " first")
				spec.Rules[0].ALPN, spec.Rules[0].Mode, spec.Rules[0].Destination.TLS = c.alpn, c.mode, mode
				if first {
					spec.Rules[0].Destination.Dial = "first"
				}
				serve := func(conn net.Conn) { _, _ = io.Copy(conn, conn) }
				if mode != "plain" {
					serve = answering(c.speaks...)
				}
				h := newHouse(t, spec, serve)
				conn, err := h.tlsClient(server4, h.alice(), func(cfg *tls.Config) {
					cfg.NextProtos, cfg.MinVersion, cfg.MaxVersion = c.offer, version, version
				})
				good := c.reason == "verified" || c.reason == "observed"
				if err == nil {
					if got := conn.ConnectionState().NegotiatedProtocol; got != c.want {
						t.Errorf("the client is answered %q", got)
					}
					if good {
						echo(t, conn)
					} else if _, err := conn.Read(make([]byte, 1)); err == nil {
						t.Error("goes on")
					}
					_ = conn.Close()
				}
				refused := !good && c.want == ""
				if (err != nil) != refused || refused && !strings.Contains(err.Error(), "no application protocol") {
					t.Errorf("the client saw %v", err)
				}
				r := h.record(1)
				if r.str("reason") != c.reason || h.dials.Load() != c.dials || c.reason == "observed" && r.str("would_reason") != "no_application_protocol" {
					t.Errorf("%d dials, record %v", h.dials.Load(), r)
				}
				if refused && fmt.Sprint(r["alert_sent"]) != "120" && !strings.Contains(fmt.Sprint(r["alert_sent"]), "no_application_protocol") {
					t.Errorf("alert sent %v", r["alert_sent"])
				}
				if leg, ok := r["destination_leg"].(map[string]any); ok && good {
					mine, _ := r["client_leg"].(map[string]any)
					if leg["alpn"] != mine["alpn"] {
						t.Errorf("legs with %v and %v", mine["alpn"], leg["alpn"])
					}
				}
			})
		}
	}
}

// A real HTTP/2 client and server: with alpn, with dial: first, and refused with
// neither.
func TestHTTP2(t *testing.T) {
	for _, way := range []string{"alpn", "dial: first", "alpn, TLS", "neither"} {
		t.Run(way, func(t *testing.T) {
			spec := mtls()
			rule := &spec.Rules[0]
			if strings.HasPrefix(way, "alpn") {
				rule.ALPN = []string{"h2"}
			}
			encrypted := way == "dial: first" || way == "alpn, TLS"
			if encrypted {
				rule.Destination.TLS = "insecure"
			}
			if way == "dial: first" {
				rule.Destination.Dial = "first"
			}
			ca := testpki.Must(testpki.NewCA(testpki.Options{}))
			own := testpki.Must(ca.Issue(testpki.Leaf{DNS: []string{"pay.example"}})).TLS()
			server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = fmt.Fprint(w, r.Proto, " ", r.URL.Path) })}
			server.Protocols = new(http.Protocols)
			server.Protocols.SetHTTP2(true)
			server.Protocols.SetUnencryptedHTTP2(true)
			server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{own}}
			h := newHouse(t, spec, nil)
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			h.origin = l.Addr().String()
			ended := make(chan error, 1)
			go func() {
				if encrypted {
					ended <- server.ServeTLS(l, "", "")
				} else {
					ended <- server.Serve(l)
				}
			}()
			defer func() {
				_ = server.Close()
				if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
					t.Error(err)
				}
			}()
			transport := &http.Transport{Protocols: new(http.Protocols), TLSClientConfig: &tls.Config{
				RootCAs: h.ca.Pool(), ServerName: "pay.example", Certificates: []tls.Certificate{*h.alice()}, NextProtos: []string{"h2"},
			}}
			transport.Protocols.SetHTTP2(true)
			transport.Dial = func(string, string) (net.Conn, error) { return h.dial(server4), nil } //nolint:staticcheck // there is no context to heed
			defer transport.CloseIdleConnections()
			resp, err := (&http.Client{Transport: transport}).Get("https://pay.example/grpc.health.v1.Health/Check")
			if way == "neither" {
				if err == nil || !strings.Contains(err.Error(), "no application protocol") {
					t.Errorf("neither: %v", err)
				}
				if r := h.record(1); r.str("reason") != "no_application_protocol" || h.dials.Load() != 0 {
					t.Errorf("record %v", r)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if err != nil || resp.ProtoMajor != 2 || string(body) != "HTTP/2.0 /grpc.health.v1.Health/Check" {
				t.Errorf("%s, %q, %v", resp.Proto, body, err)
			}
		})
	}
}
