package policy

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"strings"
	"testing"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/reason"
)

var testLeafPay = testpki.Leaf{CN: "pay", O: []string{"Example"}, OU: []string{"Pay", "IT"}, URIs: []string{"spiffe://corp/pay/api"}}

// policyWith is a policy of one rule with these demands on the client.
func policyWith(t testing.TB, client string) (*Set, *Plan, Facts) {
	t.Helper()
	set := compile(t, fmt.Sprintf(`
rules:
  - {name: r, to: ["10.0.0.1:443"], identity: pay, client: %s, destination: {tls: plain}}
`, client))
	f := flow("10.1.1.1", "10.0.0.1:443", hello("pay.internal"))
	plan := set.OnHello(f).Plan
	if plan == nil {
		t.Fatal("the rule does not fit")
	}
	return set, plan, f
}

func TestOnPeerModes(t *testing.T) {
	p := testPKI()
	good := peer("staff", p.staff, testLeafPay)
	unverified := &handshake.Peer{Shown: good.Shown, Authority: "staff"}
	const required, optional, none = "{authorities: [staff]}", "{certificate: optional, authorities: [staff]}", "{certificate: none}"
	for name, tt := range map[string]struct {
		client string
		peer   *handshake.Peer
		action Action
		reason reason.Code
		alert  handshake.Alert
	}{
		"required and shown":         {required, good, Terminate, reason.OK, handshake.AlertNone},
		"required and absent":        {required, nil, Deny, reason.NoCertificate, handshake.AlertCertificateRequired},
		"optional and shown":         {optional, good, Terminate, reason.OK, handshake.AlertNone},
		"optional and absent":        {optional, nil, Terminate, reason.OKNoCertificate, handshake.AlertNone},
		"not asked for":              {none, nil, Terminate, reason.OKNotAsked, handshake.AlertNone},
		"shown though not asked for": {none, good, Deny, reason.Internal, handshake.AlertInternalError},
		"another authority":          {required, peer("partner", p.partner, testLeafPay), Deny, reason.UnknownCA, handshake.AlertUnknownCA},
		"optional and another":       {optional, peer("partner", p.partner, testLeafPay), Deny, reason.UnknownCA, handshake.AlertUnknownCA},
		"chain not verified":         {required, unverified, Deny, reason.Internal, handshake.AlertInternalError},
		"nothing in it":              {required, &handshake.Peer{Authority: "staff"}, Deny, reason.Internal, handshake.AlertInternalError},
	} {
		t.Run(name, func(t *testing.T) {
			set, plan, f := policyWith(t, tt.client)
			f.Peer = tt.peer
			v := set.OnPeer(plan, f)
			if v.Action != tt.action || v.Reason != tt.reason || v.Alert != tt.alert || v.Rule != "r" {
				t.Errorf("got %+v", v)
			}
			checkVerdict(t, set, v)
		})
	}
}

// A plan is good for the set that made it, and not for bypassed flows.
func TestOnPeerForeignPlan(t *testing.T) {
	set, plan, f := policyWith(t, "{authorities: [staff]}")
	f.Peer = peer("staff", testPKI().staff, testLeafPay)
	other := compile(t, walkPolicy)
	if v := other.OnPeer(plan, f); v.Action != Deny || v.Reason != reason.Internal {
		t.Errorf("plan of another set: %+v", v)
	}
	bypass, _ := other.OnSYN(flow("10.1.1.1", "10.30.0.9:443", nil))
	if v := other.OnPeer(bypass.Plan, f); bypass.Plan == nil || v.Action != Deny {
		t.Errorf("plan of a bypass: %+v", v)
	}
	if v := set.OnPeer(plan, f); v.Action != Terminate {
		t.Errorf("own plan: %+v", v)
	}
}

func TestPermits(t *testing.T) {
	p := testPKI()
	set, plan, f := policyWith(t, "{authorities: [staff, partner]}")
	upn := func(c *x509.Certificate) { // otherName, as smart cards have it
		c.ExtraExtensions = append(c.ExtraExtensions, sanExtension(rawName{0, []byte{0x06, 0x01, 0x2a, 0xa0, 0x02, 0x05, 0x00}}))
	}
	for name, tt := range map[string]struct {
		leaf testpki.Leaf
		ok   bool
	}{
		"trust domain":              {testpki.Leaf{URIs: []string{"spiffe://partner/x"}}, true},
		"another trust domain":      {testpki.Leaf{URIs: []string{"spiffe://corp/x"}}, false},
		"odd spelling of a domain":  {testpki.Leaf{URIs: []string{"spiffe://PARTNER/x"}}, false},
		"no SPIFFE id at all":       {testpki.Leaf{URIs: []string{"spiffe://partner/a%2fb"}}, false},
		"two SPIFFE ids":            {testpki.Leaf{URIs: []string{"spiffe://partner/x", "spiffe://partner/y"}}, false},
		"a URI of a kind not named": {testpki.Leaf{URIs: []string{"https://partner/x"}}, false},
		"a name below":              {testpki.Leaf{DNS: []string{"a.b.partner.example"}}, true},
		"upper case":                {testpki.Leaf{DNS: []string{"A.Partner.Example"}}, true},
		"a wildcard below":          {testpki.Leaf{DNS: []string{"*.partner.example"}}, true},
		"a wildcard above":          {testpki.Leaf{DNS: []string{"*.example"}}, false},
		"the name itself":           {testpki.Leaf{DNS: []string{"partner.example"}}, false},
		"another name":              {testpki.Leaf{DNS: []string{"xpartner.example"}}, false},
		"one good and one bad":      {testpki.Leaf{DNS: []string{"a.partner.example", "pay.internal"}}, false},
		"e-mail, not named":         {testpki.Leaf{Emails: []string{"joe@partner.example"}}, false},
		"address, not named":        {testpki.Leaf{IPs: []string{"10.0.0.1"}}, false},
		"other name":                {testpki.Leaf{Mutate: upn}, false},
		"no name at all":            {testpki.Leaf{}, true},
	} {
		t.Run(name, func(t *testing.T) {
			f.Peer = peer("partner", p.partner, tt.leaf)
			v := set.OnPeer(plan, f)
			if (v.Action == Terminate) != tt.ok || !tt.ok && v.Reason != reason.AuthorityNotNamed {
				t.Errorf("partner: %+v", v)
			}
			checkVerdict(t, set, v)
			// The same by an authority without permits.
			f.Peer = peer("staff", p.staff, tt.leaf)
			if v := set.OnPeer(plan, f); v.Action != Terminate {
				t.Errorf("staff: %+v", v)
			}
		})
	}
}

func TestAllow(t *testing.T) {
	p := testPKI()
	key := testpki.Must(testpki.NewKey(testpki.P256))
	pinned := testpki.Must(p.staff.IssueFor(testpki.Leaf{}, key))
	issuer := testpki.Must(testpki.NewCA(testpki.Options{CN: "Staff, Inc. CA", Org: "Example"}))
	twoCNs := func(c *x509.Certificate) {
		c.Subject.ExtraNames = []pkix.AttributeTypeAndValue{
			{Type: oidCommonName, Value: "guest"}, {Type: oidCommonName, Value: "admin"},
		}
	}
	for _, tt := range []struct {
		allow string
		ca    *testpki.CA
		leaf  testpki.Leaf
		bad   string // beginning of the detail; "" if it is allowed
	}{
		{`san_dns: ["*.corp.example"]`, nil, testpki.Leaf{DNS: []string{"x", "A.corp.example"}}, ""},
		{`san_dns: ["*.corp.example"]`, nil, testpki.Leaf{DNS: []string{"a.b.corp.example"}}, "allow[0]: san_dns (a.b.corp.example)"},
		{`san_dns: ["*.corp.example"]`, nil, testpki.Leaf{DNS: []string{"*.corp.example"}}, ""},
		{`san_dns: ["a.corp.example"]`, nil, testpki.Leaf{DNS: []string{"*.corp.example"}}, "allow[0]: san_dns"},
		{`san_dns: ["a.example"]`, nil, testpki.Leaf{CN: "a.example"}, "allow[0]: san_dns (none)"},
		{`san_uri: ["spiffe://corp/pay/*"]`, nil, testLeafPay, ""},
		{`san_uri: ["spiffe://corp/pay/*"]`, nil, testpki.Leaf{URIs: []string{"spiffe://corp/pay"}}, "allow[0]: san_uri"},
		{`san_uri: ["spiffe://corp/pay/*"]`, nil, testpki.Leaf{URIs: []string{"spiffe://corp/pay/a/b"}}, "allow[0]: san_uri"},
		{`san_uri: ["spiffe://corp/pay/**"]`, nil, testpki.Leaf{URIs: []string{"spiffe://corp/pay/a/b"}}, ""},
		{`san_uri: ["spiffe://corp/**"]`, nil, testpki.Leaf{URIs: []string{"spiffe://corp.evil/a"}}, "allow[0]: san_uri"},
		{`san_uri: ["spiffe://corp/pay"]`, nil, testpki.Leaf{URIs: []string{"spiffe://corp/pay", "spiffe://corp/hr"}}, "allow[0]: san_uri"},
		{`san_uri: ["spiffe://corp/pay"]`, nil, testpki.Leaf{URIs: []string{"https://a.example/", "spiffe://corp/pay"}}, "allow[0]: san_uri"},
		{`san_uri: ["https://a.example/x/*"]`, nil, testpki.Leaf{URIs: []string{"urn:a:b", "https://a.example/x/y"}}, ""},
		{`san_uri: ["https://a.example/x/*"]`, nil, testpki.Leaf{URIs: []string{"https://a.example/x/y?z"}}, "allow[0]: san_uri"},
		{`san_email: ["*@example.org"]`, nil, testpki.Leaf{Emails: []string{"joe@EXAMPLE.org"}}, ""},
		{`san_email: ["joe@example.org"]`, nil, testpki.Leaf{Emails: []string{"Joe@example.org"}}, "allow[0]: san_email (Joe@example.org)"},
		{`san_ip: ["10.0.0.0/8"]`, nil, testpki.Leaf{IPs: []string{"10.2.3.4"}}, ""},
		{`san_ip: ["fd00::1"]`, nil, testpki.Leaf{IPs: []string{"fd00::2"}}, "allow[0]: san_ip (fd00::2)"},
		{`subject_cn: [pay]`, nil, testLeafPay, ""},
		{`subject_cn: [Pay]`, nil, testLeafPay, "allow[0]: subject_cn (pay)"},
		{`subject_cn: [admin]`, nil, testpki.Leaf{Mutate: twoCNs}, "allow[0]: subject_cn (none)"},
		{`subject_o: [Other, Example]`, nil, testLeafPay, ""},
		{`subject_o: [Other]`, nil, testLeafPay, "allow[0]: subject_o (Example)"},
		{`subject_ou: [IT]`, nil, testLeafPay, ""},
		{`subject_ou: [HR]`, nil, testLeafPay, "allow[0]: subject_ou (IT, Pay)"},
		{`issuer: ['CN=Staff\, Inc. CA,O=Example']`, issuer, testLeafPay, ""},
		{`issuer: ['O=Example,CN=Staff\, Inc. CA']`, issuer, testLeafPay, `allow[0]: issuer (CN=Staff\, Inc. CA,O=Example)`},
		{`key_type: [ecdsa], key_bits: 256`, nil, testLeafPay, ""},
		{`key_type: [rsa, ed25519]`, nil, testLeafPay, "allow[0]: key_type (ecdsa)"},
		{`key_type: [ed25519], key_bits: 256`, nil, testpki.Leaf{Key: testpki.Ed25519}, ""},
		{`key_type: [rsa], key_bits: 2048`, nil, testpki.Leaf{Key: testpki.RSA2048}, ""},
		{`key_bits: 384`, nil, testLeafPay, "allow[0]: key_bits (256)"},
		{`san_uri: ["spiffe://corp/pay/api"], subject_ou: [HR]`, nil, testLeafPay, "allow[0]: subject_ou"},
	} {
		t.Run(tt.allow, func(t *testing.T) {
			set, plan, f := policyWith(t, "{authorities: [staff], allow: [{"+tt.allow+"}]}")
			ca := tt.ca
			if ca == nil {
				ca = p.staff
			}
			f.Peer = peer("staff", ca, tt.leaf)
			v := set.OnPeer(plan, f)
			if tt.bad == "" && v.Action != Terminate || tt.bad != "" && (v.Reason != reason.NotAllowed || !strings.HasPrefix(v.Detail, tt.bad)) {
				t.Errorf("got %+v", v)
			}
			checkVerdict(t, set, v)
		})
	}
	t.Run("spki", func(t *testing.T) {
		set, plan, f := policyWith(t, "{authorities: [staff], allow: [{spki: ['"+pinned.SPKI()+"']}]}")
		if f.Peer = peerOf("staff", p.staff, pinned.Cert); set.OnPeer(plan, f).Action != Terminate {
			t.Error("the pinned key is refused")
		}
		if f.Peer = peer("staff", p.staff, testpki.Leaf{}); set.OnPeer(plan, f).Reason != reason.NotAllowed {
			t.Error("another key is allowed")
		}
	})
}

// One alternative is enough, and a refusal says for each why not, bounded.
func TestAllowAlternatives(t *testing.T) {
	p := testPKI()
	set, plan, f := policyWith(t, `{authorities: [staff], allow: [{subject_o: [A]}, {subject_ou: [Pay], key_bits: 521}, {subject_cn: [pay]}]}`)
	if f.Peer = peer("staff", p.staff, testLeafPay); set.OnPeer(plan, f).Action != Terminate {
		t.Error("the third alternative does not help")
	}
	f.Peer = peer("staff", p.staff, testpki.Leaf{OU: []string{"Pay"}, O: []string{strings.Repeat("x", 5000)}})
	v := set.OnPeer(plan, f)
	want := "allow[0]: subject_o (" + strings.Repeat("x", maxQuoted) + "...); allow[1]: key_bits (256); allow[2]: subject_cn (test leaf)"
	if v.Reason != reason.NotAllowed || v.Detail != want {
		t.Errorf("got %+v, want detail %s", v, want)
	}
	many := make([]string, 40)
	for i := range many {
		many[i] = fmt.Sprintf("{subject_o: [Other%d]}", i)
	}
	set, plan, f = policyWith(t, "{authorities: [staff], allow: ["+strings.Join(many, ", ")+"]}")
	var long []string
	for i := range 50 {
		long = append(long, fmt.Sprintf("%d%s", i, strings.Repeat("y", 500)))
	}
	f.Peer = peer("staff", p.staff, testpki.Leaf{O: long})
	v = set.OnPeer(plan, f)
	if len(v.Detail) > 8*(4*(maxQuoted+8)+64) || !strings.HasSuffix(v.Detail, "; and 32 more") || !strings.Contains(v.Detail, "and 46 more") {
		t.Errorf("%d bytes of detail: %s", len(v.Detail), v.Detail)
	}
}

// What a hostile CA may write must never fit, and never stop the gateway.
func TestHostileNames(t *testing.T) {
	p := testPKI()
	allowAll := `{authorities: [staff], allow: [
		{san_dns: ["a.example", "*.example"]}, {san_uri: ["spiffe://corp/pay", "https://a.example/**", "spiffe://corp/**", "https://a.example/x"]},
		{san_email: ["*@example.org", "joe@example.org"]}, {san_ip: ["0.0.0.0/0", "::/0"]}, {subject_cn: [admin]}]}`
	set, plan, f := policyWith(t, allowAll)
	dns := func(s string) rawName { return rawName{2, []byte(s)} }
	uri := func(s string) rawName { return rawName{6, []byte(s)} }
	email := func(s string) rawName { return rawName{1, []byte(s)} }
	for name, tt := range map[string]struct {
		san  pkix.Extension
		want reason.Code
	}{
		"NUL in a name":          {sanExtension(dns("a.example\x00.evil")), reason.NotAllowed},
		"NUL at the end":         {sanExtension(dns("a.example\x00")), reason.NotAllowed},
		"trailing dot":           {sanExtension(dns("a.example.")), reason.NotAllowed},
		"leading dot":            {sanExtension(dns(".example")), reason.NotAllowed},
		"partial wildcard":       {sanExtension(dns("f*.example")), reason.NotAllowed},
		"star alone":             {sanExtension(dns("*")), reason.NotAllowed},
		"space":                  {sanExtension(dns("a.example ")), reason.NotAllowed},
		"newline":                {sanExtension(dns("a.example\n")), reason.NotAllowed},
		"Kelvin sign":            {sanExtension(dns("\u212a.example")), reason.NotAllowed},
		"empty name":             {sanExtension(dns("")), reason.NotAllowed},
		"empty fragment":         {sanExtension(uri("https://a.example/x#")), reason.NotAllowed},
		"escaped slash":          {sanExtension(uri("https://a.example/a%2f..")), reason.NotAllowed},
		"dot segments":           {sanExtension(uri("https://a.example/a/../b")), reason.NotAllowed},
		"NUL in a URI":           {sanExtension(uri("spiffe://corp/pay\x00")), reason.NotAllowed},
		"port in a SPIFFE id":    {sanExtension(uri("spiffe://corp:1/pay")), reason.NotAllowed},
		"user in a SPIFFE id":    {sanExtension(uri("spiffe://x@corp/pay")), reason.NotAllowed},
		"query of a SPIFFE id":   {sanExtension(uri("spiffe://corp/pay?x")), reason.NotAllowed},
		"two at signs":           {sanExtension(email("joe@evil@example.org")), reason.NotAllowed},
		"quoted local part":      {sanExtension(email(`"joe@evil"@example.org`)), reason.NotAllowed},
		"NUL in an e-mail":       {sanExtension(email("joe@example.org\x00")), reason.NotAllowed},
		"address of three bytes": {sanExtension(rawName{7, []byte{10, 0, 0}}), reason.BadCertificate},
		"address with a mask":    {sanExtension(rawName{7, []byte{10, 0, 0, 0, 255, 0, 0, 0}}), reason.BadCertificate},
		"garbage":                {pkix.Extension{Id: oidSubjectAltName, Value: []byte{0x30, 0x05, 1}}, reason.BadCertificate},
		"trailing bytes":         {pkix.Extension{Id: oidSubjectAltName, Value: append(sanExtension(dns("a.example")).Value, 0)}, reason.BadCertificate},
		"not context-specific":   {pkix.Extension{Id: oidSubjectAltName, Value: []byte{0x30, 0x03, 0x0c, 0x01, 'a'}}, reason.BadCertificate},
		"not a sequence":         {pkix.Extension{Id: oidSubjectAltName, Value: []byte{0x0c, 0x01, 'a'}}, reason.BadCertificate},
		"empty":                  {pkix.Extension{Id: oidSubjectAltName}, reason.BadCertificate},
	} {
		t.Run(name, func(t *testing.T) {
			// x509.ParseCertificate would refuse some of these: policy does
			// not rely on that.
			cert := *testpki.Must(p.staff.Issue(testpki.Leaf{})).Cert
			cert.Extensions = []pkix.Extension{tt.san}
			f.Peer = peerOf("staff", p.staff, &cert)
			if v := set.OnPeer(plan, f); v.Action != Deny || v.Reason != tt.want {
				t.Errorf("got %+v", v)
			}
		})
	}
	t.Run("two extensions", func(t *testing.T) {
		cert := *testpki.Must(p.staff.Issue(testpki.Leaf{})).Cert
		cert.Extensions = []pkix.Extension{sanExtension(dns("a.example")), sanExtension(dns("b.example"))}
		f.Peer = peerOf("staff", p.staff, &cert)
		if v := set.OnPeer(plan, f); v.Reason != reason.BadCertificate {
			t.Errorf("got %+v", v)
		}
	})
	t.Run("the control is allowed", func(t *testing.T) {
		cert := *testpki.Must(p.staff.Issue(testpki.Leaf{})).Cert
		cert.Extensions = []pkix.Extension{sanExtension(dns("a.example"))}
		f.Peer = peerOf("staff", p.staff, &cert)
		if v := set.OnPeer(plan, f); v.Action != Terminate {
			t.Errorf("got %+v", v)
		}
	})
}

// rawName is one GeneralName: its tag and content.
type rawName struct {
	tag   int
	bytes []byte
}

var (
	oidSubjectAltName = asn1.ObjectIdentifier{2, 5, 29, 17}
	oidCommonName     = asn1.ObjectIdentifier{2, 5, 4, 3}
)

// sanExtension writes a subjectAltName, also one that no CA should.
func sanExtension(names ...rawName) pkix.Extension {
	var raw []asn1.RawValue
	for _, n := range names {
		raw = append(raw, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: n.tag, IsCompound: n.tag == 0, Bytes: n.bytes})
	}
	value, err := asn1.Marshal(raw)
	if err != nil {
		panic(err)
	}
	return pkix.Extension{Id: oidSubjectAltName, Value: value}
}
