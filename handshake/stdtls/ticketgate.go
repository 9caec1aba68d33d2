package stdtls

import (
	"bytes"
	"crypto/tls"
	"errors"

	"github.com/sslgate/sslgate/handshake"
)

// ticketGate keeps a session ticket back until the caller has said its last
// word about the client (Session.Grant). crypto/tls writes tickets earlier: in
// TLS 1.3 before the client's Finished, and before VerifyConnection where it
// waits for no certificate; in TLS 1.2 in front of its own Finished. Whoever
// has a ticket comes back without a proof of possession, so nobody gets one of
// a handshake that ends with a refusal.
//
// crypto/tls asks WrapSession for each ticket just before it writes it. That is
// where the gate closes, whatever the tap has or has not understood. Guarded by
// outbound.mu.
type ticketGate struct {
	shut bool   // nothing leaves after the handshake: not granted yet
	held []byte // records that wait for the grant

	all     bool   // TLS 1.2: everything from the ticket on is held, the Finished too
	coming  int    // TLS 1.3: bytes of the ticket's records that are still to be written
	records uint64 // TLS 1.3: records of it that are held
}

// errNotGranted is what a write gets before Session.Grant.
var errNotGranted = errors.New("handshake: written before the client was let in")

// sealedFraming is what a TLS 1.3 record has besides its content, in bytes:
// header, content type, tag.
const sealedFraming = handshake.RecordHeader + 1 + 16

// expect is told that a ticket of n bytes is the next thing that the server
// writes. In TLS 1.3 nothing follows it in the same write.
func (o *outbound) expect(version uint16, n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if version < tls.VersionTLS13 {
		o.all = true
		return
	}
	n += handshake.TicketFraming
	count := (n + handshake.MaxPlaintext - 1) / handshake.MaxPlaintext
	o.records += uint64(count)
	o.coming += n + count*sealedFraming
}

// sort takes what crypto/tls writes during the handshake and keeps the ticket.
// now is what may leave at once; behind are the records held in front of it.
func (o *outbound) sort(b []byte) (now []byte, behind uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.all:
		o.held = append(o.held, b...)
		return nil, 0
	case o.coming > 0:
		n := min(o.coming, len(b))
		o.coming -= n
		o.held = append(o.held, b[len(b)-n:]...)
		return b[:len(b)-n], 0
	}
	return b, o.records
}

// pending is a copy of what is held.
func (o *outbound) pending() []byte {
	o.mu.Lock()
	defer o.mu.Unlock()
	return bytes.Clone(o.held)
}

// dropHeld throws away what is held: the handshake has failed.
func (o *outbound) dropHeld() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ticketGate = ticketGate{shut: o.shut}
}

// grant is Session.Grant.
func (c *sessionConn) grant() {
	o := &c.raw.out
	o.mu.Lock()
	o.shut = false
	o.mu.Unlock()
	o.releaseLater(c.raw.Conn)
}
