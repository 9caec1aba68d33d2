package config

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A response is shown until its nextUpdate, and the next one as soon as it is
// read; what is not one changes nothing.
func TestStapleAtRunTime(t *testing.T) {
	dir := identityFiles(t)
	file := filepath.Join(dir, "now.ocsp")
	put := func(name string) []byte {
		t.Helper()
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err == nil {
			err = os.WriteFile(file, data, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	first := put("ec-ending.ocsp")
	rt, found := checked(t, dir, "identities: {pay: {certificate: ec.pem, key: ec.key, ocsp: now.ocsp}}", "identity: pay, destination: {tls: plain}")
	if rt == nil || len(rt.Staples()) != 1 {
		t.Fatal(messages(found))
	}
	st, now := rt.Staples()[0], time.Now()
	shown := func(at time.Time) []byte { return st.Shown.At(at) }
	if !bytes.Equal(shown(now), first) || shown(st.Until()) != nil || shown(st.Until().Add(-time.Second)) == nil || !st.Ending(now) {
		t.Errorf("shown now %v, until %s, ending %v", shown(now) != nil, st.Until(), st.Ending(now))
	}
	if changed, err := st.Read(now); changed || err != nil {
		t.Errorf("the same file: %v, %v", changed, err)
	}
	second := put("ec-good.ocsp")
	if changed, err := st.Read(now); !changed || err != nil || !bytes.Equal(shown(now), second) || st.Ending(now) {
		t.Errorf("another file: %v, %v, ending %v", changed, err, st.Ending(now))
	}
	for name, want := range map[string]string{"ec-revoked.ocsp": "does not say that the certificate is good", "rsa-good.ocsp": "no OCSP response for this certificate", "ec.pem": "no OCSP response"} {
		put(name)
		if changed, err := st.Read(now); changed || err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, %v", name, changed, err)
		}
		if !bytes.Equal(shown(now), second) {
			t.Errorf("%s: what was good is not shown any more", name)
		}
	}
	put("ec-ended.ocsp")
	if changed, err := st.Read(now); !changed || err != nil || shown(now) != nil {
		t.Errorf("one that has ended: %v, %v, shown %v", changed, err, shown(now) != nil)
	}
	put("ec-endless.ocsp")
	if changed, err := st.Read(now); !changed || err != nil || shown(now) == nil || shown(now.Add(25*time.Hour)) != nil {
		t.Errorf("one without nextUpdate: %v, %v", changed, err)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if _, err := st.Read(now); err == nil || shown(now) == nil {
		t.Errorf("file gone: %v", err)
	}
}

// Every certificate of ours that nears its end is spoken of: identities with
// their issuers, the CA that makes certificates, those that vouch for clients.
func TestExpiringIsSaid(t *testing.T) {
	for _, tt := range []struct {
		days int
		want int
	}{{20, 3}, {40, 0}} {
		end := time.Now().AddDate(0, 0, tt.days)
		dir := filesUntil(t, end, end)
		_, found := checked(t, dir, "identities: {pay: {certificate: ec.pem, key: ec.key}, mint: {issuer: mint.pem, key: mint.key, names: ['*.example.org']}}",
			"identity: pay, destination: {tls: plain}")
		got, n := messages(found), 0
		for _, path := range []string{"identities.pay.certificate", "identities.mint.issuer", "authorities.staff.roots"} {
			for line := range strings.Lines(got) {
				if strings.HasPrefix(line, path+": ") && strings.Contains(line, "expires in ") {
					n++
				}
			}
		}
		if n != tt.want {
			t.Errorf("%d days before the end: %d warnings, not %d:\n%s", tt.days, n, tt.want, got)
		}
	}
}
