package config

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/sslgate/sslgate/handshake/stdtls"
)

// A policy that is tried out has the digest of the one that runs, without reading
// a key; where a certificate is missing it is said.
func TestTriedDigest(t *testing.T) {
	dir := identityFiles(t)
	const plain, pay = "destination: {tls: plain}", "identities: {pay: {certificate: ec.pem, key: ec.key}}"
	digests := map[string]string{}
	for name, tt := range map[string]struct{ sections, rule string }{
		"one":               {pay, "identity: pay, " + plain},
		"another one":       {"identities: {pay: {certificate: rsa.pem, key: rsa.key}}", "identity: pay, " + plain},
		"two kinds":         {"identities: {pay: {certificate: ec.pem, key: ec.key, ocsp: ec-good.ocsp, also: [{certificate: rsa.pem, key: rsa.key}]}}", "identity: pay, " + plain},
		"minted":            {"identities: {mint: {issuer: mint.pem, key: mint.key, names: ['*.example.org']}}", "identity: mint, " + plain},
		"RSA key transport": {"identities: {old: {certificate: rsa.pem, key: rsa.key}}", "identity: old, profile: legacy-rsa, " + plain},
		"ours as a client": {"identities: {pay: {certificate: ec.pem, key: ec.key}, us: {certificate: us.pem, key: us.key}}",
			"identity: pay, destination: {tls: verify, authorities: [staff], identity: us}"},
		"client's address":        {pay + "\ndial: {source: client}", "identity: pay, " + plain},
		"limits, profile and set": {pay + "\nlimits: {chain: 3, chain_bytes: 8KiB}\nprofiles: {p: {base: modern}}", "identity: pay, profile: p, " + plain},
	} {
		rt, found := checked(t, dir, tt.sections, tt.rule)
		if rt == nil {
			t.Fatalf("%s: %s", name, messages(found))
		}
		want := rt.Set.ID()
		if other, twice := digests[want]; twice {
			t.Errorf("%s and %s have the same digest", name, other)
		}
		digests[want] = name
		keys, err := filepath.Glob(filepath.Join(dir, "*.key"))
		if err != nil || len(keys) == 0 {
			t.Fatal(err)
		}
		for _, key := range keys {
			if err := os.Rename(key, key+".away"); err != nil {
				t.Fatal(err)
			}
		}
		f, err := Load(filepath.Join(dir, "gateway.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		set, made, found := TryPolicy(f, stdtls.New(), StandIns{Own: true})
		if set == nil || set.ID() != want || len(made) > 0 {
			t.Errorf("%s: %v, %v\n%s", name, set, made, messages(found))
		}
		for _, key := range keys {
			if err := os.Rename(key+".away", key); err != nil {
				t.Fatal(err)
			}
		}
	}
	f, err := Load(filepath.Join(dir, "gateway.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for name := range f.Config.Identities {
		id := f.Config.Identities[name]
		id.Certificate, id.Issuer = "gone.pem", ""
		f.Config.Identities[name] = id
	}
	stand := StandIns{Own: true}
	stand.Identity.Certificate = [][]byte{{1}}
	if _, made, _ := TryPolicy(f, stdtls.New(), stand); len(made) == 0 || !slices.ContainsFunc(made, func(s string) bool { return len(s) > len("identities.") }) {
		t.Errorf("the stand-ins are %v", made)
	}
}
