package revocation

import (
	"testing"

	"github.com/sslgate/sslgate/internal/certname"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/reason"
)

// What is denied is refused in every mode, also where nobody checks anything, ends live flows and
// voids tickets; an intermediate's too. What is not denied is as before.
func TestDenied(t *testing.T) {
	w := newWorld(t)
	other := testpki.Must(w.inter.Issue(testpki.Leaf{CN: "other"}))
	set := func(s string) map[string]bool { return map[string]bool{s: true} }
	for name, d := range map[string]*Denied{
		"serial":       {Serials: set(w.client.Cert.SerialNumber.Text(16))},
		"key":          {Keys: set(w.client.SPKI())},
		"subject":      {Subjects: set(certname.Of(w.client.Cert.RawSubject))},
		"intermediate": {Subjects: set(certname.Of(w.inter.Cert.RawSubject))},
	} {
		for _, mode := range []Mode{Off, Soft, Hard} {
			a := w.authority(mode)
			for _, ca := range []*testpki.CA{w.root, w.inter} {
				a.Sources = append(a.Sources, Source{Location: "/in/memory", Lists: testpki.Must(ParseLists(w.crl(t, ca, crl{number: 1}), w.cas()))})
			}
			k := checker(t, Options{}, a)
			peer := peerOf(w.client, w.root)
			before := k.Epoch()
			heard := 0
			defer k.OnChange(func() { heard++ })()
			if r := k.Check(t.Context(), peer, w.now); r.Code != "" {
				t.Fatalf("%s: not denied yet: %+v", name, r)
			}
			k.Deny(d)
			if k.Epoch() == before || heard != 1 {
				t.Errorf("%s: live flows are not looked at", name)
			}
			if r := k.Check(t.Context(), peer, w.now); r.Code != reason.Revoked || r.Status != Revoked || r.Source != FromFleet {
				t.Errorf("%s, %v: %+v", name, mode, r)
			}
			if code, _ := k.Ended(peer, w.now); code != reason.EndRevoked {
				t.Errorf("%s, %v: a live flow ends by %q", name, mode, code)
			}
			if name != "intermediate" && !k.Withdrawn([]string{"staff"}, [][]byte{w.client.Cert.Raw}) {
				t.Errorf("%s, %v: its ticket is taken", name, mode)
			}
			if r := k.Check(t.Context(), peerOf(other, w.root), w.now); (r.Code == reason.Revoked) != (name == "intermediate") {
				t.Errorf("%s, %v: another client: %+v", name, mode, r)
			}
		}
	}
}
