package revocation

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"testing"

	"golang.org/x/crypto/ocsp"
)

// reasons that ParseLists may give.
var listErrors = []error{ErrNotCRL, ErrIndirect, ErrDelta, ErrPartial, ErrCritical, ErrIssuer, ErrSignature, ErrTooLarge}

func oneOfThe(err error) bool {
	for _, e := range listErrors {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// FuzzParseLists: no panic; either lists or a named error; and the accepted lists agree
// with crypto/x509, entry by entry. A signature cannot be guessed, so FuzzEntries fuzzes
// the parts behind it.
func FuzzParseLists(f *testing.F) {
	w := newWorld(f)
	plain := w.crl(f, w.root, crl{number: 7, revoked: []*x509.Certificate{w.direct.Cert, w.client.Cert}})
	for _, seed := range [][]byte{
		nil, plain, pemOf(plain), pemOf(plain, plain), w.crl(f, w.root, crl{number: 1, exts: []pkix.Extension{idp(f, "http://x/", 1)}}),
		w.crl(f, w.root, crl{number: 1, exts: []pkix.Extension{idp(f, 4)}}), w.root.Cert.Raw, w.root.PEM(), plain[:40],
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		lists, err := ParseLists(data, w.cas())
		if (lists == nil) != (err != nil) || err != nil && !oneOfThe(err) {
			t.Fatalf("%d lists, %v", len(lists), err)
		}
		if err != nil || len(lists) != 1 || data[0] != 0x30 {
			return
		}
		std, err := x509.ParseRevocationList(data)
		if err != nil {
			t.Fatalf("crypto/x509 does not take it: %v", err)
		}
		for _, e := range std.RevokedCertificateEntries {
			if e.SerialNumber.Sign() >= 0 && e.SerialNumber.BitLen() <= 8*maxSerial && !lists[0].Has(&x509.Certificate{SerialNumber: e.SerialNumber}) {
				t.Errorf("serial %x is lost", e.SerialNumber)
			}
		}
	})
}

// FuzzEntries fuzzes what comes after the check of the signature: the split list, its
// entries and its distribution point.
func FuzzEntries(f *testing.F) {
	w := newWorld(f)
	p, err := split(w.crl(f, w.root, crl{number: 7, revoked: []*x509.Certificate{w.direct.Cert, w.client.Cert}}))
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(p.entries), idp(f, "http://x/", 1).Value)
	f.Add([]byte{}, idp(f, 4, 5).Value)
	f.Add([]byte{0x30, 3, 2, 1, 5}, []byte{0x30, 0})
	f.Fuzz(func(t *testing.T, list, point []byte) {
		set, err := entries(t.Context(), nil, list)
		if err != nil && (!oneOfThe(err) || set.len() != 0) {
			t.Errorf("%d entries, %v", set.len(), err)
		}
		for i := 1; i < set.len(); i++ {
			if bytes.Compare(set.flat[(i-1)*set.width:i*set.width], set.flat[i*set.width:(i+1)*set.width]) >= 0 {
				t.Fatal("not sorted, or one twice")
			}
		}
		if sc, err := parseIDP(point); err != nil && (!oneOfThe(err) || sc.uris != nil) {
			t.Errorf("%+v, %v", sc, err)
		}
	})
}

// FuzzAnswer: no panic; an answer is accepted only if its signature is good, and then
// x/crypto/ocsp reads the same from it.
func FuzzAnswer(f *testing.F) {
	w := newWorld(f)
	d := delegate(w.inter, nil)
	good := w.staple(f, w.inter, w.client.Cert, reply{})
	for _, seed := range [][]byte{
		nil, good, w.staple(f, w.inter, w.client.Cert, reply{status: 1}), w.staple(f, w.inter, w.client.Cert, reply{status: 2, noNext: true}),
		w.staple(f, w.inter, w.client.Cert, reply{signer: d}), withNonce(f, good, make([]byte, 32), w.inter.Key),
		{0x30, 3, 0x0a, 1, 6}, w.client.Cert.Raw,
	} {
		f.Add(seed)
	}
	q := w.questionOf(w.client, w.inter)
	f.Fuzz(func(t *testing.T, der []byte) {
		a, err := parseAnswer(der)
		if (a == nil) != (err != nil) || err != nil && !errors.Is(err, ErrOCSP) {
			t.Fatalf("%v, %v", a, err)
		}
		if err != nil {
			return
		}
		st, until, err := a.judge(q, w.now)
		if err != nil {
			if st != Unknown || !until.IsZero() || !errors.Is(err, ErrOCSP) {
				t.Errorf("%s until %v, %v", st, until, err)
			}
			return
		}
		std, err := ocsp.ParseResponseForCert(der, w.client.Cert, w.inter.Cert)
		if err != nil {
			t.Fatalf("x/crypto/ocsp does not take it: %v", err)
		}
		if want := map[int]Status{ocsp.Good: Good, ocsp.Revoked: Revoked}[std.Status]; st != want {
			t.Errorf("%s, x/crypto/ocsp says %s", st, want)
		}
	})
}

// FuzzSerials: the set is a set.
func FuzzSerials(f *testing.F) {
	f.Add([]byte("0123456789abcdefghij0123456789abcdefghijk"))
	f.Add(bytes.Repeat([]byte{0}, 60))
	f.Fuzz(func(t *testing.T, data []byte) {
		in := map[serial]bool{}
		var list []serial
		for len(data) >= maxSerial {
			s := serial(data[:maxSerial])
			list, in[s] = append(list, s), true
			data = data[maxSerial:]
		}
		set := newSerials(append([]serial(nil), list...))
		if set.len() != len(in) {
			t.Fatalf("%d, want %d", set.len(), len(in))
		}
		for _, s := range list {
			if !set.has(s) {
				t.Fatalf("%x is lost", s)
			}
			s[maxSerial-1]++
			if set.has(s) != in[s] {
				t.Fatalf("%x: %t", s, set.has(s))
			}
		}
	})
}
