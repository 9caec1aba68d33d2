package stdtls

import (
	"bytes"
	"crypto/tls"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/ticket"
)

// sessionExample has a value of its own in every field.
func sessionExample() *ticket.State {
	return &ticket.State{
		Session: [8]byte{1, 2, 3, 4, 5, 6, 7, 8},
		Born:    time.Unix(1_700_000_000, 0), Made: time.Unix(1_700_000_600, 0), Until: time.Unix(1_700_003_600, 0),
		Version: tls.VersionTLS12, Suite: tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, Group: uint16(tls.X25519),
		Scheme: uint16(tls.ECDSAWithP256AndSHA256), ExtendedMasterSecret: true,
		Secret: bytes.Repeat([]byte{0xaa}, 48), Chain: [][]byte{{0x30, 0x01, 0xc1}, {0x30, 0x01, 0xc2}}, Staple: []byte{0x30, 0x01, 0x0c},
	}
}

// Dates at the ends of what a certificate or a clock may say go through crypto/tls's
// encoding and back.
func TestFarDatesOfSessions(t *testing.T) {
	for _, at := range []time.Time{
		time.Date(9999, time.December, 31, 23, 59, 59, 0, time.UTC), time.Date(10000, time.January, 1, 0, 0, 0, 0, time.UTC),
		time.Date(2262, time.April, 12, 0, 0, 0, 0, time.UTC), // beyond nanoseconds in 64 bits
		time.Date(2106, time.February, 8, 0, 0, 0, 0, time.UTC), time.Unix(0, 0), time.Unix(-1, 0), {},
	} {
		s := sessionExample()
		s.Made = at
		var back ticket.State
		if !readSession(&back, testpki.Must(writeSession(s))) || !back.Made.Equal(s.Made) {
			t.Errorf("%s comes back as %s", s.Made, back.Made)
		}
	}
}

// What goes into crypto/tls's encoding comes back whole, and what crypto/tls takes of it is
// what it would have written itself.
func FuzzSessionState(f *testing.F) {
	f.Add(testpki.Must(sessionExample().Marshal()))
	bare := sessionExample()
	bare.Version, bare.Suite, bare.Chain, bare.Staple, bare.Scheme, bare.ExtendedMasterSecret = tls.VersionTLS13, tls.TLS_AES_256_GCM_SHA384, nil, nil, 0, false
	f.Add(testpki.Must(bare.Marshal()))
	real := sessionExample()
	real.Chain = [][]byte{testpki.Must(testpki.Must(testpki.NewCA(testpki.Options{})).Issue(testpki.Leaf{})).Cert.Raw}
	f.Add(testpki.Must(real.Marshal()))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ticket.Parse(b)
		if err != nil {
			return
		}
		encoded, err := writeSession(s)
		if err != nil {
			t.Fatal(err)
		}
		back := ticket.State{Session: s.Session, Born: s.Born, Until: s.Until, Scheme: s.Scheme, Group: s.Group}
		if !readSession(&back, encoded) {
			t.Fatalf("crypto/tls's encoding % x is not read", encoded)
		}
		if again, err := back.Marshal(); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("% x\ncomes back from crypto/tls's encoding as % x, %v", b, again, err)
		}
		ss, err := tls.ParseSessionState(encoded)
		if err != nil {
			return // a chain that is none
		}
		if own, err := ss.Bytes(); err != nil || !bytes.Equal(own, encoded) {
			t.Fatalf("crypto/tls writes % x, we % x, %v", own, encoded, err)
		}
	})
}
