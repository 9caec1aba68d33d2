package config

import (
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/sslgate/sslgate/handshake/stdtls"
	"github.com/sslgate/sslgate/internal/lab/testpki"
)

// identityFiles makes what the configurations below name, in a directory.
func identityFiles(t *testing.T) string {
	t.Helper()
	return filesUntil(t, time.Now().AddDate(0, 6, 0), time.Now().AddDate(0, 11, 0))
}

// filesUntil are the same, with these ends of the leaves and of the CAs.
func filesUntil(t *testing.T, leafEnd, caEnd time.Time) string {
	t.Helper()
	dir := t.TempDir()
	begin := caEnd.AddDate(-1, 0, 0)
	ca := testpki.Must(testpki.NewCA(testpki.Options{CN: "Gateway CA", NotBefore: begin, NotAfter: caEnd}))
	staff := testpki.Must(testpki.NewCA(testpki.Options{CN: "Staff CA", NotBefore: begin, NotAfter: caEnd}))
	put := func(name string, mode os.FileMode, data []byte) {
		if err := errors.Join(os.WriteFile(filepath.Join(dir, name), data, mode), os.Chmod(filepath.Join(dir, name), mode)); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]*testpki.CA{"mint": ca, "staff": staff} {
		cert, key, err := (&testpki.Cert{Cert: c.Cert, Key: c.Key, Chain: []*x509.Certificate{c.Cert}}).PEM()
		if err != nil {
			t.Fatal(err)
		}
		put(name+".pem", 0o644, cert)
		put(name+".key", 0o600, key)
	}
	leaf := testpki.Leaf{DNS: []string{"pay.example"}, NotBefore: leafEnd.AddDate(-1, 0, 0), NotAfter: leafEnd}
	for name, change := range map[string]func(*testpki.Leaf){
		"ec": func(*testpki.Leaf) {}, "rsa": func(l *testpki.Leaf) { l.Key = testpki.RSA2048 },
		"rsa-transport": func(l *testpki.Leaf) { l.Key, l.Mutate = testpki.RSA2048, usage(x509.KeyUsageKeyEncipherment) },
		"agree":         func(l *testpki.Leaf) { l.Mutate = usage(x509.KeyUsageKeyAgreement) },
		"commit":        func(l *testpki.Leaf) { l.Mutate = usage(x509.KeyUsageContentCommitment) },
		"us":            func(l *testpki.Leaf) { l.EKU = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} },
	} {
		l := leaf
		change(&l)
		c := testpki.Must(staff.Issue(l))
		cert, key, err := c.PEM()
		if err != nil {
			t.Fatal(err)
		}
		put(name+".pem", 0o644, cert)
		put(name+".key", 0o600, key)
		for word, answer := range map[string]ocsp.Response{
			"good": {NextUpdate: time.Now().Add(time.Hour)}, "revoked": {Status: ocsp.Revoked, NextUpdate: time.Now().Add(time.Hour)},
			"ending": {NextUpdate: time.Now().Add(10 * time.Minute)}, "ended": {NextUpdate: time.Now().Add(-time.Minute)}, "endless": {},
		} {
			answer.SerialNumber, answer.ThisUpdate = c.Cert.SerialNumber, time.Now().Add(-time.Hour)
			put(name+"-"+word+".ocsp", 0o644, testpki.Must(ocsp.CreateResponse(staff.Cert, staff.Cert, answer, staff.Key)))
		}
	}
	put("tickets.keys", 0o600, []byte(strings.Repeat("01", 31)+"aa\n"))
	put("open.keys", 0o644, []byte(strings.Repeat("01", 31)+"aa\n"))
	put("group.keys", 0o660, []byte(strings.Repeat("01", 31)+"aa\n"))
	put("group.key", 0o660, testpki.Must(os.ReadFile(filepath.Join(dir, "ec.key"))))
	put("bad.keys", 0o600, []byte("secret\n"))
	return dir
}

func usage(u x509.KeyUsage) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.KeyUsage = u }
}

// checked writes a configuration with these sections and rule lines, and
// checks it.
func checked(t *testing.T, dir, sections, rule string) (*Runtime, []Finding) {
	t.Helper()
	text := "version: 1\ncapture: {interfaces: [eth1], ports: [443]}\nauthorities: {staff: {roots: staff.pem}}\n" + sections +
		"\npolicy:\n  rules:\n    - {name: r, to: ['10.0.0.0/8:443'], client: {certificate: required, authorities: [staff]}, " + rule + "}\n"
	file := filepath.Join(dir, "gateway.yaml")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return Check(file, stdtls.New())
}

func messages(found []Finding) string {
	var list []string
	for _, f := range found {
		list = append(list, fmt.Sprintf("%s: %s", f.Path, f.Msg))
	}
	return strings.Join(list, "\n")
}

func TestIdentities(t *testing.T) {
	dir := identityFiles(t)
	const plain = "alpn: [], destination: {tls: plain}"
	for name, tt := range map[string]struct {
		sections, rule string
		want           []string // parts of the findings
		fails          bool
	}{
		"two kinds, stapled":    {"identities: {pay: {certificate: ec.pem, key: ec.key, ocsp: ec-good.ocsp, also: [{certificate: rsa.pem, key: rsa.key}]}}", "identity: pay, " + plain, []string{"identities.pay.also[0].certificate: " + dir + "/rsa.pem: an RSA key: each handshake costs about three times"}, false},
		"a staple about to end": {"identities: {pay: {certificate: ec.pem, key: ec.key, ocsp: ec-ending.ocsp}}", "identity: pay, " + plain, []string{"identities.pay.ocsp: " + dir + "/ec-ending.ocsp: the response ends in "}, false},
		"a staple that ended":   {"identities: {pay: {certificate: ec.pem, key: ec.key, ocsp: ec-ended.ocsp}}", "identity: pay, " + plain, []string{"and is not stapled: fetch a new one"}, false},
		"a staple without end":  {"identities: {pay: {certificate: ec.pem, key: ec.key, ocsp: ec-endless.ocsp}}", "identity: pay, " + plain, nil, false},
		"minted":                {"identities: {mint: {issuer: mint.pem, key: mint.key, names: ['*.example.org'], lifetime: 12h}}", "identity: mint, " + plain, nil, false},
		"our own as a client": {"identities: {pay: {certificate: ec.pem, key: ec.key}, us: {certificate: us.pem, key: us.key}}",
			"identity: pay, alpn: [], destination: {tls: verify, authorities: [staff], identity: us}", nil, false},
		"legacy-rsa": {"identities: {old: {certificate: rsa.pem, key: rsa.key}}", "identity: old, profile: legacy-rsa, " + plain, []string{"allows RSA key transport"}, false},

		"an identity for key agreement alone":      {"identities: {pay: {certificate: agree.pem, key: agree.key}}", "identity: pay, " + plain, []string{"agree.pem: its key usage lacks digitalSignature"}, true},
		"a second one for contentCommitment alone": {"identities: {pay: {certificate: ec.pem, key: ec.key, also: [{certificate: commit.pem, key: commit.key}]}}", "identity: pay, " + plain, []string{"identities.pay.also[0].certificate", "commit.pem: its key usage lacks digitalSignature"}, true},
		"one for RSA key transport alone":          {"identities: {old: {certificate: rsa-transport.pem, key: rsa-transport.key}}", "identity: old, profile: legacy-rsa, " + plain, []string{"it is good for RSA key transport alone"}, false},
		"one that cannot sign towards destinations": {"identities: {pay: {certificate: ec.pem, key: ec.key}, us: {certificate: rsa-transport.pem, key: rsa-transport.key}}",
			"identity: pay, alpn: [], destination: {tls: verify, authorities: [staff], identity: us}", []string{"rsa-transport.pem: its key usage lacks digitalSignature"}, true},

		"a client's certificate shown to clients": {"identities: {us: {certificate: us.pem, key: us.key}}", "identity: us, " + plain, []string{"not for server authentication"}, true},
		"the staple of another":                   {"identities: {pay: {certificate: ec.pem, key: ec.key, ocsp: rsa-good.ocsp}}", "identity: pay, " + plain, []string{"no OCSP response for this certificate"}, true},
		"a staple that says revoked":              {"identities: {pay: {certificate: ec.pem, key: ec.key, ocsp: ec-revoked.ocsp}}", "identity: pay, " + plain, []string{"does not say that the certificate is good"}, true},
		"the second key of another":               {"identities: {pay: {certificate: ec.pem, key: ec.key, also: [{certificate: rsa.pem, key: ec.key}]}}", "identity: pay, " + plain, []string{"identities.pay.also[0].key"}, true},
		"minted and written":                      {"identities: {mint: {issuer: mint.pem, key: mint.key, names: ['*.example.org'], certificate: ec.pem}}", "identity: mint, " + plain, []string{"leave one of them out"}, true},
		"minted without names":                    {"identities: {mint: {issuer: mint.pem, key: mint.key}}", "identity: mint, " + plain, []string{"identities.mint.names: is missing"}, true},
		"names without issuer":                    {"identities: {pay: {certificate: ec.pem, key: ec.key, names: [a.example]}}", "identity: pay, " + plain, []string{"has no effect without issuer"}, true},
		"an issuer that is no CA":                 {"identities: {mint: {issuer: ec.pem, key: ec.key, names: ['*.example.org']}}", "identity: mint, " + plain, []string{"not a CA's"}, true},
		"the minting CA vouches for clients":      {"identities: {mint: {issuer: staff.pem, key: staff.key, names: ['*.example.org']}}", "identity: mint, " + plain, []string{"it must vouch for no client"}, true},
		"an RSA key for two things": {"identities: {old: {certificate: rsa.pem, key: rsa.key}}",
			"identity: old, profile: legacy-rsa, " + plain + "}\n    - {name: s, to: ['11.0.0.0/8:443'], identity: old, client: {certificate: none}, " + plain, []string{"RSA key transport", "Bleichenbacher"}, true},

		"shared ticket keys":                     {"tickets: {keys: tickets.keys, lifetime: 2h}\nidentities: {pay: {certificate: ec.pem, key: ec.key}}", "identity: pay, " + plain, nil, false},
		"open ticket keys":                       {"tickets: {keys: open.keys}\nidentities: {pay: {certificate: ec.pem, key: ec.key}}", "identity: pay, " + plain, []string{"mode"}, true},
		"ticket keys that the group may write":   {"tickets: {keys: group.keys}\nidentities: {pay: {certificate: ec.pem, key: ec.key}}", "identity: pay, " + plain, []string{"tickets.keys: ", "chmod g-w"}, false},
		"a private key that the group may write": {"identities: {pay: {certificate: ec.pem, key: group.key}}", "identity: pay, " + plain, []string{"identities.pay.key: ", "chmod g-w"}, false},
		"bad ticket keys":                        {"tickets: {keys: bad.keys}\nidentities: {pay: {certificate: ec.pem, key: ec.key}}", "identity: pay, " + plain, []string{"64 hexadecimal digits"}, true},
		"long tickets":                           {"tickets: {lifetime: 48h}\nidentities: {pay: {certificate: ec.pem, key: ec.key}}", "identity: pay, " + plain, []string{"tickets.lifetime: 48h0m0s is out of range"}, true},
	} {
		rt, found := checked(t, dir, tt.sections, tt.rule)
		got := messages(found)
		if (rt == nil) != tt.fails || len(tt.want) == 0 && got != "" {
			t.Errorf("%s: runtime %v:\n%s", name, rt != nil, got)
		}
		for _, w := range tt.want {
			if !strings.Contains(got, w) {
				t.Errorf("%s: no %q in:\n%s", name, w, got)
			}
		}
		if strings.Contains(got, "secret") {
			t.Errorf("%s: a secret is shown:\n%s", name, got)
		}
	}
}

// What was loaded is what the rules run on, and a change of any file counts.
func TestIdentitiesLoaded(t *testing.T) {
	dir := identityFiles(t)
	rt, found := checked(t, dir, "tickets: {keys: tickets.keys}\nidentities: {pay: {certificate: ec.pem, key: ec.key, ocsp: ec-good.ocsp, also: [{certificate: rsa.pem, key: rsa.key}]}}", "identity: pay, destination: {tls: plain}")
	if rt == nil {
		t.Fatal(messages(found))
	}
	certs, err := rt.Environment.Identities["pay"].Source.For(t.Context(), nil, time.Now())
	if err != nil || len(certs) != 2 || len(certs[0].OCSPStaple) == 0 || certs[1].OCSPStaple != nil || len(rt.Staples()) != 1 || rt.Tickets == nil || rt.Tickets.Keys == nil || len(rt.Tickets.IDs) != 1 || rt.Tickets.Lifetime != time.Hour {
		t.Errorf("%d certificates, tickets %+v", len(certs), rt.Tickets)
	}
	for _, name := range []string{"ec-good.ocsp", "rsa.pem", "rsa.key", "tickets.keys", "staff.pem"} {
		if !slices.Contains(rt.Files, filepath.Join(dir, name)) {
			t.Errorf("%s is not among the files: %v", name, rt.Files)
		}
	}
	rt, found = checked(t, dir, "tickets: {mode: 'off'}\nidentities: {mint: {issuer: mint.pem, key: mint.key, names: ['*.example.org']}}", "identity: mint, destination: {tls: plain}")
	if rt == nil || rt.Tickets != nil || !rt.Environment.Identities["mint"].Minted() {
		t.Errorf("%+v\n%s", rt, messages(found))
	}
}
