package gateway

import (
	"crypto/tls"
	"net/netip"
	"testing"

	"github.com/sslgate/sslgate/internal/lab/testpki"
)

// mode: observe lets every client through that it would refuse, says so in
// the record, and leaves good ones as they are.
func TestObserve(t *testing.T) {
	spec := mtls()
	spec.Rules[0].Mode = "observe"
	other := testpki.Must(testpki.NewCA(testpki.Options{CN: "other"}))
	n := 0
	h := newHouse(t, spec, nil)
	for _, version := range versions {
		for _, c := range []struct {
			name, would string
			cert        *tls.Certificate
		}{
			{"good", "", h.alice()},
			{"none", "no_certificate", nil},
			{"other CA", "unknown_ca", ptr(testpki.Must(other.Issue(testpki.Leaf{})).TLS())},
			{"expired", "certificate_expired", ptr(testpki.Must(h.ca.Expired(testpki.Leaf{})).TLS())},
		} {
			t.Run(tls.VersionName(version)+"/"+c.name, func(t *testing.T) {
				n++
				conn, err := h.tlsClient(server4, c.cert, only(version))
				if err != nil {
					t.Fatal(err)
				}
				echo(t, conn)
				_ = conn.Close()
				r := h.record(n)
				if r.str("would_reason") != c.would || r.str("verdict") != "allowed" || (r.str("would") == "deny") != (c.would != "") {
					t.Errorf("would %q %q, verdict %s, reason %s; want %q", r.str("would"), r.str("would_reason"), r.str("verdict"), r.str("reason"), c.would)
				}
			})
		}
	}
	// A thief has no proof, and that cannot be observed through.
	thief := testpki.Thief(testpki.Must(h.ca.Issue(testpki.Leaf{})), testpki.Must(testpki.NewKey(testpki.P256)))
	if conn, err := h.tlsClient(server4, &thief, only(tls.VersionTLS12)); err == nil {
		_ = conn.Close()
		t.Error("a thief was observed through")
	}
}

// Where no rule of an observed policy fits there is nothing to terminate
// with: the flow is bypassed, and recorded.
func TestObserveNoRule(t *testing.T) {
	spec := mtls()
	spec.Mode = "observe"
	h := newHouse(t, spec, nil)
	c := h.dial(netip.MustParseAddrPort("198.51.100.7:443"))
	echo(t, c)
	_ = c.Close()
	if r := h.record(1); r.str("action") != "bypass" || r.str("would") != "deny" || r.str("would_reason") != "no_rule" {
		t.Errorf("record %v", r)
	}
}
