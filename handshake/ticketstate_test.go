package handshake

import (
	"bytes"
	"crypto/tls"
	"encoding/hex"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/ticket"
)

// The name a ticket is sealed under is as fixed as its layout: gateways of a fleet
// must come to the same one.
func TestTicketBindingIsFixed(t *testing.T) {
	p := &ServerParams{Params: Params{Profile: Profile{MinVersion: tls.VersionTLS12, MaxVersion: tls.VersionTLS13, Groups: []uint16{29}}}, Ticket: &TicketRule{Binding: []byte("rule")}}
	const want = "7e9a9546e4d671abf4ea28a1bbb0e9eb6c3a9b8d68429f644d849691e6af3770"
	if got := hex.EncodeToString(p.TicketBinding("pay.example")); got != want {
		t.Errorf("%s, want %s: another name needs another ticket.Version", got, want)
	}
}

// A client that knows ML-DSA has room for chains of it, and any other gets no ticket
// that a peer of the time before could not read.
func TestTicketRoom(t *testing.T) {
	for _, scheme := range []uint16{0x0904, 0x0905, 0x0906} {
		if n := TicketRoom(&ClientHello{SignatureSchemes: []uint16{0x0403, scheme}}); n != MaxTicket {
			t.Errorf("%#x: %d bytes of room", scheme, n)
		}
	}
	for _, h := range []*ClientHello{nil, {}, {SignatureSchemes: []uint16{0x0403, 0x0804, 0x0903, 0x0907}}} {
		if n := TicketRoom(h); n != MaxPlainTicket {
			t.Errorf("%+v: %d", h, n)
		}
	}
	keys, now := ticket.NewKeys(0), time.Unix(1_700_000_000, 0)
	for _, n := range []int{MaxPlainTicket, MaxTicket} {
		state := make([]byte, n)
		sealed := testpki.Must(keys.Seal(state, []byte("x"), now))
		if len(sealed) != n+ticket.Overhead || !bytes.Equal(keys.Open(sealed, []byte("x"), now), state) {
			t.Errorf("a ticket of %d bytes does not open", len(sealed))
		}
	}
	if whole := 4 + 4 + 4 + 1 + 2 + 2 + ticket.Overhead + MaxPlainTicket; whole > 16384 {
		t.Errorf("a NewSessionTicket of %d bytes", whole)
	}
}
