package config

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/sslgate/sslgate/handshake/stdtls"
	"github.com/sslgate/sslgate/internal/fileset"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/memory"
)

// large makes a directory with configurations that cost much in one way each.
func large(t *testing.T) map[string]string {
	t.Helper()
	dir := t.TempDir()
	put := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	ca := testpki.Must(testpki.NewCA(testpki.Options{CN: "Staff CA"}))
	chain, key, err := testpki.Must(ca.Issue(testpki.Leaf{DNS: []string{"pay.example"}})).PEM()
	if err != nil {
		t.Fatal(err)
	}
	put("ca.pem", string(ca.PEM()))
	put("srv.pem", string(chain))
	put("srv.key", string(key))
	put("roots.pem", strings.Repeat(string(ca.PEM()), 1<<20/len(ca.PEM())))
	put("set.txt", strings.Repeat("host.example\n", 100_000))
	rule := func(i int, more string) string {
		return fmt.Sprintf("    - {name: r%d, to: [\"10.0.%d.%d:443\"], identity: pay, client: {certificate: required, authorities: [staff]%s}, destination: {tls: plain}}\n", i, i>>8, i&255, more)
	}
	head := "version: 1\ncapture: {interfaces: [eth1], ports: [443]}\nadmin: {socket: \"off\"}\n"
	own := "authorities: {staff: {roots: ca.pem}}\nidentities: {pay: {certificate: srv.pem, key: srv.key}}\n"
	var rules, conditions, identities strings.Builder
	for i := range 2000 {
		rules.WriteString(rule(i, ""))
		conditions.WriteString(rule(i, fmt.Sprintf(`, when: "peer.san_dns.exists(x, x.startsWith('a%d')) || peer.san_dns.exists(x, x.endsWith('b%d'))"`, i, i)))
		fmt.Fprintf(&identities, "  i%d: {certificate: srv.pem, key: srv.key}\n", i)
	}
	return map[string]string{
		"rules":       put("rules.yaml", head+own+"policy:\n  rules:\n"+rules.String()),
		"conditions":  put("conditions.yaml", head+own+"policy:\n  rules:\n"+conditions.String()),
		"identities":  put("identities.yaml", head+"authorities: {staff: {roots: ca.pem}}\nidentities:\n  pay: {certificate: srv.pem, key: srv.key}\n"+identities.String()+"policy:\n  rules:\n"+rule(1, "")),
		"a PEM file":  put("pem.yaml", head+strings.Replace(own, "ca.pem", "roots.pem", 1)+"policy:\n  rules:\n"+rule(1, "")),
		"a set":       put("set.yaml", head+own+"policy:\n  sets: {hosts: {file: set.txt}}\n  rules:\n"+rule(1, "")),
		"many values": put("values.yaml", head+"x: ["+strings.Repeat("a,", 200_000)+"b]\n"),
	}
}

func lending(t *testing.T) *memory.Budget {
	t.Helper()
	b, undo, err := memory.Start(memory.Config{Ceiling: 2 << 30, Log: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(undo)
	return b
}

// Whatever makes a configuration large is taken of the memory before it is used:
// where that is short, nothing is found out, and all is given back.
func TestLoadingHasNoRoom(t *testing.T) {
	b := lending(t)
	for name, path := range large(t) {
		t.Run(name, func(t *testing.T) {
			// All but a few megabytes is lent to somebody else.
			_, all := b.Borrow(t.Context())
			for n := int64(1 << 30); n >= 1<<20; n /= 2 {
				for all.Take(n) == nil {
				}
			}
			all.Give(3 << 20)
			ctx, loan := b.Borrow(t.Context())
			got, err := CheckWithin(ctx, loan, fileset.Disk{}, path, stdtls.New())
			if !errors.Is(err, memory.ErrNoRoom) || got.Runtime != nil || got.Findings != nil || got.Named != nil {
				t.Errorf("%v, %v", err, got)
			}
			loan.Return()
			all.Return()
			if st := b.Stats(); st.Lent != 0 {
				t.Errorf("%d bytes were not given back", st.Lent)
			}
		})
	}
}

// Each way stops soon after its context has ended.
func TestLoadingStops(t *testing.T) {
	for name, path := range large(t) {
		t.Run(name, func(t *testing.T) {
			why := errors.New("the gateway stops")
			ctx, stop := context.WithCancelCause(t.Context())
			timer := time.AfterFunc(20*time.Millisecond, func() { stop(why) })
			defer timer.Stop()
			got, err := CheckWithin(ctx, nil, fileset.Disk{}, path, stdtls.New())
			if name == "many values" || name == "a PEM file" || name == "a set" {
				if err != nil && !errors.Is(err, why) {
					t.Errorf("%v", err) // it may have been quicker
				}
				return
			}
			if !errors.Is(err, why) || got.Runtime != nil || got.Findings != nil {
				t.Errorf("%v, %v, %d findings", err, got.Runtime != nil, len(got.Findings))
			}
		})
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if _, err := CheckWithin(ctx, nil, fileset.Disk{}, copyExample(t, func(s string) string { return s }), stdtls.New()); !errors.Is(err, context.Canceled) {
		t.Errorf("begun after its end: %v", err)
	}
}

// With room it is what Check says.
func TestLoadingWithin(t *testing.T) {
	b := lending(t)
	for _, name := range []string{"rules", "a set"} {
		path := large(t)[name]
		ctx, loan := b.Borrow(t.Context())
		got, err := CheckWithin(ctx, loan, fileset.Disk{}, path, stdtls.New())
		found := got.Findings
		if err != nil || got.Runtime == nil && name == "rules" {
			t.Fatalf("%v, %v", err, found)
		}
		_, want := Check(path, stdtls.New())
		if fmt.Sprint(found) != fmt.Sprint(want) {
			t.Errorf("%s\nand not\n%s", found, want)
		}
		if st := b.Stats(); st.Lent < 2<<20 || st.Lent > 200<<20 {
			t.Errorf("%s: %d bytes lent", name, st.Lent)
		}
		loan.Return()
	}
}

// A file whose mistakes have no end is refused with a bounded number of them,
// and what was not read is not said to be missing.
func TestCutOffIsNotBuilt(t *testing.T) {
	head := "version: 1\ncapture: {interfaces: [eth1], ports: [443]}\npolicy:\n  rules:\n"
	list := "    - {name: r0, action: deny, to: &to [" + strings.TrimSuffix(strings.Repeat("\"10.0.0.1:443\", ", 2000), ", ") + "]}\n"
	for name, c := range map[string]struct {
		text string
		most int
	}{
		"aliases":  {head + list + strings.Repeat("    - {name: r, action: deny, to: *to}\n", 2000), 1},
		"values":   {head + list + strings.Repeat("    - {name: r, action: deny, to: [a, b, c, d, e, f, g, h]}\n", 50_000), 1},
		"mistakes": {head + strings.Repeat("    - {name: r, acton: deny}\n", 5000), maxFindings + 1},
		"compiled": {head + strings.Repeat("    - {name: r, action: deny}\n", 5000), maxFindings + 1},
	} {
		t.Run(name, func(t *testing.T) {
			rt, found := build(parse("x.yaml", []byte(c.text)), stdtls.New(), testNow)
			if rt != nil || len(found) == 0 || len(found) > c.most {
				t.Errorf("%d findings: %.500v", len(found), found)
			}
			if c.most == 1 && strings.Contains(fmt.Sprint(found), "no name") {
				t.Errorf("%v", found)
			}
		})
	}
}

// What is named is looked at, whether it is there or not: lists and shadows too,
// and what the shadow names; no URL.
func TestNamedFiles(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	write := func(name, text string) {
		if err := os.WriteFile(at(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	named := func() []string {
		got, err := CheckWithin(t.Context(), nil, fileset.Disk{}, at("gate.yaml"), stdtls.New())
		if err != nil || got.Runtime != nil {
			t.Fatalf("%v, taken: %v", err, got.Runtime != nil)
		}
		for i, name := range got.Named {
			got.Named[i] = filepath.Base(name)
		}
		return got.Named
	}
	for _, c := range []struct {
		name, text string
		want       []string
	}{
		{"gate.yaml", "version: [", []string{"gate.yaml"}},
		{"gate.yaml", "version: 1\nauthorities: {staff: {roots: ca.pem, crl: [a.crl, \"http://pki.example/b.crl\", " + at("c.crl") + "]}}\nshadow: next.yaml\n",
			[]string{"a.crl", "c.crl", "ca.pem", "gate.yaml", "next.yaml"}},
		{"next.yaml", "version: 1\nauthorities: {guests: {roots: guests.pem, crl: [g.crl]}}\n",
			[]string{"a.crl", "c.crl", "ca.pem", "g.crl", "gate.yaml", "guests.pem", "next.yaml"}},
	} {
		write(c.name, c.text)
		if got := named(); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}
