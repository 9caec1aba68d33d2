package revocation

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"math/big"
	mrand "math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab/testpki"
)

func TestParseLists(t *testing.T) {
	w := newWorld(t)
	ofRoot := w.crl(t, w.root, crl{number: 7, revoked: []*x509.Certificate{w.direct.Cert}})
	ofInter := w.crl(t, w.inter, crl{number: 3})
	for _, c := range []struct {
		name    string
		data    []byte
		entries []int
	}{
		{"DER", ofRoot, []int{1}},
		{"PEM", pemOf(ofRoot), []int{1}},
		{"two of two CAs", pemOf(ofRoot, ofInter), []int{1, 0}},
		{"the same twice", pemOf(ofRoot, ofRoot), []int{1}},
		{"PEM with text around it", append([]byte("Certificate Revocation List (CRL):\n"), pemOf(ofRoot)...), []int{1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			lists, err := ParseLists(c.data, w.cas())
			if err != nil {
				t.Fatal(err)
			}
			if len(lists) != len(c.entries) {
				t.Fatalf("%d lists", len(lists))
			}
			for i, l := range lists {
				if l.Entries != c.entries[i] {
					t.Errorf("list %d: %d entries", i, l.Entries)
				}
				if !l.Fresh(w.now) || l.Fresh(w.now.Add(25*time.Hour)) || l.Fresh(w.now.Add(-2*time.Hour)) {
					t.Error("freshness")
				}
			}
			if !lists[0].Has(w.direct.Cert) || lists[0].Has(w.client.Cert) {
				t.Error("the wrong serials")
			}
		})
	}
}

// idp makes an issuingDistributionPoint.
func idp(t testing.TB, content ...any) pkix.Extension {
	t.Helper()
	var b []byte
	for _, c := range content {
		switch c := c.(type) {
		case int: // a flag
			b = append(b, 0x80|byte(c), 1, 0xff)
		case string: // a URI as the full name of the distribution point
			uri := append([]byte{0x86, byte(len(c))}, c...)
			full := append([]byte{0xa0, byte(len(uri))}, uri...)
			b = append(append(b, 0xa0, byte(len(full))), full...)
		case []byte:
			b = append(b, c...)
		}
	}
	return pkix.Extension{Id: oidIDP, Critical: true, Value: append([]byte{0x30, byte(len(b))}, b...)}
}

func TestListsThatAreRefused(t *testing.T) {
	w := newWorld(t)
	other := testpki.Must(testpki.NewCA(testpki.Options{CN: "Other"}))
	impostor := testpki.Must(w.root.Impostor())
	noSign := testpki.Must(testpki.NewCA(testpki.Options{CN: "no cRLSign", Mutate: func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCertSign }}))
	mute := *noSign // CreateRevocationList wants the bit that the CA lacks
	cert := *noSign.Cert
	cert.KeyUsage |= x509.KeyUsageCRLSign
	mute.Cert = &cert
	rsaCA := testpki.Must(testpki.NewCA(testpki.Options{CN: "RSA", Key: testpki.RSA2048}))
	good := w.crl(t, w.root, crl{number: 1, revoked: []*x509.Certificate{w.direct.Cert}})
	revoked := []*x509.Certificate{w.direct.Cert}
	flipped := bytes.Clone(good)
	flipped[len(flipped)-1] ^= 1
	serial := w.direct.Cert.SerialNumber.Bytes()
	another := bytes.Clone(serial)
	another[len(another)-1] ^= 1
	changed := bytes.Replace(bytes.Clone(good), serial, another, 1)
	unknown := pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 32473, 7}, Critical: true, Value: []byte{5, 0}}
	cas := append(w.cas(), noSign.Cert, rsaCA.Cert)
	for _, c := range []struct {
		name string
		data []byte
		want error
		says string
	}{
		{"empty", nil, ErrNotCRL, ""},
		{"text", []byte("hello"), ErrNotCRL, "neither PEM nor DER"},
		{"a certificate in DER", w.root.Cert.Raw, ErrNotCRL, ""},
		{"a certificate in PEM", w.root.PEM(), ErrNotCRL, `"CERTIFICATE"`},
		{"cut short", good[:len(good)-3], ErrNotCRL, ""},
		{"PEM cut short", pemOf(good)[:200], ErrNotCRL, "the file is cut short"},
		{"second PEM block cut short", append(pemOf(good), pemOf(good)[:200]...), ErrNotCRL, "the file is cut short"},
		{"bytes behind", append(bytes.Clone(good), 0), ErrNotCRL, "behind its end"},
		{"of another CA", w.crl(t, other, crl{number: 1}), ErrIssuer, "Other"},
		{"of an impostor", w.crl(t, impostor, crl{number: 1}), ErrIssuer, "another CA of the same name"},
		{"signature wrong", flipped, ErrSignature, ""},
		{"an entry exchanged", changed, ErrSignature, ""},
		{"issuer without cRLSign", w.crl(t, &mute, crl{number: 1}), ErrSignature, "cRLSign"},
		{"SHA-1", weakCRL(t, rsaCA, w.now), ErrSignature, "too weak"},
		{"delta", w.crl(t, w.root, crl{number: 2, exts: []pkix.Extension{{Id: oidDelta, Critical: true, Value: []byte{2, 1, 1}}}}), ErrDelta, ""},
		{"indirect", w.crl(t, w.root, crl{number: 2, exts: []pkix.Extension{idp(t, 4)}}), ErrIndirect, "indirectCRL"},
		{"indirect by an entry", w.crl(t, w.root, crl{number: 2, revoked: revoked, entries: []pkix.Extension{
			{Id: asn1.ObjectIdentifier{2, 5, 29, 29}, Critical: true, Value: []byte{0x30, 0}}}}), ErrIndirect, "certificateIssuer"},
		{"some reasons", w.crl(t, w.root, crl{number: 2, exts: []pkix.Extension{idp(t, []byte{0x83, 2, 1, 0x40})}}), ErrPartial, "onlySomeReasons"},
		{"attribute certificates", w.crl(t, w.root, crl{number: 2, exts: []pkix.Extension{idp(t, 5)}}), ErrPartial, ""},
		{"distribution point without URI", w.crl(t, w.root, crl{number: 2, exts: []pkix.Extension{idp(t, []byte{0xa0, 2, 0xa1, 0})}}), ErrPartial, ""},
		{"malformed distribution point", w.crl(t, w.root, crl{number: 2, exts: []pkix.Extension{{Id: oidIDP, Critical: true, Value: []byte{0x30, 1}}}}), ErrNotCRL, ""},
		{"unknown critical extension", w.crl(t, w.root, crl{number: 2, exts: []pkix.Extension{unknown}}), ErrCritical, "32473.7"},
		{"unknown critical extension of an entry", w.crl(t, w.root, crl{number: 2, revoked: revoked, entries: []pkix.Extension{unknown}}), ErrCritical, "32473.7"},
		{"an extension twice", w.crl(t, w.root, crl{number: 2, exts: []pkix.Extension{idp(t, 1), idp(t, 1)}}), ErrNotCRL, "twice"},
	} {
		t.Run(c.name, func(t *testing.T) {
			lists, err := ParseLists(c.data, cas)
			if lists != nil || !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want %v with %q", err, c.want, c.says)
			}
			if c.data != nil && !strings.HasPrefix(string(c.data), "-----") && len(c.data) > 100 {
				if _, err := ParseLists(append(pemOf(good), pemOf(c.data)...), cas); !errors.Is(err, c.want) || !strings.Contains(err.Error(), "list 2, line ") {
					t.Errorf("as the second of a file: %v", err)
				}
			}
		})
	}
}

// weakCRL signs with SHA-1, which crypto/x509 will not do.
func weakCRL(t testing.TB, ca *testpki.CA, now time.Time) []byte {
	t.Helper()
	der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: now, NextUpdate: now.Add(time.Hour)}, ca.Cert, ca.Key)
	if err != nil {
		t.Fatal(err)
	}
	sha256RSA, sha1RSA := []byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 0x0b}, []byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 5}
	if n := bytes.Count(der, sha256RSA); n != 2 {
		t.Fatalf("%d times the algorithm", n)
	}
	return bytes.ReplaceAll(der, sha256RSA, sha1RSA)
}

// A list for some of the certificates says nothing about the others.
func TestScope(t *testing.T) {
	w := newWorld(t)
	const shard = "http://crl.example/7.crl"
	sharded := testpki.Must(w.root.Issue(testpki.Leaf{CRL: []string{"http://crl.example/old.crl", shard}}))
	for _, c := range []struct {
		name                  string
		idp                   pkix.Extension
		direct, shards, inter bool
	}{
		{"all", idp(t), true, true, true},
		{"users", idp(t, 1), true, true, false},
		{"CAs", idp(t, 2), false, false, true},
		{"a shard", idp(t, shard), false, true, false},
		{"a shard of users", idp(t, shard, 1), false, true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			lists, err := ParseLists(w.crl(t, w.root, crl{number: 1, exts: []pkix.Extension{c.idp}}), w.cas())
			if err != nil {
				t.Fatal(err)
			}
			s := lists[0].scope
			if s.covers(w.direct.Cert) != c.direct || s.covers(sharded.Cert) != c.shards || s.covers(w.inter.Cert) != c.inter {
				t.Errorf("%+v", s)
			}
		})
	}
}

func TestLate(t *testing.T) {
	w := newWorld(t)
	l := testpki.Must(ParseLists(w.crl(t, w.root, crl{number: 1, from: -time.Hour, to: 5 * time.Hour}), w.cas()))[0]
	if l.Late(w.now.Add(3*time.Hour-time.Second)) || !l.Late(w.now.Add(3*time.Hour)) {
		t.Error("two thirds of six hours are four")
	}
}

func TestSerials(t *testing.T) {
	one, long := big.NewInt(1), new(big.Int).Lsh(big.NewInt(0xff), 152)
	var list []serial
	for _, n := range []*big.Int{long, one, one, big.NewInt(0x1234)} {
		var s serial
		n.FillBytes(s[:])
		list = append(list, s)
	}
	for _, take := range [][]serial{nil, list[1:2], list[1:], list} {
		in := map[serial]bool{}
		for _, s := range take {
			in[s] = true
		}
		set := newSerials(append([]serial(nil), take...))
		if set.len() != len(in) {
			t.Errorf("%d, want %d", set.len(), len(in))
		}
		for _, s := range append(list, serial{}, serial{maxSerial - 1: 2}, serial{0: 1}) {
			if set.has(s) != in[s] {
				t.Errorf("%x: %t", s, set.has(s))
			}
		}
	}
	for _, bad := range [][]byte{nil, {0x80}, make([]byte, 0), append([]byte{1}, make([]byte, 20)...)} {
		if _, ok := newSerial(bad); ok {
			t.Errorf("% x was taken", bad)
		}
	}
	if s, ok := newSerial([]byte{0, 0x80}); !ok || s[maxSerial-1] != 0x80 {
		t.Error("the zero in front of a high bit")
	}
}

// Sets with an index: random numbers, numbers in sequence, and numbers that
// differ in the last octets alone.
func TestLargeSets(t *testing.T) {
	rng := mrand.New(mrand.NewPCG(3, 4))
	for name, number := range map[string]func(i int) *big.Int{
		"random":      func(int) *big.Int { return new(big.Int).Rsh(new(big.Int).SetUint64(rng.Uint64()), uint(rng.IntN(60))) },
		"in sequence": func(i int) *big.Int { return big.NewInt(int64(1000 + 2*i)) },
		"long, in sequence": func(i int) *big.Int {
			return new(big.Int).Add(new(big.Int).Lsh(big.NewInt(0x7b), 150), big.NewInt(int64(3*i)))
		},
		"two octets": func(i int) *big.Int { return big.NewInt(int64(i * 13)) },
	} {
		in := map[serial]bool{}
		var list []serial
		for i := range indexFrom + 700 {
			var s serial
			number(i).FillBytes(s[:])
			list, in[s] = append(list, s), true
		}
		set := newSerials(append([]serial(nil), list...))
		if set.len() != len(in) || len(in) >= indexFrom && set.index == nil {
			t.Fatalf("%s: %d numbers, want %d", name, set.len(), len(in))
		}
		for _, s := range list {
			for _, at := range []int{0, maxSerial - 3, maxSerial - 2, maxSerial - 1} {
				x := s
				x[at]++
				if !set.has(s) || set.has(x) != in[x] {
					t.Fatalf("%s: %x %t, %x %t", name, s, set.has(s), x, set.has(x))
				}
			}
		}
	}
}
