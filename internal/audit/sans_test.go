package audit

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/lab/testpki"
)

// A directoryName is written as the subject is, whatever has to be escaped in it:
// both can be copied into a rule. What RFC 4514 has not escaped still is.
func TestDirectoryNamesLookLikeSubjects(t *testing.T) {
	ca := testpki.Must(testpki.NewCA(testpki.Options{CN: "Staff"}))
	for _, cn := range []string{"plain", "a,b", `a\b`, `a"b+c`, " a ", "#a", "a\nb", "a\u202eb", "a\x00b", "päy"} {
		der := testpki.Must(asn1.Marshal(pkix.Name{CommonName: cn, Organization: []string{"x; y"}}.ToRDNSequence()))
		dir := testpki.Must(asn1.Marshal(asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 4, IsCompound: true, Bytes: der}))
		dns := testpki.Must(asn1.Marshal(asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 2, Bytes: []byte(`x\y` + "\x1b")}))
		value := testpki.Must(asn1.Marshal(asn1.RawValue{Tag: asn1.TagSequence, IsCompound: true, Bytes: append(dir, dns...)}))
		leaf := testpki.Must(ca.Issue(testpki.Leaf{Mutate: func(c *x509.Certificate) {
			c.RawSubject = der
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: value}}
		}}))
		r := NewRecord("1-1", time.Now(), netip.AddrPort{}, netip.AddrPort{})
		r.Peer = &handshake.Peer{Shown: leaf.Chain}
		_, m := write(t, r)
		p := m["peer"].(map[string]any)
		if d := cmp.Diff(any([]any{`dns:x\\y\x1b`, "dirname:" + p["subject"].(string)}), p["sans"]); d != "" {
			t.Errorf("%q: %s", cn, d)
		}
	}
}
