package probe_test

import (
	"crypto/tls"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/probe"
)

// withNotAfter writes another end into a certificate, whose signature is wrong then.
func withNotAfter(t *testing.T, der []byte, notAfter string) []byte {
	t.Helper()
	var cert, tbs, validity, notBefore cryptobyte.String
	in := cryptobyte.String(der)
	if !in.ReadASN1(&cert, asn1.SEQUENCE) || !cert.ReadASN1(&tbs, asn1.SEQUENCE) {
		t.Fatal("no certificate")
	}
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			for i := 0; !tbs.Empty(); i++ {
				var e cryptobyte.String
				var tag asn1.Tag
				if i == 4 { // version, serialNumber, signature, issuer
					if !tbs.ReadASN1(&validity, asn1.SEQUENCE) || !validity.ReadAnyASN1Element(&notBefore, &tag) {
						t.Fatal("no validity")
					}
					b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
						b.AddBytes(notBefore)
						b.AddASN1(asn1.GeneralizedTime, func(b *cryptobyte.Builder) { b.AddBytes([]byte(notAfter)) })
					})
					continue
				}
				if !tbs.ReadAnyASN1Element(&e, &tag) {
					t.Fatal("no field")
				}
				b.AddBytes(e)
			}
		})
		b.AddBytes(cert)
	})
	return b.BytesOrPanic()
}

// A server's certificate may end at any date; an offset, which RFC 5280 forbids and
// crypto/x509 takes, leads beyond the years that JSON has.
func TestFarDates(t *testing.T) {
	ca := testpki.Must(testpki.NewCA(testpki.Options{CN: "Far CA"}))
	leaf := testpki.Must(ca.Issue(testpki.Leaf{CN: "far", DNS: []string{"pay.example"}}))
	for notAfter, want := range map[string]string{
		"99991231235959Z": "9999-12-31", "99991231235959-0100": "9999-12-31", "00000101000000+0100": "0001-01-01",
		"19500101000000Z": "1950-01-01", "24000101000000Z": "2400-01-01",
	} {
		addr := serveTLS(t, &tls.Config{Certificates: []tls.Certificate{{
			Certificate: [][]byte{withNotAfter(t, leaf.Cert.Raw, notAfter)}, PrivateKey: leaf.Key,
		}}})
		r, err := probe.Run(t.Context(), probe.Options{Address: addr, ServerName: "pay.example", Timeout: testenv.Scaled(40 * time.Second)})
		if err != nil {
			t.Errorf("%s: %v", notAfter, err)
			continue
		}
		b, err := json.Marshal(r)
		if err != nil || !strings.Contains(string(b), `"not_after":"`+want) {
			t.Errorf("%s: %v, %s", notAfter, err, b)
		}
	}
}
