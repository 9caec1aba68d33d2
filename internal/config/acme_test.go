package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/handshake/stdtls"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/reason"
)

// Whatever stands where an ordered certificate should be, the configuration is good, and its
// policy the same: what can be used is shown, what has ended is shown to nobody, and what is not
// there or cannot be used is awaited, and taken once it is there.
func TestOrderedIdentity(t *testing.T) {
	ca := testpki.Must(testpki.NewCA(testpki.Options{}))
	now := time.Now()
	pemOf := func(l testpki.Leaf) []byte {
		t.Helper()
		chain, key, err := testpki.Must(ca.Issue(l)).PEM()
		if err != nil {
			t.Fatal(err)
		}
		return append(key, chain...)
	}
	good := testpki.Leaf{DNS: []string{"pay.example", "*.pay.example"}}
	ended := good
	ended.NotBefore, ended.NotAfter = now.Add(-2*time.Hour), now.Add(-time.Hour)
	id := ""
	for what, c := range map[string]struct {
		text    []byte
		mode    os.FileMode
		awaited bool
		said    string
	}{
		"good":         {pemOf(good), 0o600, false, ""},
		"ended":        {pemOf(ended), 0o600, false, "expired on"},
		"not there":    {nil, 0, true, "no such file"},
		"other names":  {pemOf(testpki.Leaf{DNS: []string{"else.example"}}), 0o600, true, "it has other names"},
		"nonsense":     {[]byte("nonsense\n"), 0o600, true, "no certificate can be used yet"},
		"half of it":   {pemOf(good)[:300], 0o600, true, "no certificate can be used yet"},
		"open for all": {pemOf(good), 0o644, true, "is open to everyone"},
	} {
		dir := t.TempDir()
		put := func(name string, mode os.FileMode, text []byte) {
			t.Helper()
			if err := errors.Join(os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755), os.WriteFile(filepath.Join(dir, name), text, mode), os.Chmod(filepath.Join(dir, name), mode)); err != nil {
				t.Fatal(err)
			}
		}
		put("ca.pem", 0o644, ca.PEM())
		put("gateway.yaml", 0o644, []byte(`version: 1
capture: {interfaces: [eth1], ports: [443]}
authorities: {staff: {roots: ca.pem}}
state: state
identities:
  pay: {acme: {directory: "https://ca.example/dir", names: ["*.pay.example", pay.example], agree_terms: true, roots: ca.pem, dns: /run/dns.sock}}
policy:
  rules:
    - {name: r, to: ['10.0.0.0/8:443'], identity: pay, alpn: [], client: {certificate: required, authorities: [staff]}, destination: {tls: plain}}
`))
		if c.text != nil {
			put("state/acme/pay.pem", c.mode, c.text)
		}
		rt, found := Check(filepath.Join(dir, "gateway.yaml"), stdtls.New())
		said := messages(found)
		if rt == nil || !strings.Contains(said, c.said) || c.said == "" && said != "" {
			t.Errorf("%s: %s", what, said)
			continue
		}
		if id == "" {
			id = rt.Set.ID()
		}
		own := rt.Own[0]
		if rt.Set.ID() != id || own.source.Awaited() != c.awaited || (own.Failed() != nil) != c.awaited {
			t.Errorf("%s: policy %s, before %s, awaited %v: %v", what, rt.Set.ID(), id, own.source.Awaited(), own.Failed())
		}
		_, err := own.source.For(t.Context(), nil, now)
		var e *handshake.Error
		if what == "good" {
			if err != nil {
				t.Error(err)
			}
		} else if !errors.As(err, &e) || e.Reason != reason.IdentityEnded {
			t.Errorf("%s: a handshake ends with %v", what, err)
		}
		if o := own.Order(); o == nil || o.File != filepath.Join(dir, "state", "acme", "pay.pem") || o.DNS != "/run/dns.sock" || o.Roots == nil {
			t.Errorf("%s: %+v", what, o)
		}
		own.Ordered(errors.New("the CA is away"))
		if err := own.Failed(); err == nil || !strings.Contains(err.Error(), "the CA is away") && c.text == nil {
			t.Errorf("%s: after an order that failed: %v", what, err)
		}
		own.Ordered(nil)
		put("state/acme/pay.pem", 0o600, pemOf(good))
		if changed, err := own.Renew(now); !changed || err != nil || own.Failed() != nil || own.source.Awaited() {
			t.Errorf("%s: what has come is not taken: %v, %v", what, changed, err)
		}
		if _, err := own.source.For(t.Context(), nil, now); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}
