package ticket

import (
	"bytes"
	"crypto/tls"
	"encoding/hex"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab/testpki"
)

// example has a value of its own in every field.
func example() *State {
	return &State{
		Session: [8]byte{1, 2, 3, 4, 5, 6, 7, 8},
		Born:    time.Unix(1_700_000_000, 0), Made: time.Unix(1_700_000_600, 0), Until: time.Unix(1_700_003_600, 0),
		Version: tls.VersionTLS12, Suite: tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, Group: uint16(tls.X25519),
		Scheme: uint16(tls.ECDSAWithP256AndSHA256), ExtendedMasterSecret: true,
		Secret: bytes.Repeat([]byte{0xaa}, 48), Chain: [][]byte{{0x30, 0x01, 0xc1}, {0x30, 0x01, 0xc2}}, Staple: []byte{0x30, 0x01, 0x0c},
	}
}

var dumpLine = regexp.MustCompile(`(?m)^[0-9a-f]{4}  ((?:[0-9a-f]{2} ?)+)`)

// The layout is what other engines, processes and gateways rely on: the bytes of
// docs/tickets.md.
func TestLayout(t *testing.T) {
	doc := testpki.Must(os.ReadFile("../../docs/tickets.md"))
	var text strings.Builder
	for _, m := range dumpLine.FindAllSubmatch(doc, -1) {
		text.WriteString(strings.ReplaceAll(string(m[1]), " ", ""))
	}
	want := testpki.Must(hex.DecodeString(text.String()))
	got := testpki.Must(example().Marshal())
	if !bytes.Equal(got, want) {
		t.Fatalf("the example is\n%s\nand in docs/tickets.md\n%s", hex.Dump(got), hex.Dump(want))
	}
	back, err := Parse(want)
	if err != nil || !reflect.DeepEqual(back, example()) {
		t.Errorf("%+v, %v", back, err)
	}
}

// Dates at the ends of what a certificate or a clock may say go there and back.
func TestFarDates(t *testing.T) {
	for _, at := range []time.Time{
		time.Date(9999, time.December, 31, 23, 59, 59, 0, time.UTC), time.Date(10000, time.January, 1, 0, 0, 0, 0, time.UTC),
		time.Date(2262, time.April, 12, 0, 0, 0, 0, time.UTC), // beyond nanoseconds in 64 bits
		time.Date(2106, time.February, 8, 0, 0, 0, 0, time.UTC), time.Unix(0, 0), time.Unix(-1, 0), {},
	} {
		s := example()
		s.Born, s.Made, s.Until = at, at.Add(time.Second), at.Add(24*time.Hour)
		back, err := Parse(testpki.Must(s.Marshal()))
		if err != nil || !back.Born.Equal(s.Born) || !back.Made.Equal(s.Made) || !back.Until.Equal(s.Until) {
			t.Errorf("%s: %+v, %v", at, back, err)
		}
	}
}

// Another version, a bit, a byte too many or too few, and fields that do not agree
// are refused.
func TestRefuses(t *testing.T) {
	good := testpki.Must(example().Marshal())
	for version := range 256 {
		if b := append([]byte{byte(version)}, good[1:]...); version != Version {
			if s, err := Parse(b); err == nil {
				t.Errorf("version %d: %+v", version, s)
			}
		}
	}
	for n := range good {
		if _, err := Parse(good[:n]); err == nil {
			t.Errorf("cut at %d: taken", n)
		}
	}
	if _, err := Parse(append(slices.Clone(good), 0)); err == nil {
		t.Error("a byte too many: taken")
	}
	for bit := 1; bit < 8; bit++ {
		b := slices.Clone(good)
		if b[1] |= 1 << bit; func() bool { _, err := Parse(b); return err == nil }() {
			t.Errorf("flag %d: taken", bit)
		}
	}
	for name, change := range map[string]func(*State){
		"TLS 1.1":                func(s *State) { s.Version = tls.VersionTLS11 },
		"no suite":               func(s *State) { s.Suite = 0 },
		"no secret":              func(s *State) { s.Secret = nil },
		"secret too long":        func(s *State) { s.Secret = make([]byte, 65) },
		"a chain and no proof":   func(s *State) { s.Scheme = 0 },
		"a proof and no chain":   func(s *State) { s.Chain, s.Staple = nil, nil },
		"a response of no chain": func(s *State) { s.Chain, s.Scheme = nil, 0 },
		"an empty certificate":   func(s *State) { s.Chain = append(s.Chain, []byte{}) },
		"a chain of 65536 bytes": func(s *State) { s.Chain = [][]byte{make([]byte, 1<<15), make([]byte, 1<<15)} },
		"a certificate too long": func(s *State) { s.Chain = [][]byte{make([]byte, 1<<16)} },
		"larger than MaxState":   func(s *State) { s.Chain = [][]byte{make([]byte, MaxState)} },
	} {
		s := example()
		change(s)
		if b, err := s.Marshal(); err == nil {
			t.Errorf("%s: %x", name, b[:60])
		}
	}
}

// A chain of six certificates of ML-DSA-87 has room.
func TestRoom(t *testing.T) {
	s := example()
	s.Chain = nil
	for range 6 {
		s.Chain = append(s.Chain, make([]byte, 2592+4627+300)) // FIPS 204, table 2: key and signature
	}
	b, err := s.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if back, err := Parse(b); err != nil || !reflect.DeepEqual(back, s) {
		t.Errorf("does not come back: %v", err)
	}
}

// What is parsed marshals back to the same bytes.
func FuzzState(f *testing.F) {
	f.Add(testpki.Must(example().Marshal()))
	bare := example()
	bare.Version, bare.Suite, bare.Chain, bare.Staple, bare.Scheme, bare.ExtendedMasterSecret = tls.VersionTLS13, tls.TLS_AES_256_GCM_SHA384, nil, nil, 0, false
	f.Add(testpki.Must(bare.Marshal()))
	real := example()
	real.Chain = [][]byte{testpki.Must(testpki.Must(testpki.NewCA(testpki.Options{})).Issue(testpki.Leaf{})).Cert.Raw}
	f.Add(testpki.Must(real.Marshal()))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := Parse(b)
		if err != nil {
			return
		}
		if again, err := s.Marshal(); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("% x\ncomes back as % x, %v", b, again, err)
		}
	})
}
