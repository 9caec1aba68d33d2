package policy

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/reason"
)

// rareNames encodes names of the rare kinds.
func rareNames(t *testing.T) pkix.Extension {
	t.Helper()
	must := func(v any, params string) []byte { return testpki.Must(asn1.MarshalWithParams(v, params)) }
	text := must("joe@corp.example", "utf8")
	other := append(must(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 20, 2, 3}, ""), must(asn1.RawValue{Class: 2, Tag: 0, IsCompound: true, Bytes: text}, "")...)
	dir := must(pkix.Name{CommonName: "Press 1", Organization: []string{"Corp"}}.ToRDNSequence(), "")
	rid := must(asn1.ObjectIdentifier{1, 2, 3, 4}, "")[2:]
	names := []asn1.RawValue{
		{Class: 2, Tag: 0, IsCompound: true, Bytes: other}, {Class: 2, Tag: 4, IsCompound: true, Bytes: dir}, {Class: 2, Tag: 8, Bytes: rid},
		{Class: 2, Tag: 6, Bytes: []byte("spiffe://corp.example/pay/api")},
	}
	return pkix.Extension{Id: oidSubjectAltName, Value: must(names, "")}
}

// Every field of an allow entry, once with a value that fits and once with one
// that does not.
func TestEveryDemand(t *testing.T) {
	p := testPKI()
	now := time.Now()
	middle := testpki.Must(p.staff.Intermediate(testpki.Options{CN: "Middle CA", Org: "Corp", Mutate: func(c *x509.Certificate) {
		c.Policies = []x509.OID{testpki.Must(x509.ParseOID("1.2.3.5")), testpki.Must(x509.ParseOID("1.2.3.7"))}
	}}))
	leaf := testpki.Must(middle.Issue(testpki.Leaf{
		CN: "joe", O: []string{"Corp"}, OU: []string{"HR", "Ops"}, NotBefore: now.Add(-48 * time.Hour), NotAfter: now.Add(240 * time.Hour),
		EKU: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageEmailProtection},
		Mutate: func(c *x509.Certificate) {
			c.Subject.Country, c.Subject.SerialNumber = []string{"DE"}, "4711"
			c.SerialNumber.SetUint64(0xab12)
			c.Policies = []x509.OID{testpki.Must(x509.ParseOID("1.2.3.5")), testpki.Must(x509.ParseOID("1.2.3.6"))}
			c.ExtraExtensions = append(c.ExtraExtensions, rareNames(t))
		},
	}))
	f := flow("10.1.1.1", "10.0.0.1:443", hello("a.example"))
	f.Now = now
	f.Peer = &handshake.Peer{Shown: leaf.Chain, Chain: append(append([]*x509.Certificate{}, leaf.Chain...), p.staff.Root), Authority: "staff"}
	f.State = &handshake.State{Version: tls.VersionTLS13, Suite: tls.TLS_AES_128_GCM_SHA256, Group: uint16(tls.X25519MLKEM768)}
	chain := testpki.Cert{Cert: middle.Cert}
	for field, values := range map[string][2]string{
		"san_uri": {`["spiffe://corp.example/pay/*"]`, `["spiffe://corp.example/shop/*"]`}, "spiffe_domain": {"[corp.example]", "[example]"},
		"san_dirname": {`["CN=Press 1,O=Corp"]`, `["CN=Press 1"]`}, "san_rid": {"[1.2.3.4]", "[1.2.3]"},
		"san_other":  {`["1.3.6.1.4.1.311.20.2.3=joe@corp.example"]`, `["1.3.6.1.4.1.311.20.2.3=joe@corp"]`},
		"subject":    {`["SERIALNUMBER=4711,CN=joe,OU=HR+OU=Ops,O=Corp,C=DE"]`, `["CN=joe"]`},
		"subject_cn": {"[x, joe]", "[Joe]"}, "subject_o": {"[Corp]", "[Cor]"}, "subject_ou": {"[Ops]", "[OPS]"}, "subject_c": {"[DE]", "[FR]"}, "subject_serial": {`["4711"]`, `["471"]`},
		"issuer": {`["CN=Middle CA,O=Corp"]`, `["CN=Staff CA"]`}, "issuer_cn": {"[Middle CA]", "[Staff CA]"}, "issuer_o": {"[Corp]", "[X]"},
		"chain_subject": {`["CN=Middle CA,O=Corp"]`, `["CN=joe"]`}, "chain_spki": {"[" + chain.SPKI() + "]", "[" + leaf.SPKI() + "]"},
		"serial": {"[ab12]", "[ab1]"}, "spki": {"[" + leaf.SPKI() + "]", "[" + chain.SPKI() + "]"},
		"eku": {"[emailProtection]", "[codeSigning]"}, "policies": {"[1.2.3.5]", "[1.2.3.6]"}, // the second is not the intermediate's
		"key_type": {"[ecdsa]", "[rsa]"}, "key_bits": {"256", "384"}, "valid_left": {"9d", "11d"}, "max_age": {"3d", "36h"},
		"tls_version": {`["1.3"]`, `["1.2"]`}, "tls_suite": {"[TLS_AES_128_GCM_SHA256]", "[TLS_AES_256_GCM_SHA384]"}, "tls_group": {"[X25519MLKEM768]", "[X25519]"},
	} {
		for i, value := range values {
			set := compile(t, fmt.Sprintf(`rules: [{name: a, to: ["*:*"], identity: pay, client: {authorities: [staff], allow: [{%s: %s}]}, destination: {tls: plain}}]`, field, value))
			v := set.OnPeer(set.OnHello(f).Plan, f)
			if (v.Action == Terminate) != (i == 0) || i == 1 && (v.Reason != reason.NotAllowed || !strings.HasPrefix(v.Detail, "allow[0]: "+field+" (")) {
				t.Errorf("%s: %s is %+v", field, value, v)
			}
		}
	}
	// What is not known fits nothing.
	f.State, f.Now = nil, time.Time{}
	for _, demand := range []string{`tls_version: ["1.3"]`, "valid_left: 1h", "max_age: 30d"} {
		set := compile(t, `rules: [{name: a, to: ["*:*"], identity: pay, client: {authorities: [staff], allow: [{`+demand+`}]}, destination: {tls: plain}}]`)
		if v := set.OnPeer(set.OnHello(f).Plan, f); v.Reason != reason.NotAllowed {
			t.Errorf("%s without the fact: %+v", demand, v)
		}
	}
}

func TestWhen(t *testing.T) {
	p := testPKI()
	now := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	peers := map[string]*handshake.Peer{
		"":    nil,
		"pay": peer("staff", p.staff, testpki.Leaf{CN: "joe", URIs: []string{"spiffe://corp/pay/api"}, DNS: []string{"a.staff"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(48 * time.Hour)}),
	}
	for when, want := range map[string]reason.Code{
		"true":         reason.OK,
		"1 + 1 == 3":   reason.ConditionFailed,
		"cert.present": reason.OK,
		"cert.spiffe_id == 'spiffe://corp/pay/api' && cert.spiffe_domain == 'corp' && 'a.staff' in cert.san_dns":               reason.OK,
		"cert.not_after - now < duration('72h') && cert.not_before < now":                                                      reason.OK,
		"cidr('10.1.0.0/16').containsIP(ip(source)) && source_port == 40000 && destination == '10.0.0.1' && port == 443":       reason.OK,
		"sni == 'a.example' && alpn.exists(p, p == 'h2') && tls.version == 'TLS 1.3' && tls.group == 'X25519' && !tls.resumed": reason.OK,
		"cert.key_type == 'ecdsa' && cert.key_bits >= 256 && cert.authority == 'staff' && cert.issuer_cn == 'Staff CA'":        reason.OK,
		"cert.san_email[0] == 'x'":                               reason.ConditionError,
		"1 / (port - 443) > 0":                                   reason.ConditionError,
		"now.getHours() >= 8 && now.getDayOfWeek() in [1, 2]":    reason.OK,
		"sets.contains(['a.staff', 'b.staff'], cert.san_dns)":    reason.OK,
		"cert.subject.matches('^CN=jo+e')":                       reason.OK,
		"size(cert.chain_subjects) == 1 && cert.serial != ''":    reason.OK,
		"cert.san_uri.all(u, u.startsWith('spiffe://corp/')) ":   reason.OK,
		"'1.3.6.1.5.5.7.3.2' in cert.eku && cert.san_ip == []":   reason.OK,
		"cert.subject_ou.exists(o, o == 'x') || cert.spki != ''": reason.OK,
	} {
		set := compile(t, fmt.Sprintf(`rules: [{name: a, to: ["*:*"], identity: pay, client: {authorities: [staff], when: %q}, destination: {tls: plain}}]`, when))
		f := flow("10.1.1.1", "10.0.0.1:443", hello("a.example", "h2", "http/1.1"))
		f.Now, f.Peer = now, peers["pay"]
		f.State = &handshake.State{Version: tls.VersionTLS13, Suite: tls.TLS_AES_128_GCM_SHA256, Group: uint16(tls.X25519)}
		if v := set.OnPeer(set.OnHello(f).Plan, f); v.Reason != want || (v.Action == Terminate) != (want == reason.OK) || v.Action == Deny && v.Detail == "" {
			t.Errorf("%s: %+v", when, v)
		}
	}
	// Without a certificate everything of it is missing, but for whether there
	// is one; without the handshake's result so is that.
	for when, want := range map[string]reason.Code{
		"cert.subject_cn != 'root'": reason.ConditionError, "!cert.present": reason.OKNoCertificate, "tls.version == 'TLS 1.3'": reason.ConditionError,
		"cert.present ? cert.subject_cn == 'joe' : port == 443": reason.OKNoCertificate,
	} {
		set := compile(t, fmt.Sprintf(`rules: [{name: a, to: ["*:*"], identity: pay, client: {certificate: optional, authorities: [staff], when: %q}, destination: {tls: plain}}]`, when))
		f := flow("10.1.1.1", "10.0.0.1:443", hello("a.example"))
		if v := set.OnPeer(set.OnHello(f).Plan, f); v.Reason != want {
			t.Errorf("%s without a certificate: %+v", when, v)
		}
	}
}

// A condition that costs too much denies, and soon.
func TestWhenCost(t *testing.T) {
	names := make([]string, 400)
	for i := range names {
		names[i] = fmt.Sprintf("a%d.staff", i)
	}
	set := compile(t, `rules: [{name: a, to: ["*:*"], identity: pay, client: {authorities: [staff], when: "cert.san_dns.all(a, cert.san_dns.all(b, cert.san_dns.all(c, a + b != c)))"}, destination: {tls: plain}}]`)
	f := flow("10.1.1.1", "10.0.0.1:443", hello("a.example"))
	f.Peer = peer("staff", testPKI().staff, testpki.Leaf{DNS: names})
	start := time.Now()
	if v := set.OnPeer(set.OnHello(f).Plan, f); v.Reason != reason.ConditionError || !strings.Contains(v.Detail, "cost") {
		t.Errorf("got %+v", v)
	}
	if d := time.Since(start); d > testenv.Patience() {
		t.Errorf("took %s", d)
	}
}

func TestTimeWindow(t *testing.T) {
	berlin := func(name string) (*time.Location, error) {
		if name == "Test/Plus2" {
			return time.FixedZone(name, 2*3600), nil
		}
		return nil, fmt.Errorf("unknown zone")
	}
	for text, cases := range map[string]map[string]bool{
		`{days: [mon-fri], from: "08:00", to: "18:00"}`: {
			"2026-11-23T08:00:00Z": true, "2026-11-23T07:59:59Z": false, "2026-11-23T17:59:59Z": true, "2026-11-23T18:00:00Z": false, "2026-11-22T10:00:00Z": false, "2026-11-27T10:00:00Z": true,
		},
		`{days: [fri], from: "22:00", to: "06:00"}`: {
			"2026-11-27T22:00:00Z": true, "2026-11-28T05:59:00Z": true, "2026-11-28T06:00:00Z": false, "2026-11-27T05:00:00Z": false, "2026-11-28T22:30:00Z": false,
		},
		`{days: [sat-mon]}`: {"2026-11-21T00:00:00Z": true, "2026-11-23T23:59:59Z": true, "2026-11-24T00:00:00Z": false},
		`{from: "10:00", to: "24:00", zone: Test/Plus2}`: {"2026-11-23T08:00:00Z": true, "2026-11-23T07:59:00Z": false, "2026-11-23T21:59:00Z": true, "2026-11-23T22:00:00Z": false},
	} {
		env := testEnv(t)
		env.Zone = berlin
		set, findings := Compile(readSpec(t, `rules: [{name: a, to: ["*:443"], time: `+text+`, action: bypass}]`), env)
		if set == nil {
			t.Fatal(findings)
		}
		for at, want := range cases {
			f := flow("10.1.1.1", "10.0.0.1:443", nil)
			f.Now = testpki.Must(time.Parse(time.RFC3339, at))
			v, decided := set.OnSYN(f)
			if !decided || (v.Action == Bypass) != want || !want && v.Reason != reason.OutsideTime {
				t.Errorf("%s at %s: %+v", text, at, v)
			}
		}
		// Without a time nothing is decided by it.
		if v, decided := set.OnSYN(flow("10.1.1.1", "10.0.0.1:443", nil)); !decided || v.Reason != reason.Internal {
			t.Errorf("no time: %+v", v)
		}
	}
	for _, bad := range []string{
		"{}", "{days: []}", "{days: [monday]}", "{days: [mon-]}", `{from: "08:00"}`, `{to: "08:00"}`, `{from: "8:00", to: "09:00"}`, `{from: "08:60", to: "09:00"}`,
		`{from: "24:00", to: "09:00"}`, `{from: "08:00", to: "08:00"}`, `{from: "08:00", to: "24:01"}`, `{days: [mon], zone: Nowhere}`,
	} {
		if set, _ := Compile(readSpec(t, `rules: [{name: a, to: ["*:443"], time: `+bad+`, action: bypass}]`), testEnv(t)); set != nil {
			t.Errorf("%s is taken", bad)
		}
	}
}

// A certificate of the year 9999 is as far away as time.Time.Sub goes.
func TestSpanText(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-1 << 63: "-more than 100 years", 1<<63 - 1: "more than 100 years", -time.Hour: "-1h0m0s", 48 * time.Hour: "2d", 49 * time.Hour: "2d1h", 0: "0s",
	} {
		if got := spanText(d); got != want {
			t.Errorf("%d is %q, want %q", d, got, want)
		}
	}
}
