package policy

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/sslgate/sslgate/internal/certname"
	"github.com/sslgate/sslgate/internal/lab/testpki"
)

// rawSubject writes a subject of single attributes in the order of the
// certificate: "OID tag hex-of-content", separated by commas.
func rawSubject(t *testing.T, attributes string) func(*x509.Certificate) {
	t.Helper()
	var dn []pkix.RelativeDistinguishedNameSET
	for _, a := range strings.Split(attributes, ",") {
		f := strings.Fields(a)
		oid := asn1.ObjectIdentifier{2, 5, 4, 3}
		switch f[0] {
		case "DC":
			oid = asn1.ObjectIdentifier{0, 9, 2342, 19200300, 100, 1, 25}
		case "UID":
			oid = asn1.ObjectIdentifier{0, 9, 2342, 19200300, 100, 1, 1}
		case "O":
			oid[3] = 10
		case "email":
			oid = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 1}
		}
		tag := map[string]int{"utf8": 12, "printable": 19, "ia5": 22, "t61": 20, "bmp": 30}[f[1]]
		value := asn1.RawValue{Tag: tag, Bytes: testpki.Must(hex.DecodeString(f[2]))}
		dn = append(dn, pkix.RelativeDistinguishedNameSET{{Type: oid, Value: value}})
	}
	raw := testpki.Must(asn1.Marshal(dn))
	return func(c *x509.Certificate) { c.RawSubject = raw }
}

// What is shown of a name is what a rule compares, in every form that means the
// same.
func TestNamesAsTheyStand(t *testing.T) {
	p := testPKI()
	h := func(s string) string { return hex.EncodeToString([]byte(s)) }
	ad := "DC ia5 " + h("example") + ",DC ia5 " + h("corp") + ",CN printable " + h("Users") + ",CN utf8 " + h("joe")
	for _, tt := range []struct{ raw, allow, shown string }{
		{"CN utf8 " + h("joe") + ",CN utf8 " + h("admin"), "CN=admin,CN=joe", "CN=admin,CN=joe"},
		{ad, "CN=joe,CN=Users,DC=corp,DC=example", "CN=joe,CN=Users,DC=corp,DC=example"},
		{ad, "CN=joe,CN=Users,0.9.2342.19200300.100.1.25=#1604636f7270,dc=example", "CN=joe,CN=Users,DC=corp,DC=example"},
		{"UID ia5 " + h("jd"), "uid=jd", "UID=jd"},
		{"CN utf8 " + h("joe") + ",email ia5 " + h("a@b"), "1.2.840.113549.1.9.1=#1603614062,CN=joe", "1.2.840.113549.1.9.1=#1603614062,CN=joe"},
		{"CN bmp 0141006f", "CN=Ło", "CN=Ło"},
		{"CN t61 fc", "CN=ü", "CN=ü"},
		{"CN bmp 00610000", `CN=a\00`, `CN=a\00`},
		{"O utf8 " + h(`Corp, "Inc"`), `O=Corp\2c \"Inc\"`, `O=Corp\, \"Inc\"`},
		{"CN utf8 " + h("a\x00b"), `CN=a\00b`, `CN=a\00b`},
	} {
		set, plan, f := policyWith(t, "{authorities: [staff], allow: [{subject: ['"+tt.allow+"']}]}")
		f.Peer = peer("staff", p.staff, testpki.Leaf{DNS: []string{"x.example"}, Mutate: rawSubject(t, tt.raw)})
		if got := certname.Subject(f.Peer.Leaf()); got != tt.shown {
			t.Errorf("%s is shown as %q, want %q", tt.raw, got, tt.shown)
		}
		if v := set.OnPeer(plan, f); v.Action != Terminate {
			t.Errorf("%s does not fit %s: %+v", tt.raw, tt.allow, v)
		}
		set, plan, f2 := policyWith(t, "{authorities: [staff], allow: [{subject: ['CN=nobody']}]}")
		f2.Peer = f.Peer
		if v := set.OnPeer(plan, f2); v.Action == Terminate || !strings.Contains(v.Detail, "("+tt.shown+")") {
			t.Errorf("%s is refused as %+v, want %s in it", tt.raw, v, tt.shown)
		}
	}
}

// A common name that ends in a NUL is no other one.
func TestCommonNameAsItStands(t *testing.T) {
	p := testPKI()
	for raw, fits := range map[string]bool{"CN bmp 00610064006d0069006e": true, "CN bmp 00610064006d0069006e0000": false, "CN utf8 61646d696e00": false} {
		set, plan, f := policyWith(t, "{authorities: [staff], allow: [{subject_cn: [admin]}]}")
		f.Peer = peer("staff", p.staff, testpki.Leaf{DNS: []string{"x.example"}, Mutate: rawSubject(t, raw)})
		if v := set.OnPeer(plan, f); (v.Action == Terminate) != fits {
			t.Errorf("%s: %+v", raw, v)
		}
	}
}
