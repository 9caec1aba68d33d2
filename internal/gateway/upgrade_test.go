package gateway

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/reason"
	"github.com/sslgate/sslgate/internal/upgrade"
	"github.com/sslgate/sslgate/policy"
)

// postgres is a rule for clients that ask for TLS in PostgreSQL's protocol.
func postgres(change func(*policy.RuleSpec)) policy.Spec {
	spec := mtls()
	spec.Rules[0].Name, spec.Rules[0].Upgrade = "pg", "postgres"
	if change != nil {
		change(&spec.Rules[0])
	}
	return spec
}

// request is a message of eight bytes that a PostgreSQL client begins with.
func request(code uint32) []byte {
	return binary.BigEndian.AppendUint32([]byte{0, 0, 0, 8}, code)
}

const (
	cancelRequest = 80877102
	sslRequest    = 80877103
	gssRequest    = 80877104
)

// answer reads one byte.
func answer(t testing.TB, c net.Conn) string {
	t.Helper()
	b := make([]byte, 1)
	n, err := io.ReadFull(c, b)
	if err != nil {
		t.Fatalf("no answer: %v", err)
	}
	return string(b[:n])
}

// A client asks for TLS at once or byte by byte, with GSSAPI before it or not, or begins
// with TLS: then it is a flow like others, and the record says how it began.
func TestUpgradePostgres(t *testing.T) {
	h := newHouse(t, postgres(nil), nil)
	alice := h.alice()
	for i, c := range []struct {
		name    string
		gss     bool
		cut     int
		alpn    []string
		direct  bool
		max     uint16
		agreed  string
		upgrade string
	}{
		{"SSLRequest", false, 8, nil, false, 0, "", "postgres"},
		{"byte by byte", false, 1, []string{"postgresql"}, false, 0, "postgresql", "postgres"},
		{"GSSENCRequest first", true, 3, nil, false, tls.VersionTLS12, "", "postgres"},
		{"direct", false, 0, []string{"postgresql"}, true, 0, "postgresql", ""},
		{"direct, byte by byte", false, 1, []string{"postgresql"}, true, tls.VersionTLS12, "postgresql", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			raw := h.dial(server4)
			defer raw.Close()
			say := func(code uint32, want string) {
				for piece := range slices.Chunk(request(code), c.cut) {
					if _, err := raw.Write(piece); err != nil {
						t.Fatal(err)
					}
				}
				if got := answer(t, raw); got != want {
					t.Fatalf("answered %q, want %q", got, want)
				}
			}
			if c.gss {
				say(gssRequest, "N")
			}
			if !c.direct {
				say(sslRequest, "S")
			}
			conn := tls.Client(&cutting{Conn: raw, at: c.cut}, &tls.Config{RootCAs: h.ca.Pool(), ServerName: "pay.example", Certificates: []tls.Certificate{*alice}, NextProtos: c.alpn, MaxVersion: c.max})
			echo(t, conn)
			if got := conn.ConnectionState().NegotiatedProtocol; got != c.agreed {
				t.Errorf("agreed on %q, want %q", got, c.agreed)
			}
			_ = conn.Close()
			if r := h.record(i + 1); r.str("reason") != "verified" || r.str("rule") != "pg" || r.str("upgrade") != c.upgrade || r.str("destination_upgrade") != "" {
				t.Errorf("the record: %v", r)
			}
		})
	}
}

// spoken are the messages in the clear of a record's ledger.
func spoken(r rec) string {
	var said []string
	ledger, _ := r["ledger"].([]any)
	for _, e := range ledger {
		if e, _ := e.(map[string]any); e["facts"] == "in the clear" {
			said = append(said, fmt.Sprint(e["message"]))
		}
	}
	return strings.Join(said, " ")
}

// An answer stands in the ledger once it is sent, and the last word of an end is not said by
// converse.
func TestConverseNotes(t *testing.T) {
	startup := append([]byte{0, 0, 0, 17, 0, 3, 0, 0}, "user\x00bob\x00"...)
	for name, c := range map[string]struct {
		say    []byte
		hangUp bool // before the answer
		want   []string
	}{
		"the answer is lost": {request(sslRequest), true, []string{"SSLRequest 8"}},
		"the answer is read": {request(sslRequest), false, []string{"SSLRequest 8", "S 1"}},
		"the last word":      {startup, false, []string{"StartupMessage 17"}},
	} {
		ours, theirs := net.Pipe()
		ledger := handshake.NewLedger(time.Now())
		done, ctx := make(chan error, 1), testenv.Context(t)
		go func() {
			_, err := converse(ctx, ours, upgrade.Postgres.WithClient(), ledger)
			done <- err
		}()
		if _, err := theirs.Write(c.say); err != nil { // it returns once all is read
			t.Fatal(err)
		}
		if c.hangUp {
			_ = theirs.Close()
		} else if len(c.want) > 1 {
			answer(t, theirs)
		}
		err := testenv.Receive(t, "the end of the dialogue", done)
		_, _ = ours.Close(), theirs.Close()
		var got []string
		for _, e := range ledger.Entries() {
			got = append(got, fmt.Sprintf("%s %d", e.Message, e.Size))
		}
		if (err != nil) != c.hangUp || !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, the ledger: %q", name, err, got)
		}
	}
}

// Whatever else a client says, nothing of it reaches the destination: it is not even
// dialled. Who goes on without TLS is told so in the words of its protocol.
func TestUpgradePostgresRefuses(t *testing.T) {
	startup := append([]byte{0, 0, 0, 17, 0, 3, 0, 0}, "user\x00bob\x00\x00"...)
	cancel := append([]byte{0, 0, 0, 16}, binary.BigEndian.AppendUint32(nil, cancelRequest)...)
	spec := postgres(nil)
	stop := policy.RuleSpec{Name: "stop", To: []string{"*:443"}, SNI: []string{"old.example"}, Action: "deny"} // it waits for no request
	spec.Rules = append([]policy.RuleSpec{stop}, spec.Rules...)
	h := newHouse(t, spec, nil)
	n := 0
	for name, c := range map[string]struct {
		say    []byte
		reads  string // SQLSTATE of an ErrorResponse; "" for none
		reason reason.Code
		talk   string // in the ledger
		asked  string
	}{
		"a StartupMessage":                {startup, "28000", reason.NotUpgraded, "StartupMessage ErrorResponse", ""},
		"a CancelRequest":                 {append(cancel, 1, 2, 3, 4, 5, 6, 7, 8), "", reason.UpgradeCancel, "CancelRequest", ""},
		"HTTP":                            {[]byte("GET / HTTP/1.1\r\n\r\n"), "", reason.UpgradeMalformed, "", ""},
		"an unknown code":                 {request(80877105), "", reason.UpgradeMalformed, "", ""},
		"a query behind SSLRequest":       {append(request(sslRequest), "Q\x00\x00\x00\x0dselect 1\x00"...), "", reason.UpgradeInjected, "SSLRequest", "postgres"},
		"a hello behind SSLRequest":       {append(request(sslRequest), 22, 3, 1, 2, 0, 1), "", reason.UpgradeInjected, "SSLRequest", "postgres"},
		"SSLRequest behind GSSENCRequest": {append(request(gssRequest), request(sslRequest)...), "", reason.UpgradeInjected, "GSSENCRequest", ""},
	} {
		for _, piece := range []int{len(c.say), 1} {
			if piece == 1 && c.reason == reason.UpgradeInjected {
				continue // who waits for the answer injects nothing
			}
			n++
			raw := h.dial(server4)
			read := make(chan []byte, 1)
			go func() { // at once: what is read late may be lost to a reset
				got, _ := io.ReadAll(raw)
				read <- got
			}()
			for part := range slices.Chunk(c.say, piece) {
				if _, err := raw.Write(part); err != nil {
					break // it is refused by its first bytes
				}
			}
			if c.reads != "" {
				_ = raw.CloseWrite() // what lingers for it ends by that, without a reset
			}
			got := testenv.Receive(t, "the end of what it reads", read)
			_ = raw.Close()
			if told := len(got) > 0 && got[0] == 'E' && bytes.Contains(got, []byte("C"+c.reads+"\x00")); told != (c.reads != "") || !told && len(got) > 0 {
				t.Errorf("%s: reads %q", name, got)
			}
			if r := h.record(n); r.str("reason") != string(c.reason) || r.str("verdict") != "refused" || r.str("alert_sent") != "" || r["step"] != 1.0 ||
				r.str("upgrade") != c.asked || spoken(r) != c.talk || !strings.Contains(r.str("detail"), `rule "pg" waits`) {
				t.Errorf("%s: the record: %v", name, r)
			}
		}
	}
	if d := h.dials.Load(); d != 0 {
		t.Errorf("%d dials", d)
	}
}

// What comes after the answer must be TLS. A client that has sent nothing, or not enough,
// ends at the deadline of the hello.
func TestUpgradePostgresThenNothing(t *testing.T) {
	patient := func(c *Config) { c.Settings.Limits.Handshake = 10 * testenv.Patience() }
	h := newHouse(t, postgres(nil), nil, patient)
	raw := h.dial(server4)
	if _, err := raw.Write(request(sslRequest)); err != nil {
		t.Fatal(err)
	}
	answer(t, raw)
	if _, err := raw.Write([]byte("Q\x00\x00\x00\x0dselect 1\x00")); err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, raw)
	_ = raw.Close()
	if r := h.record(1); r.str("reason") != "not_tls" || r.str("upgrade") != "postgres" {
		t.Errorf("the record: %v", r)
	}
	raw = h.dial(server4)
	if _, err := raw.Write(request(sslRequest)[:5]); err != nil {
		t.Fatal(err)
	}
	_ = raw.CloseWrite()
	_, _ = io.Copy(io.Discard, raw)
	if r := h.record(2); r.str("reason") != "hello_eof" {
		t.Errorf("after an early end, the record: %v", r)
	}
	short := newHouse(t, postgres(nil), nil)
	var waiting []net.Conn
	for _, say := range [][]byte{nil, request(sslRequest)[:5], request(gssRequest)} {
		raw := short.dial(server4)
		_, _ = raw.Write(say) // fails only where it is too late already
		waiting = append(waiting, raw)
	}
	for i, raw := range waiting {
		_, _ = io.Copy(io.Discard, raw) // until the deadline
		_ = raw.Close()
		if r := short.record(i + 1); r.str("reason") != "hello_timeout" || !strings.Contains(r.str("detail"), `rule "pg" waits`) || r.str("upgrade") != "" {
			t.Errorf("the record: %v", r)
		}
	}
	if d := h.dials.Load() + short.dials.Load(); d != 0 {
		t.Errorf("%d dials", d)
	}
}

// Where the destination is asked for TLS in a protocol, both legs speak that one or none.
func TestSameProtocol(t *testing.T) {
	for _, c := range []struct {
		client, dest upgrade.Protocol
		agreed, far  string
		same         bool
	}{
		{upgrade.None, upgrade.None, "h2", "h2", true},
		{upgrade.None, upgrade.None, "h2", "", false},
		{upgrade.None, upgrade.Postgres, "h2", "", false},
		{upgrade.None, upgrade.Postgres, "h2", "postgresql", false},
		{upgrade.None, upgrade.Postgres, "", "postgresql", true},
		{upgrade.None, upgrade.Postgres, "postgresql", "", true},
		{upgrade.Postgres, upgrade.Postgres, "", "", true},
		{upgrade.Postgres, upgrade.Postgres, "", "h2", false},
		{upgrade.Postgres, upgrade.None, "", "postgresql", true},
		{upgrade.Postgres, upgrade.None, "", "", false},
	} {
		if got := sameProtocol(&policy.Plan{Upgrade: c.client, DestUpgrade: c.dest}, c.agreed, c.far); got != c.same {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

// pgServer answers an SSLRequest with words, and goes on with TLS where that is S alone.
func (o *tlsOrigin) pgServer(words string, talk func(*tls.Conn)) func(net.Conn) {
	inner := o.serve(talk)
	return func(c net.Conn) {
		b := make([]byte, 8)
		if _, err := io.ReadFull(c, b); err != nil || !bytes.Equal(b, request(sslRequest)) {
			o.mu.Lock()
			o.raw.WriteString("no request: ")
			o.raw.Write(b)
			o.mu.Unlock()
			return
		}
		if _, err := c.Write([]byte(words)); err != nil {
			return
		}
		if words == "S" {
			inner(c)
			return
		}
		b, _ = io.ReadAll(c)
		o.mu.Lock()
		o.raw.Write(b)
		o.mu.Unlock()
	}
}

// The destination is asked for TLS, and nothing of the session goes there unless it says
// yes, and nothing but yes, and is the one that is meant.
func TestUpgradeDestination(t *testing.T) {
	far := func(r *policy.RuleSpec) {
		r.Destination = policy.DestinationSpec{TLS: "verify", Authorities: []string{"staff"}, Name: "pay.example", Identity: "pay"}
	}
	for name, c := range map[string]struct {
		spec   policy.Spec
		words  string
		direct bool // the server speaks TLS at once
		reason reason.Code
		asked  string
	}{
		"yes":               {postgres(far), "S", false, "verified", "postgres"},
		"no":                {postgres(far), "N", false, reason.UpstreamNotUpgraded, ""},
		"an error":          {postgres(far), "E\x00\x00\x00\x08SNO\x00", false, reason.UpstreamNotUpgraded, ""},
		"another protocol":  {postgres(far), "220 ready\r\n", false, reason.UpstreamNotUpgraded, ""},
		"yes, and more":     {postgres(far), "SR\x00\x00\x00\x08", false, reason.UpstreamInjected, ""},
		"direct":            {postgres(func(r *policy.RuleSpec) { far(r); r.Destination.Upgrade = "none" }), "", true, "verified", ""},
		"originate":         {originate(func(r *policy.RuleSpec) { r.Destination.Upgrade = "postgres" }), "S", false, "originated", "postgres"},
		"originate, and no": {originate(func(r *policy.RuleSpec) { r.Destination.Upgrade = "postgres" }), "N", false, reason.UpstreamNotUpgraded, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var o tlsOrigin
			serve := o.pgServer(c.words, echoTLS)
			if c.direct {
				serve = o.serve(echoTLS)
			}
			served := make(chan struct{}, 8)
			h := newHouse(t, c.spec, func(conn net.Conn) {
				serve(conn)
				served <- struct{}{}
			})
			o.show(h.server)
			raw := h.dial(server4)
			defer raw.Close()
			var conn net.Conn = raw
			if c.spec.Rules[0].Upgrade != "" {
				if _, err := raw.Write(request(sslRequest)); err != nil {
					t.Fatal(err)
				}
				answer(t, raw)
				conn = tls.Client(raw, &tls.Config{RootCAs: h.ca.Pool(), ServerName: "pay.example", Certificates: []tls.Certificate{*h.alice()}})
			}
			_, err := conn.Write([]byte("secret"))
			if err == nil {
				_, err = io.ReadFull(conn, make([]byte, 6))
			}
			good := c.reason == "verified" || c.reason == "originated"
			if (err == nil) != good {
				t.Errorf("the client: %v", err)
			}
			_ = conn.Close()
			if r := h.record(1); r.str("reason") != string(c.reason) || r.str("destination_upgrade") != c.asked || !good && r.str("verdict") != "failed" {
				t.Errorf("the record: %v", r)
			}
			if w := h.gw.Handshakes().Work; w <= 0 { // also by a destination that says no
				t.Errorf("charged: %v", w)
			}
			h.stop()
			testenv.Receive(t, "the end of the destination", served)
			if o.saw([]byte("secret")) || o.saw([]byte("no request")) {
				t.Error("the destination got the client's words in the clear, or no request")
			}
			if s := o.states(); good && (len(s) == 0 || s[0].NegotiatedProtocol != "postgresql" || len(s[0].PeerCertificates) == 0) {
				t.Errorf("the destination saw %v", s)
			}
		})
	}
}
