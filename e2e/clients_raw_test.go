package e2e

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	wire "encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/lab"
	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/lab/testpki"
)

// unusualRules differ by server name; the last rule is for all others.
const unusualRules = `
    - {name: retry, to: ["*:443"], sni: [retry.example], identity: pay, profile: retry, client: {certificate: required, authorities: [staff]}, destination: {tls: plain}}
    - {name: many, to: ["*:443"], sni: [many.example], identity: pay, client: {certificate: required, authorities: [many]}, destination: {tls: plain}}
` + payRule

// unusual is a gateway for the clients of this file.
func unusual(t *testing.T) *world {
	t.Helper()
	w := newWorld(t, lab.Options{})
	w.issue("pay", testpki.Leaf{CN: "pay", DNS: []string{"pay.example", "retry.example", "many.example"}})
	bundle := w.ca.PEM()
	for i := range 499 {
		ca := testpki.Must(testpki.NewCA(testpki.Options{CN: fmt.Sprintf("One of Many CAs %03d", i)}))
		bundle = append(bundle, ca.PEM()...)
	}
	w.pem("many.pem", bundle)
	w.origin(server(false), serveHTTP)
	w.config(unusualRules, "profiles:\n  retry: {groups: [secp384r1]}")
	w.start(w.rewrite("authorities:\n", "authorities:\n  many: {roots: many.pem}\n"))
	return w
}

// get makes a handshake with crypto/tls, sends a request and reads the answer.
func (w *world) get(c *tls.Config) (string, *tls.ConnectionState, error) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testenv.Patience())
	defer cancel()
	raw, err := w.lab.Dial(ctx, lab.Client, "tcp", server(false))
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = raw.Close() }()
	_ = raw.SetDeadline(testenv.Deadline())
	c = c.Clone()
	c.RootCAs = w.ca.Pool()
	if c.ServerName == "" {
		c.ServerName = "pay.example"
	}
	conn := tls.Client(raw, c)
	if err := conn.HandshakeContext(ctx); err != nil {
		return "", nil, err
	}
	state := conn.ConnectionState()
	if _, err := io.WriteString(conn, request); err != nil {
		return "", &state, err
	}
	b, err := io.ReadAll(conn)
	return string(b), &state, err
}

func show(c *testpki.Cert) []tls.Certificate { return []tls.Certificate{c.TLS()} }

// One gateway for all of them.
func TestUnusualClients(t *testing.T) {
	t.Parallel()
	w := unusual(t)
	t.Run("go", func(t *testing.T) { goClients(t, w) })
	t.Run("pss", func(t *testing.T) { pssKey(t, w) })
	t.Run("raw", func(t *testing.T) { rawHellos(t, w) })
}

// Go does what no client in Debian does: hellos near the bound, HelloRetryRequest, ML-KEM
// alone, 500 CA names, long chains, other keys.
func goClients(t *testing.T, w *world) {
	leaf := testpki.Leaf{CN: "alice", DNS: []string{"alice.example"}}
	with := func(k testpki.KeyKind) []tls.Certificate {
		l := leaf
		l.Key = k
		return show(testpki.Must(w.ca.Issue(l)))
	}
	alice := with(testpki.P256)
	// 239 protocols of 255 bytes: 61,184 bytes of one extension. 64 of them, the
	// most there may be, are 16,384 bytes: more than one record.
	var protocols []string
	for i := range 239 {
		protocols = append(protocols, fmt.Sprintf("%03d", i)+strings.Repeat("x", 252))
	}
	names := 0
	for _, tt := range []struct {
		name   string
		config *tls.Config
		reason string
		leg    map[string]any
		sign   string
	}{
		{"a hello of two records", &tls.Config{Certificates: alice, NextProtos: protocols[:64]}, "verified", nil, ""},
		{"a hello of 60 KiB, of ALPN", &tls.Config{Certificates: alice, NextProtos: protocols}, "hello_too_many", nil, ""},
		{"HelloRetryRequest", &tls.Config{Certificates: alice, ServerName: "retry.example"}, "verified", map[string]any{"hello_retry": true, "group": "secp384r1"}, ""},
		{"the second hello lacks the group", &tls.Config{Certificates: alice, ServerName: "retry.example", CurvePreferences: []tls.CurveID{tls.X25519}}, "no_common_group", nil, ""},
		{"ML-KEM alone", &tls.Config{Certificates: alice, CurvePreferences: []tls.CurveID{tls.X25519MLKEM768}}, "verified", map[string]any{"group": "X25519MLKEM768"}, ""},
		{"500 CA names, TLS 1.3", &tls.Config{ServerName: "many.example", MinVersion: tls.VersionTLS13, GetClientCertificate: func(r *tls.CertificateRequestInfo) (*tls.Certificate, error) {
			names = len(r.AcceptableCAs)
			return &alice[0], nil
		}}, "verified", nil, ""},
		{"500 CA names, TLS 1.2", &tls.Config{ServerName: "many.example", MaxVersion: tls.VersionTLS12, GetClientCertificate: func(r *tls.CertificateRequestInfo) (*tls.Certificate, error) {
			names += len(r.AcceptableCAs)
			return &alice[0], nil
		}}, "verified", nil, ""},
		{"a chain of ten", &tls.Config{Certificates: show(testpki.Must(w.ca.LongChain(leaf, 9)))}, "verified", nil, ""},
		{"a chain of eleven", &tls.Config{Certificates: show(testpki.Must(w.ca.LongChain(leaf, 10)))}, "certificate_chain_too_long", nil, ""},
		{"RSA, TLS 1.3", &tls.Config{Certificates: with(testpki.RSA3072), MinVersion: tls.VersionTLS13}, "verified", nil, "rsa_pss_rsae_sha256"},
		{"RSA, TLS 1.2", &tls.Config{Certificates: with(testpki.RSA2048), MaxVersion: tls.VersionTLS12}, "verified", nil, "rsa_pss_rsae_sha256"},
		{"Ed25519, TLS 1.3", &tls.Config{Certificates: with(testpki.Ed25519), MinVersion: tls.VersionTLS13}, "verified", nil, "ed25519"},
		{"Ed25519, TLS 1.2", &tls.Config{Certificates: with(testpki.Ed25519), MaxVersion: tls.VersionTLS12}, "verified", nil, "ed25519"},
		{"P-521", &tls.Config{Certificates: with(testpki.P521)}, "verified", nil, "ecdsa_secp521r1_sha512"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := len(w.records(0))
			answer, state, err := w.get(tt.config)
			r := w.last(n + 1)
			if got := r.str("reason"); got != tt.reason {
				t.Fatalf("reason %s (%s), want %s; the client: %v", got, r.str("detail"), tt.reason, err)
			}
			if reached := strings.Contains(answer, "origin says"); reached != (tt.reason == "verified") {
				t.Errorf("origin reached: %v, %v", reached, err)
			}
			leg, _ := r["client_leg"].(map[string]any)
			for k, v := range tt.leg {
				if leg[k] != v {
					t.Errorf("%s is %v, want %v", k, leg[k], v)
				}
			}
			if tt.sign != "" && r.peer("signature") != tt.sign {
				t.Errorf("signature %v, want %s (%v)", r.peer("signature"), tt.sign, state)
			}
		})
	}
	if names != 1000 {
		t.Errorf("%d CA names in two handshakes, want 1000", names)
	}
}

// crypto/x509 does not parse a key of the kind id-RSASSA-PSS (RFC 4055), and crypto/tls does
// not offer rsa_pss_pss_*. The owner of such a key has no certificate to show, and the record
// says so.
func pssKey(t *testing.T, w *world) {
	testenv.Tool(t, "openssl")
	n := len(w.records(0))
	w.local("openssl", "genpkey", "-algorithm", "RSA-PSS", "-pkeyopt", "rsa_keygen_bits:2048", "-out", "pss.key")
	w.local("openssl", "req", "-new", "-key", "pss.key", "-subj", "/CN=alice", "-out", "pss.csr")
	if _, _, err := w.ca.WritePEM(w.dir, "signer"); err != nil {
		t.Fatal(err)
	}
	w.local("openssl", "x509", "-req", "-in", "pss.csr", "-CA", "ca.pem", "-CAkey", "signer.key", "-CAcreateserial", "-days", "1", "-out", "pss.pem")
	out, err := w.client(request, "openssl", "s_client", "-connect", server(false), "-servername", "pay.example", "-CAfile", "ca.pem",
		"-ign_eof", "-cert", "pss.pem", "-key", "pss.key")
	r := w.last(n + 1)
	if strings.Contains(out, "origin says") || r.str("reason") != "no_certificate" || r.str("alert_sent") != noCertificateAlert["1.3"] {
		t.Errorf("%v, %v\n%s", r, err, out)
	}
}

// rawHello is a hello of TLS 1.3 with the given extensions behind the usual
// ones.
func rawHello(t *testing.T, more ...handshake.Extension) *handshake.ClientHello {
	t.Helper()
	h := &handshake.ClientHello{
		LegacyVersion: tls.VersionTLS12, SessionID: make([]byte, 32), CipherSuites: []uint16{tls.TLS_AES_128_GCM_SHA256},
		CompressionMethods: []byte{0}, HasExtensions: true,
	}
	_, _ = rand.Read(h.Random[:])
	_, _ = rand.Read(h.SessionID)
	share := make([]byte, 32)
	_, _ = rand.Read(share) // every 32 bytes are a public key of X25519
	name := []byte("pay.example")
	h.Extensions = append([]handshake.Extension{
		{Type: 0, Data: append([]byte{0, byte(len(name) + 3), 0, 0, byte(len(name))}, name...)},
		{Type: 10, Data: []byte{0, 2, 0, 0x1d}},
		{Type: 13, Data: []byte{0, 4, 4, 3, 8, 4}},
		{Type: 43, Data: []byte{2, 3, 4}},
		{Type: 45, Data: []byte{1, 1}},
		{Type: 51, Data: append([]byte{0, 36, 0, 0x1d, 0, 32}, share...)},
	}, more...)
	return h
}

// frame cuts a handshake message into records of at most 16 KiB.
func frame(msg []byte) []byte {
	var out []byte
	for len(msg) > 0 {
		n := min(len(msg), 1<<14)
		out = append(wire.BigEndian.AppendUint16(append(out, 22, 3, 1), uint16(n)), msg[:n]...)
		msg = msg[n:]
	}
	return out
}

// exchange sends bytes and returns all that comes back within five seconds.
func (w *world) exchange(b []byte) []byte {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testenv.Patience())
	defer cancel()
	c, err := w.lab.Dial(ctx, lab.Client, "tcp", server(false))
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(testenv.Deadline())
	_, _ = c.Write(b)
	_ = c.(*net.TCPConn).CloseWrite()
	answer, _ := io.ReadAll(c)
	return answer
}

// A hello over 64 KiB is refused with its alert. A hello with a foreign ticket and early data
// ends in an alert too, or in a full handshake; without early data the same client gets a
// full handshake. The gateway goes on.
func rawHellos(t *testing.T, w *world) {
	n := len(w.records(0))
	big := rawHello(t, handshake.Extension{Type: 21, Data: make([]byte, 60<<10)}, handshake.Extension{Type: 0x7777, Data: make([]byte, 5<<10)})
	answer := w.exchange(frame(big.Marshal()))
	if want := "\x15\x03\x01\x00\x02\x02\x2f"; string(answer) != want {
		t.Errorf("to a hello of 65 KiB the answer is %x, want illegal_parameter", answer)
	}
	if r := w.last(n + 1); r.str("reason") != "hello_too_large" || r.str("alert_sent") != "illegal_parameter(47)" {
		t.Errorf("%v", r)
	}

	ticket := make([]byte, 200)
	_, _ = rand.Read(ticket)
	identity := append(wire.BigEndian.AppendUint16(nil, uint16(len(ticket))), append(ticket, 0, 0, 0, 0)...)
	psk := append(wire.BigEndian.AppendUint16(nil, uint16(len(identity))), identity...)
	psk = append(psk, 0, 33, 32)
	psk = append(psk, make([]byte, 32)...) // a binder that fits nothing
	foreign := handshake.Extension{Type: 41, Data: psk}
	early := append(frame(rawHello(t, handshake.Extension{Type: 42}, foreign).Marshal()), 23, 3, 3, 0, 64)
	early = append(early, make([]byte, 64)...)
	answer = w.exchange(early)
	r := w.last(n + 2)
	// crypto/tls refuses it with unsupported_extension, though RFC 8446, section 4.2.10, wants it
	// ignored; clients then try again without.
	if len(answer) == 0 || answer[0] != 21 && answer[0] != 22 || r.str("verdict") == "allowed" {
		t.Errorf("to early data the answer is %x; %v", answer, r)
	}
	if answer[0] == 21 && answer[len(answer)-1] != byte(handshake.AlertUnsupportedExtension) {
		t.Errorf("alert %x", answer)
	}
	answer = w.exchange(frame(rawHello(t, foreign).Marshal()))
	if len(answer) < 6 || answer[0] != 22 || answer[5] != 2 {
		t.Errorf("to a foreign ticket without early data the answer is %x, want a ServerHello", answer)
	}
	w.last(n + 3)
	if out, _, err := w.get(&tls.Config{Certificates: loadPair(t, w, "alice")}); err != nil || !strings.Contains(out, "origin says") {
		t.Errorf("a good client afterwards: %v", err)
	}
}

func loadPair(t *testing.T, w *world, name string) []tls.Certificate {
	t.Helper()
	p, err := tls.LoadX509KeyPair(w.dir+"/"+name+".pem", w.dir+"/"+name+".key")
	if err != nil {
		t.Fatal(err)
	}
	return []tls.Certificate{p}
}
