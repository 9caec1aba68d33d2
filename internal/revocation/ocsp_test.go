package revocation

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/reason"
)

func (w *world) questionOf(c *testpki.Cert, issuer *testpki.CA) question {
	n, _ := serialOf(c.Cert)
	return question{number: n, issuer: issuer.Cert}
}

// delegate is a responder's certificate, sound but for what change does.
func delegate(ca *testpki.CA, change func(*x509.Certificate)) *testpki.Cert {
	return testpki.Must(ca.Issue(testpki.Leaf{CN: "OCSP responder", EKU: []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning}, Mutate: change}))
}

func TestAnswers(t *testing.T) {
	w := newWorld(t)
	good, revoked := reply{}, reply{status: 1}
	unknownExt := pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 32473, 7}, Critical: true, Value: []byte{5, 0}}
	other := testpki.Must(w.inter.Issue(testpki.Leaf{CN: "other"}))
	rsaCA := testpki.Must(testpki.NewCA(testpki.Options{Key: testpki.RSA2048}))
	rsaLeaf := testpki.Must(rsaCA.Issue(testpki.Leaf{}))
	sound := delegate(w.inter, nil)
	with := func(c *testpki.Cert) reply { return reply{signer: c} }
	flip := func(b []byte) []byte { b[len(b)-1] ^= 1; return b }
	for _, c := range []struct {
		name string
		der  []byte
		want Status // Unknown: an error
		says string
	}{
		{"good", w.staple(t, w.inter, w.client.Cert, good), Good, ""},
		{"revoked", w.staple(t, w.inter, w.client.Cert, revoked), Revoked, ""},
		{"revoked, stale", w.staple(t, w.inter, w.client.Cert, reply{status: 1, from: -48 * time.Hour, to: -time.Hour}), Revoked, ""},
		{"unknown to the responder", w.staple(t, w.inter, w.client.Cert, reply{status: 2}), Unknown, "does not know"},
		{"stale", w.staple(t, w.inter, w.client.Cert, reply{from: -48 * time.Hour, to: -time.Second}), Unknown, "stale since"},
		{"of tomorrow", w.staple(t, w.inter, w.client.Cert, reply{from: 6 * time.Minute}), Unknown, "not valid before"},
		{"a clock four minutes ahead", w.staple(t, w.inter, w.client.Cert, reply{from: 4 * time.Minute}), Good, ""},
		{"without nextUpdate, new", w.staple(t, w.inter, w.client.Cert, reply{noNext: true, from: -9 * time.Minute}), Good, ""},
		{"without nextUpdate, old", w.staple(t, w.inter, w.client.Cert, reply{noNext: true, from: -11 * time.Minute}), Unknown, "stale since"},
		{"about another certificate", w.staple(t, w.inter, other.Cert, good), Unknown, "not about this certificate"},
		{"by another CA", w.staple(t, w.root, w.client.Cert, good), Unknown, "signed neither by"},
		{"by an impostor", w.staple(t, testpki.Must(w.inter.Impostor()), w.client.Cert, good), Unknown, "signed neither by"},
		{"signature wrong", flip(w.staple(t, w.inter, w.client.Cert, good)), Unknown, "signed neither by"},
		{"SHA-1", w.staple(t, rsaCA, rsaLeaf.Cert, reply{alg: x509.SHA1WithRSA}), Unknown, "weak or not known"},
		{"critical extension", w.staple(t, w.inter, w.client.Cert, reply{exts: []pkix.Extension{unknownExt}}), Unknown, "32473.7"},
		{"by a delegate", w.staple(t, w.inter, w.client.Cert, with(sound)), Good, ""},
		{"by a delegate of another CA", w.staple(t, w.inter, w.client.Cert, with(delegate(w.root, nil))), Unknown, "signed neither by"},
		{"by a delegate of an impostor", w.staple(t, w.inter, w.client.Cert, with(delegate(testpki.Must(w.inter.Impostor()), nil))), Unknown, "did not sign"},
		{"by another leaf of the CA", w.staple(t, w.inter, w.client.Cert, with(other)), Unknown, "OCSPSigning"},
		{"by a delegate for anything", w.staple(t, w.inter, w.client.Cert, with(delegate(w.inter, func(c *x509.Certificate) {
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny}
		}))), Unknown, "OCSPSigning"},
		{"by a delegate that has expired", w.staple(t, w.inter, w.client.Cert, with(delegate(w.inter, func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = w.now.Add(-48*time.Hour), w.now.Add(-time.Hour)
		}))), Unknown, "not valid now"},
		{"by a delegate that may not sign", w.staple(t, w.inter, w.client.Cert, with(delegate(w.inter, func(c *x509.Certificate) {
			c.KeyUsage = x509.KeyUsageKeyAgreement
		}))), Unknown, "may not sign"},
		{"by a delegate whose key usage has no bit", w.staple(t, w.inter, w.client.Cert, with(delegate(w.inter, func(c *x509.Certificate) {
			c.KeyUsage, c.ExtraExtensions = 0, []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 15}, Critical: true, Value: []byte{3, 1, 0}}}
		}))), Unknown, "may not sign"},
		{"by a delegate for lists", w.staple(t, w.inter, w.client.Cert, with(delegate(w.inter, func(c *x509.Certificate) {
			c.KeyUsage = x509.KeyUsageCRLSign
		}))), Unknown, "may not sign"},
		{"by a delegate with a critical extension", w.staple(t, w.inter, w.client.Cert, with(delegate(w.inter, func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{unknownExt}
		}))), Unknown, "critical extension"},
		{"by a delegate with RSA-1024", w.staple(t, w.inter, w.client.Cert, with(testpki.Must(w.inter.Issue(testpki.Leaf{
			Key: testpki.RSA1024, EKU: []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning}})))), Unknown, "2048"},
		{"tryLater", []byte{0x30, 3, 0x0a, 1, 3}, Unknown, "tryLater"},
		{"unauthorized", []byte{0x30, 3, 0x0a, 1, 6}, Unknown, "unauthorized"},
		{"a status nobody knows", []byte{0x30, 3, 0x0a, 1, 77}, Unknown, "status 77"},
		{"success without an answer", []byte{0x30, 3, 0x0a, 1, 0}, Unknown, "decoded"},
		{"empty", nil, Unknown, "decoded"},
		{"bytes behind", append(w.staple(t, w.inter, w.client.Cert, good), 0), Unknown, "decoded"},
		{"too large", make([]byte, maxAnswer+1), Unknown, "too large"},
	} {
		t.Run(c.name, func(t *testing.T) {
			q := w.questionOf(w.client, w.inter)
			if c.name == "SHA-1" {
				q = w.questionOf(rsaLeaf, rsaCA)
			}
			a, err := parseAnswer(c.der)
			st := Unknown
			var until time.Time
			if err == nil {
				st, until, err = a.judge(q, w.now)
			}
			if st != c.want || (err == nil) != (c.want != Unknown) {
				t.Fatalf("%s, %v", st, err)
			}
			if err != nil && (!errors.Is(err, ErrOCSP) || !strings.Contains(err.Error(), c.says)) {
				t.Errorf("%v, want %q", err, c.says)
			}
			if st == Good && !until.After(w.now) {
				t.Errorf("until %v", until)
			}
		})
	}
	// A delegate that the issuer has revoked.
	q := w.questionOf(w.client, w.inter)
	q.revoked = sound.Cert.Equal
	a, err := parseAnswer(w.staple(t, w.inter, w.client.Cert, with(sound)))
	if err != nil {
		t.Fatal(err)
	}
	if st, _, err := a.judge(q, w.now); err == nil || !strings.Contains(err.Error(), "is revoked") {
		t.Errorf("%s, %v", st, err)
	}
	// An answer about many certificates, of which one is ours, is fine; the
	// serial of ours below another CA is not ours.
	twin := testpki.Must(w.root.Issue(testpki.Leaf{Mutate: func(c *x509.Certificate) { c.SerialNumber = w.client.Cert.SerialNumber }}))
	a, err = parseAnswer(w.staple(t, w.root, twin.Cert, good))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := a.judge(w.questionOf(w.client, w.inter), w.now); err == nil {
		t.Error("the same serial number below another CA was taken")
	}
}

func TestStaples(t *testing.T) {
	w := newWorld(t)
	ofRoot := testpki.Must(ParseLists(w.crl(t, w.root, crl{number: 1}), w.cas()))
	ofInter := testpki.Must(ParseLists(w.crl(t, w.inter, crl{number: 1}), w.cas()))
	revokedBy := testpki.Must(ParseLists(w.crl(t, w.inter, crl{number: 1, revoked: []*x509.Certificate{w.client.Cert}}), w.cas()))
	good, revoked := w.staple(t, w.inter, w.client.Cert, reply{}), w.staple(t, w.inter, w.client.Cert, reply{status: 1})
	for _, c := range []struct {
		name   string
		lists  [][]*List
		staple []byte
		mode   Mode
		source string
		code   reason.Code
	}{
		{"the staple alone", [][]*List{ofRoot}, good, Hard, FromStaple, ""},
		{"revoked", [][]*List{ofRoot}, revoked, Hard, FromStaple, reason.Revoked},
		{"revoked, soft", [][]*List{ofRoot}, revoked, Soft, FromStaple, reason.Revoked},
		{"revoked, while the list has nothing yet", [][]*List{ofRoot, ofInter}, revoked, Hard, FromStaple, reason.Revoked},
		{"good, but the list says revoked", [][]*List{ofRoot, revokedBy}, good, Hard, FromCRL, reason.Revoked},
		{"broken", [][]*List{ofRoot}, []byte("x"), Hard, FromStaple, reason.RevocationUnknown},
		{"broken, soft", [][]*List{ofRoot}, []byte("x"), Soft, FromStaple, ""},
		{"broken beside a list", [][]*List{ofRoot, ofInter}, []byte("x"), Hard, FromCRL, ""},
		{"nothing of the intermediate", nil, good, Hard, "", reason.RevocationUnknown},
		{"off", nil, revoked, Off, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := w.authority(c.mode)
			for _, l := range c.lists {
				a.Sources = append(a.Sources, Source{Location: "/in/memory", Lists: l})
			}
			p := peerOf(w.client, w.root)
			p.OCSPStaple = c.staple
			k := checker(t, Options{}, a)
			r := k.Check(t.Context(), p, w.now)
			if r.Source != c.source || r.Code != c.code {
				t.Errorf("%+v", r)
			}
			if bad := k.Stats().Authorities["staff"].BadStaples; (bad > 0) != strings.HasPrefix(c.name, "broken") {
				t.Errorf("%d bad staples", bad)
			}
		})
	}
}
