package service

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/admin"
	"github.com/sslgate/sslgate/internal/config"
	"github.com/sslgate/sslgate/internal/identity"
	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/policy"
)

// pair puts another certificate for pay.example into the files, and returns it.
func (h *house) pair(l testpki.Leaf) *testpki.Cert {
	h.t.Helper()
	l.DNS = []string{"pay.example"}
	c := testpki.Must(h.ca.Issue(l))
	chain, key, err := c.PEM()
	if err != nil {
		h.t.Fatal(err)
	}
	h.put("srv.pem", 0o644, chain)
	h.put("srv.key", 0o600, key)
	return c
}

// The answer to a reload and the log name each certificate that was taken, and the one
// that it has taken the place of; of authorities those that came and went.
func TestReloadNamesCertificates(t *testing.T) {
	// With renewals the gateway's own look may take a certificate before the reload does.
	without := []byte(strings.Replace(houseConfig, "policy:", "reload: {renew: false}\npolicy:", 1))
	h := newHouse(t, func(h *house) { h.put("sslgate.yaml", 0o644, without) })
	h.asWritten("")
	reload := func(what string, changes ...string) *admin.ReloadResult {
		t.Helper()
		logged := h.seen.FilterMessage("certificate changed").Len()
		res, ok, err := h.api.Reload(t.Context())
		if err != nil || !ok {
			t.Fatalf("%s: %v, %+v", what, err, res)
		}
		var got []string
		for _, c := range res.Certificates {
			text := c.Kind + " " + c.Name
			if c.Old != nil {
				text += " -" + c.Old.Serial
			}
			if c.New != nil {
				text += " +" + c.New.Serial
			}
			got = append(got, text)
		}
		if strings.Join(got, ", ") != strings.Join(changes, ", ") {
			t.Errorf("%s: %q, want %q", what, got, changes)
		}
		if n := h.seen.FilterMessage("certificate changed").Len() - logged; n != len(changes) {
			t.Errorf("%s: %d lines in the log, want %d", what, n, len(changes))
		}
		return &res
	}
	serial := func(c *testpki.Cert) string { return c.Cert.SerialNumber.Text(16) }
	first := h.s.Certificates()
	var before string
	for _, c := range first {
		if c.Kind == kindIdentity {
			before = c.Serial
		}
	}
	reload("nothing")
	one := h.pair(testpki.Leaf{CN: "renewed\x1b[31m"})
	res := reload("renewed", "identity pay -"+before+" +"+serial(one))
	if c := res.Certificates[0].New; strings.Contains(c.Subject, "\x1b") || !strings.Contains(c.Subject, "renewed") || !c.NotAfter.Equal(one.Cert.NotAfter) {
		t.Errorf("%+v", c)
	}
	other := testpki.Must(testpki.NewCA(testpki.Options{CN: "Partner CA"}))
	h.put("ca.pem", 0o644, append(h.ca.PEM(), other.PEM()...))
	if res = reload("a CA in company", "authority staff +"+other.Cert.SerialNumber.Text(16)); res.Policy != res.Before || res.Snapshot == res.SnapshotBefore {
		t.Errorf("another bundle of CAs: policy %s, before %s; snapshot %s, before %s", res.Policy, res.Before, res.Snapshot, res.SnapshotBefore)
	}
	two := h.pair(testpki.Leaf{Key: testpki.P384})
	h.put("ca.pem", 0o644, other.PEM())
	h.put("staff.crl", 0o644, testpki.CRLPEM(testpki.Must(other.CRL(1, time.Now().Add(time.Hour)))))
	reload("both", "identity pay -"+serial(one)+" +"+serial(two), "authority staff -"+h.ca.Cert.SerialNumber.Text(16))
	h.put("sslgate.yaml", 0o644, []byte("version: 1\n"))
	if res, ok, err := h.api.Reload(t.Context()); err != nil || ok || len(res.Certificates) > 0 {
		t.Errorf("refused: %v, %v, %+v", ok, err, res)
	}
	h.put("sslgate.yaml", 0o644, without)
	reload("nothing since")
}

// Where a bundle changes whole, the answer stays short and says how much more there is.
func TestManyChanges(t *testing.T) {
	var before, now []used
	for range maxChanges + 3 {
		before = append(before, used{kindAuthority, "staff", "a.pem", testpki.Must(testpki.NewCA(testpki.Options{})).Cert})
	}
	if all := compare(before, now); len(all) != maxChanges+3 || all[0].New != nil {
		t.Errorf("%d changes", len(all))
	}
	h := newHouse(t)
	c := changes{seen: before}
	all, more := c.look(h.s.runtime(), zap.NewNop())
	if len(all) != maxChanges || more != 3+1 { // the identity came, and the house's CA takes the place of one
		t.Errorf("%d changes and %d more", len(all), more)
	}
	if all, more := c.look(h.s.runtime(), zap.NewNop()); len(all)+more != 0 {
		t.Errorf("seen twice: %d and %d", len(all), more)
	}
}

// swapping is the source of an identity that replaces its certificate by itself.
type swapping struct{ now atomic.Pointer[identity.File] }

func (s *swapping) set(c *testpki.Cert) {
	s.now.Store(identity.NewFile([]tls.Certificate{c.TLS()}, nil))
}
func (s *swapping) OnDemand() bool                  { return false }
func (s *swapping) Is() []identity.Kind             { return s.now.Load().Is() }
func (s *swapping) Certificates() []tls.Certificate { return s.now.Load().Certificates() }
func (s *swapping) For(ctx context.Context, h *handshake.ClientHello, now time.Time) ([]tls.Certificate, error) {
	return s.now.Load().For(ctx, h, now)
}

// A certificate that its source replaces without a reload is shown to the next client,
// and is what the page, the metrics and the log speak of; the policy stays.
func TestSourceThatSwaps(t *testing.T) {
	h := newHouse(t)
	src := &swapping{}
	issue := func(days int) *testpki.Cert {
		return testpki.Must(h.ca.Issue(testpki.Leaf{DNS: []string{"pay.example"}, NotAfter: time.Now().AddDate(0, 0, days)}))
	}
	first, second := issue(90), issue(3)
	src.set(first)
	rt := *h.s.runtime()
	rt.Environment.Identities = maps.Clone(rt.Environment.Identities)
	rt.Environment.Identities["pay"] = policy.Identity{Name: "pay", Source: src}
	h.inForce(&rt)

	shows := func(want *testpki.Cert) {
		t.Helper()
		conn := h.good()
		defer conn.Close()
		if got := conn.ConnectionState().PeerCertificates[0]; !got.Equal(want.Cert) {
			t.Errorf("a client sees serial %x, want %x", got.SerialNumber, want.Cert.SerialNumber)
		}
	}
	shows(first)
	before := h.s.policyID()
	src.set(second)
	shows(second)
	if h.s.policyID() != before {
		t.Error("the policy is another one")
	}
	var serials []string
	for _, c := range h.s.Certificates() {
		serials = append(serials, c.Serial)
	}
	if want := second.Cert.SerialNumber.Text(16); serials[0] != want {
		t.Errorf("the page has %q, want %s first", serials, want)
	}
	_, text := h.ask(http.MethodGet, "/metrics", "", nil)
	if want := fmt.Sprintf(`sslgate_certificate_expiry_timestamp_seconds{kind="identity",name="pay"} %v`, float64(second.Cert.NotAfter.Unix())); !strings.Contains(string(text), want) {
		t.Errorf("the metrics have no %s", want)
	}
	h.s.lookForChanges()
	// The service's own look, each few seconds, may have been first; nobody says it twice.
	testenv.Eventually(t, "a line in the log", func() bool {
		return h.seen.FilterMessage("certificate changed").FilterField(zap.String("serial", second.Cert.SerialNumber.Text(16))).
			FilterField(zap.String("before_serial", first.Cert.SerialNumber.Text(16))).Len() == 1
	})
	h.s.lookForChanges()
	if n := h.seen.FilterMessage("certificate changed").Len(); n != 1 {
		t.Errorf("%d lines in the log", n)
	}
}

// ring is the source of an authority that replaces its certificates by itself.
type ring struct {
	now atomic.Pointer[handshake.Authority]
}

func (r *ring) Current() *handshake.Authority { return r.now.Load() }

// Where the source of an authority replaces its CAs without a reload, live flows of a CA
// that is gone end under `reload: {live: reevaluate}`, and go on without it.
func TestAuthorityThatSwaps(t *testing.T) {
	for live, ended := range map[string]bool{"reevaluate": true, "keep": false} {
		h := newHouse(t, func(h *house) {
			h.put("sslgate.yaml", 0o644, []byte(strings.Replace(houseConfig, "policy:", "reload: {live: "+live+"}\npolicy:", 1)))
		})
		src, other := &ring{}, testpki.Must(testpki.NewCA(testpki.Options{CN: "Other CA"}))
		src.now.Store(&handshake.Authority{Name: "staff", Roots: []*x509.Certificate{h.ca.Cert, other.Cert}})
		rt := *h.s.runtime()
		rt.Environment.Authorities = maps.Clone(rt.Environment.Authorities)
		rt.Environment.Authorities["staff"] = src
		h.inForce(&rt)
		conn := h.good()
		defer conn.Close()
		h.s.lookForChanges()
		h.says(conn, "nothing has changed")

		src.now.Store(&handshake.Authority{Name: "staff", Roots: []*x509.Certificate{other.Cert}})
		h.s.lookForChanges()
		testenv.Eventually(t, "a line in the log", func() bool { return h.seen.FilterMessage("authorities changed").Len() == 1 })
		if got := h.seen.FilterMessage("live flow ended by a reload").Len() == 1; got != ended {
			t.Errorf("%s: ended: %v", live, got)
		}
		if !ended {
			h.says(conn, "the flow goes on")
		}
		if c, err := h.connect("pay.example", true); err == nil {
			_ = c.SetDeadline(testenv.Deadline())
			if _, err = c.Read(make([]byte, 1)); err == nil {
				t.Errorf("%s: a client of a CA that is gone got in", live)
			}
			_ = c.Close()
		}
	}
}

// inForce puts a configuration in force with the sources that it has.
func (h *house) inForce(rt *config.Runtime) {
	h.t.Helper()
	set, found := policy.Compile(rt.Config.Policy, rt.Environment)
	if set == nil {
		h.t.Fatal(found)
	}
	rt.Set = set
	h.s.reloading.Lock() // the look of the service comes between two reloads, not within
	defer h.s.reloading.Unlock()
	h.s.mu.Lock()
	h.s.rt = rt
	h.s.mu.Unlock()
	h.s.gateway.Put(gatewaySettings(rt))
	h.s.changes.look(rt, zap.NewNop())
	h.s.trustChanged(rt)
}
