package gateway

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/cryptotest"
	"time"

	"pgregory.net/rapid"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/handshake/stdtls"
	"github.com/sslgate/sslgate/internal/identity"
	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/policy"
)

// wiretap keeps what a connection carries, each direction apart.
type wiretap struct {
	net.Conn
	mu       sync.Mutex
	in, sent bytes.Buffer
}

func (w *wiretap) Read(b []byte) (int, error) {
	n, err := w.Conn.Read(b)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.in.Write(b[:n])
	return n, err
}

func (w *wiretap) Write(b []byte) (int, error) {
	n, err := w.Conn.Write(b)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sent.Write(b[:n])
	return n, err
}

func (w *wiretap) directions() [2][]byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	return [2][]byte{bytes.Clone(w.sent.Bytes()), bytes.Clone(w.in.Bytes())}
}

// wire is everything that one flow put on the wire, and its record.
type wire struct {
	client, dest [2][]byte // written and read by the client; by the origin
	record       rec
	err          error // of the client
}

// wireHouse is a house whose flows can be made again, byte by byte: the
// process's randomness starts anew with each, the keys are Ed25519, and no
// tickets are given.
type wireHouse struct {
	*house
	t     *testing.T
	n     int
	tls   atomic.Bool // the origin speaks TLS
	own   tls.Certificate
	ended chan [2][]byte
}

func newWireHouse(t *testing.T) *wireHouse {
	w := &wireHouse{t: t, ended: make(chan [2][]byte, 1)}
	w.house = newHouse(t, mtls(), func(c net.Conn) {
		tap := &wiretap{Conn: c}
		defer func() { w.ended <- tap.directions() }()
		if !w.tls.Load() {
			_, _ = io.Copy(tap, tap)
			_ = c.(*net.TCPConn).CloseWrite()
			return
		}
		s := tls.Server(tap, &tls.Config{
			Certificates: []tls.Certificate{w.own}, NextProtos: []string{"h2", "http/1.1"}, SessionTicketsDisabled: true, ClientAuth: tls.RequestClientCert,
		})
		_, _ = io.Copy(s, s)
		_ = s.Close()
	})
	w.house.server = w.ed25519("pay.example", "a.shop.example")
	w.own = w.ed25519("pay.example", "a.shop.example")
	return w
}

// compile has profiles that are far from the widest one.
func (w *wireHouse) compile(spec policy.Spec) *policy.Set {
	w.t.Helper()
	profiles, err := handshake.ResolveProfiles(map[string]handshake.ProfileSpec{
		"only-12": {Versions: []string{"1.2"}, TLS12: []string{"ECDHE-ECDSA-AES256-GCM-SHA384"}, Groups: []string{"X25519"}},
		"narrow":  {Groups: []string{"secp384r1", "secp256r1"}, Order: "server"},
	}, stdtls.New().Capabilities())
	if err != nil {
		w.t.Fatal(err)
	}
	set, found := policy.Compile(spec, policy.Environment{
		Authorities: map[string]handshake.AuthoritySource{"staff": &handshake.Authority{Name: "staff", Roots: []*x509.Certificate{w.ca.Cert}}},
		Identities:  map[string]policy.Identity{"pay": {Name: "pay", Source: identity.NewFile([]tls.Certificate{w.server}, nil)}},
		Profiles:    profiles,
		Engine:      stdtls.New(),
	})
	if set == nil {
		w.t.Fatalf("policy: %v", found)
	}
	return set
}

func (w *wireHouse) ed25519(names ...string) tls.Certificate {
	return testpki.Must(w.ca.Issue(testpki.Leaf{CN: names[0], DNS: names, Key: testpki.Ed25519})).TLS()
}

// flow makes a flow by the policy. Two with the same arguments are the same
// to the byte, which TestWireIsDeterministic checks.
func (w *wireHouse) flow(set *policy.Set, originTLS bool, client *tls.Config) wire {
	w.t.Helper()
	setPolicy(w.gw, set, nil, w.gw.current.Load().limits)
	w.tls.Store(originTLS)
	raw := w.dial(server4)
	cryptotest.SetGlobalRandom(w.t, 7)
	dialed := w.dials.Load()
	tap := &wiretap{Conn: raw}
	conn := tls.Client(tap, client)
	var out wire
	out.err = func() error {
		if err := conn.Handshake(); err != nil {
			return err
		}
		if _, err := conn.Write([]byte("hello")); err != nil {
			return err
		}
		if _, err := io.ReadFull(conn, make([]byte, 5)); err != nil {
			return err
		}
		if err := conn.CloseWrite(); err != nil {
			return err
		}
		_ = raw.CloseWrite()
		_, err := io.Copy(io.Discard, conn)
		return err
	}()
	_ = raw.Close()
	w.n++
	out.record = w.record(w.n)
	if w.dials.Load() != dialed {
		select {
		case out.dest = <-w.ended:
		case <-time.After(testenv.Patience()):
			w.t.Fatal("the origin's side does not end")
		}
	}
	out.client = tap.directions()
	return out
}

// ledgers are both ledgers of the record without what a clock says: the times,
// and how long a flow waited for its turn, which is an entry only where it did.
func (w wire) ledgers() string {
	var all []any
	for _, name := range []string{"ledger", "destination_ledger"} {
		list, _ := w.record[name].([]any)
		for _, e := range list {
			m, _ := e.(map[string]any)
			if facts, _ := m["facts"].(string); strings.HasPrefix(facts, "waited ") {
				continue
			}
			delete(m, "at_us")
			all = append(all, m)
		}
		all = append(all, name)
	}
	text, err := json.MarshalIndent(all, "", " ")
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// differs says how two flows differ on the wire or in what was seen of it.
func (w wire) differs(o wire) string {
	for i, of := range []struct {
		name string
		a, b [2][]byte
	}{{"client's leg", w.client, o.client}, {"destination's leg", w.dest, o.dest}} {
		for d := range 2 {
			a, b := of.a[d], of.b[d]
			if !bytes.Equal(a, b) {
				at := 0
				for at < min(len(a), len(b)) && a[at] == b[at] {
					at++
				}
				return fmt.Sprintf("%s, direction %d.%d: %d and %d bytes, the first that differs is %d", of.name, i, d, len(a), len(b), at)
			}
		}
	}
	if a, b := w.ledgers(), o.ledgers(); a != b {
		return "ledgers:\n" + a + "\n" + b
	}
	return ""
}

// The instrument: the same flow twice is the same to the byte, and another one
// is not.
func TestWireIsDeterministic(t *testing.T) {
	w := newWireHouse(t)
	alice := w.ed25519("alice.example")
	set := w.compile(mtls())
	for _, version := range versions {
		cfg := func(name string) *tls.Config {
			return &tls.Config{RootCAs: w.ca.Pool(), ServerName: name, Certificates: []tls.Certificate{alice}, MinVersion: version, MaxVersion: version}
		}
		a, b, c := w.flow(set, false, cfg("pay.example")), w.flow(set, false, cfg("pay.example")), w.flow(set, false, cfg("a.shop.example"))
		if a.err != nil || c.err != nil || a.record.str("reason") != "verified" {
			t.Fatalf("%v %v %v", a.err, c.err, a.record)
		}
		if d := a.differs(b); d != "" {
			t.Errorf("%s: the same flow twice: %s", tls.VersionName(version), d)
		}
		if a.differs(c) == "" {
			t.Errorf("%s: another flow looks the same", tls.VersionName(version))
		}
		if len(a.client[0]) < 500 || len(a.client[1]) < 500 || string(a.dest[0]) != "hello" || string(a.dest[1]) != "hello" {
			t.Errorf("%s: %d %d %q %q", tls.VersionName(version), len(a.client[0]), len(a.client[1]), a.dest[0], a.dest[1])
		}
	}
}

// Observing a flow that would be allowed changes no byte of it: random rules
// and hellos, with the real engine, on both legs. What would not be allowed is
// noted for the very reason it is refused for.
func TestObserveChangesNoByte(t *testing.T) {
	testenv.Slow(t)
	w := newWireHouse(t)
	other := testpki.Must(testpki.NewCA(testpki.Options{CN: "other"}))
	certs := map[string][]tls.Certificate{
		"alice": {w.ed25519("alice.example")}, "none": nil,
		"foreign": {testpki.Must(other.Issue(testpki.Leaf{CN: "mallory", Key: testpki.Ed25519})).TLS()},
	}
	allowed := map[string]int{}
	rapid.Check(t, func(rt *rapid.T) {
		pick := func(name string, from ...string) string { return rapid.SampledFrom(from).Draw(rt, name) }
		rule := policy.RuleSpec{
			Name: "pay", To: []string{"203.0.113.0/24:443"}, Identity: "pay",
			Profile: pick("profile", "", "intermediate", "modern", "only-12", "narrow", "narrow"), Ledger: pick("ledger", "full", "full", "steps"),
			Client: policy.ClientSpec{Certificate: pick("certificate", "required", "required", "optional", "none")},
		}
		if rule.Client.Certificate != "none" {
			rule.Client.Authorities = []string{"staff"}
			rule.Client.Allow = rapid.SampledFrom([][]policy.AllowSpec{nil, nil, {{SANDNS: []string{"alice.example"}}}, {{SANDNS: []string{"bob.example"}}}}).Draw(rt, "allow")
			rule.Client.When = rapid.SampledFrom([]policy.Expression{"", "", `!cert.present || "alice.example" in cert.san_dns`, `cert.present`}).Draw(rt, "when")
		}
		rule.ALPN = rapid.SampledFrom([][]string{nil, nil, {"h2"}}).Draw(rt, "rule's protocols")
		destination := pick("destination", "plain", "verify", "verify as us")
		rule.Destination = policy.DestinationSpec{TLS: "plain", Dial: pick("order", "verified", "first")}
		if destination != "plain" {
			rule.Destination.TLS, rule.Destination.Authorities = "verify", []string{"staff"}
		}
		if destination == "verify as us" {
			rule.Destination.Identity = "pay"
		}
		cert := pick("client", "alice", "alice", "alice", "alice", "foreign", "none")
		version := rapid.SampledFrom([][2]uint16{{tls.VersionTLS12, tls.VersionTLS12}, {tls.VersionTLS13, tls.VersionTLS13}, {tls.VersionTLS12, tls.VersionTLS13}}).Draw(rt, "versions")
		client := func() *tls.Config {
			return &tls.Config{RootCAs: w.ca.Pool(), Certificates: certs[cert], MinVersion: version[0], MaxVersion: version[1]}
		}
		name := pick("name", "pay.example", "pay.example", "a.shop.example")
		protocols := rapid.SampledFrom([][]string{nil, {"h2"}, {"http/1.1", "h2"}}).Draw(rt, "protocols")
		groups := rapid.SampledFrom([][]tls.CurveID{nil, {tls.X25519}, {tls.CurveP256}, {tls.CurveP384, tls.X25519, tls.CurveP256}}).Draw(rt, "groups")
		run := func(spec policy.Spec) wire {
			c := client()
			c.ServerName, c.NextProtos, c.CurvePreferences = name, protocols, groups
			return w.flow(w.compile(spec), destination != "plain", c)
		}
		spec := policy.Spec{Rules: []policy.RuleSpec{{Name: "elsewhere", To: []string{"198.51.100.0/24:443"}, Action: "deny"}, rule}}
		observed := policy.Spec{Rules: slices.Clone(spec.Rules)}
		if rapid.Bool().Draw(rt, "the whole set") {
			observed.Mode = "observe"
		} else {
			observed.Rules[1].Mode = "observe"
		}
		e, o := run(spec), run(observed)
		if e.record.str("verdict") != "allowed" {
			if o.record.str("verdict") == "allowed" && (o.record.str("would") != "deny" || o.record.str("would_reason") != e.record.str("reason")) {
				rt.Fatalf("refused for %s, observed: would %q, %q", e.record.str("reason"), o.record.str("would"), o.record.str("would_reason"))
			}
			return
		}
		if o.record["would"] != nil || o.record.str("verdict") != "allowed" || o.record.str("reason") != e.record.str("reason") {
			rt.Fatalf("allowed for %s; observed: %v", e.record.str("reason"), o.record)
		}
		if fmt.Sprint(e.err) != fmt.Sprint(o.err) {
			rt.Fatalf("the client saw %v, observed %v", e.err, o.err)
		}
		if d := e.differs(o); d != "" {
			rt.Fatal(d)
		}
		leg, _ := e.record["client_leg"].(map[string]any)
		allowed[fmt.Sprintf("%v, certificate %v", leg["version"], e.record["peer"] != nil)]++
	})
	t.Logf("allowed and compared: %v", allowed)
	for _, kind := range []string{"TLS 1.2, certificate true", "TLS 1.3, certificate true", "TLS 1.2, certificate false", "TLS 1.3, certificate false"} {
		if allowed[kind] == 0 {
			t.Errorf("no flow was allowed with %s", kind)
		}
	}
}
