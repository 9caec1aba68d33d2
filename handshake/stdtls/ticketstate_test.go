package stdtls

import (
	"crypto/tls"
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/lab/handshaketest"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/ticket"
)

// A ticket whose name is right and whose state is of another version, or no state
// at all, leads to a full handshake and to no error.
func TestTicketOfAnotherVersion(t *testing.T) {
	f := handshaketest.Fixtures()
	for _, version := range bothVersions {
		for name, change := range map[string]func([]byte) []byte{
			"the same":       func(b []byte) []byte { return b },
			"before":         func(b []byte) []byte { b[0]--; return b },
			"later":          func(b []byte) []byte { b[0]++; return b },
			"later, longer":  func(b []byte) []byte { b[0]++; return append(b, 1, 2, 3) },
			"crypto/tls's":   func(b []byte) []byte { s := testpki.Must(ticket.Parse(b)); return testpki.Must(writeSession(s)) },
			"trailing bytes": func(b []byte) []byte { return append(b, 0) },
			"nothing":        func([]byte) []byte { return nil },
		} {
			p := ticketParams(ticket.NewKeys(0))
			p.Ticket.Keys = changedState{p.Ticket.Keys, change}
			r := newResumer(version, f.Client)
			r.good(t, name, p, false)
			r.good(t, name, p, name == "the same")
		}
	}
}

// changedState opens tickets to something else.
type changedState struct {
	handshake.TicketSealer
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
// time, with OpenSSL too, which takes no NewSessionTicket of more than 16,384 bytes. Go's
// client lists ML-DSA where it offers TLS 1.3, so that it gets larger ones there.
func TestTicketOfLargeChain(t *testing.T) {
	f := handshaketest.Fixtures()
	names := make([]string, 0, 1700)
	for i := range 1700 { // about 30 bytes each
		names = append(names, "a-rather-long-host-name-"+hex.EncodeToString([]byte{byte(i >> 8), byte(i)}))
	}
	for _, c := range []struct {
		names     int
		resumed   bool
		resumed13 bool
	}{{400, true, true}, {600, false, true}, {1700, false, false}} {
		cert := testpki.Must(f.CA.Issue(testpki.Leaf{DNS: names[:c.names]}))
		for _, version := range bothVersions {
			p := ticketParams(ticket.NewKeys(0))
			r := newResumer(version, cert)
			r.good(t, "first", p, false)
			r.good(t, "again", p, map[bool]bool{true: c.resumed13, false: c.resumed}[version == tls.VersionTLS13])
		}
		certFile, key, err := cert.WritePEM(t.TempDir(), "large")
		if err != nil {
			t.Fatal(err)
		}
		o, out := withOpenSSL(t, ticketParams(ticket.NewKeys(0)), "-tls1_3", "-cert", certFile, "-key", key)
		if o.err != nil || !strings.Contains(out, "ok") {
			t.Errorf("%d names: %v\n%s", c.names, o.err, out)
		}
	}
}
