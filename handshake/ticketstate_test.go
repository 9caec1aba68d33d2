package handshake

import (
	"bytes"
	"crypto/tls"
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/ticket"
)

// The name a ticket is sealed under is as fixed as its layout: gateways of a fleet
// must come to the same one.
func TestTicketBindingIsFixed(t *testing.T) {
	p := &ServerParams{Params: Params{Profile: Profile{MinVersion: tls.VersionTLS12, MaxVersion: tls.VersionTLS13, Groups: []uint16{29}}}, Ticket: &TicketRule{Binding: []byte("rule")}}
	const want = "bf4a6a618ab1cd6ed5cfc3d3b8dc32caee5518b5d2c642208f7f76b189e95bf0"
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
	keys, now := NewTicketKeys(0), time.Unix(1_700_000_000, 0)
	for _, n := range []int{MaxPlainTicket, MaxTicket} {
		state := make([]byte, n)
		sealed := testpki.Must(keys.Seal(state, []byte("x"), now))
		if len(sealed) != n+TicketOverhead || !bytes.Equal(keys.Open(sealed, []byte("x"), now), state) {
			t.Errorf("a ticket of %d bytes does not open", len(sealed))
		}
	}
	if whole := 4 + 4 + 4 + 1 + 2 + 2 + TicketOverhead + MaxPlainTicket; whole > 16384 {
		t.Errorf("a NewSessionTicket of %d bytes", whole)
	}
}

// A ticket whose name is right and whose state is of another version, or no state
// at all, leads to a full handshake and to no error.
func TestTicketOfAnotherVersion(t *testing.T) {
	f := fixtures()
	for _, version := range bothVersions {
		for name, change := range map[string]func([]byte) []byte{
			"the same":       func(b []byte) []byte { return b },
			"before":         func(b []byte) []byte { b[0]--; return b },
			"later":          func(b []byte) []byte { b[0]++; return b },
			"later, longer":  func(b []byte) []byte { b[0]++; return append(b, 1, 2, 3) },
			"crypto/tls's":   func(b []byte) []byte { s := testpki.Must(ticket.Parse(b)); return testpki.Must(s.Std()) },
			"trailing bytes": func(b []byte) []byte { return append(b, 0) },
			"nothing":        func([]byte) []byte { return nil },
		} {
			p := ticketParams(NewTicketKeys(0))
			p.Ticket.Keys = changedState{p.Ticket.Keys, change}
			r := newResumer(version, f.client)
			r.good(t, name, p, false)
			r.good(t, name, p, name == "the same")
		}
	}
}

// changedState opens tickets to something else.
type changedState struct {
	TicketSealer
	change func([]byte) []byte
}

func (c changedState) Open(sealed, binding []byte, now time.Time) []byte {
	state := c.TicketSealer.Open(sealed, binding, now)
	if state == nil {
		return nil
	}
	return c.change(state)
}

// A chain that has no room in a ticket is no fault: there is a full handshake each
// time, with OpenSSL too, which takes no NewSessionTicket of more than 16,384 bytes.
func TestTicketOfLargeChain(t *testing.T) {
	f := fixtures()
	names := make([]string, 0, 600)
	for i := range 600 { // about 30 bytes each
		names = append(names, "a-rather-long-host-name-"+hex.EncodeToString([]byte{byte(i >> 8), byte(i)}))
	}
	for _, c := range []struct {
		names   int
		resumed bool
	}{{400, true}, {600, false}} {
		cert := testpki.Must(f.ca.Issue(testpki.Leaf{DNS: names[:c.names]}))
		for _, version := range bothVersions {
			p := ticketParams(NewTicketKeys(0))
			r := newResumer(version, cert)
			r.good(t, "first", p, false)
			r.good(t, "again", p, c.resumed)
		}
		certFile, key, err := cert.WritePEM(t.TempDir(), "large")
		if err != nil {
			t.Fatal(err)
		}
		o, out := withOpenSSL(t, ticketParams(NewTicketKeys(0)), "-tls1_3", "-cert", certFile, "-key", key)
		if o.err != nil || !strings.Contains(out, "ok") {
			t.Errorf("%d names: %v\n%s", c.names, o.err, out)
		}
	}
}
