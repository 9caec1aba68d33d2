package stdtls

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/certread"
)

// crypto/tls answers every refusal of VerifyConnection with bad_certificate,
// and its alert cannot be chosen. So the one it writes is replaced on its way
// out: in plaintext (TLS 1.2 before ChangeCipherSpec) by writing another
// number; in TLS 1.3 by opening the record with the traffic secret that
// sealed it and sealing the wanted alert in its place. crypto/tls's record
// never leaves, so each nonce is still used once on the wire (RFC 8446,
// section 5.3), and crypto/tls writes nothing after an alert.

// alertRecord13 is the length of an encrypted alert without padding: level and
// description, content type, tag (RFC 8446, section 5.2).
const alertRecord13 = 2 + 1 + 16

// maxAlertSeq bounds the search for the record's sequence number. Before an
// alert of ours, one direction and epoch has at most seven records in it: our
// flight of 256 KiB at 16 KiB a record would have more, but then the tap knows.
const maxAlertSeq = 64

// want makes the next alert that crypto/tls writes say a. AlertNone changes
// nothing.
func (t *tap) want(a handshake.Alert) {
	t.mu.Lock()
	t.wanted = a
	t.mu.Unlock()
}

// rewrite returns b with the wanted alert in place of crypto/tls's; b itself if
// there is nothing to replace. It never changes b. Once the tap has stopped, this is
// also where an alert is noted that leaves: nobody else reads it.
//
// back is how many records in front of b crypto/tls has sealed and nobody will
// ever send: session tickets (ticketgate.go). An alert behind them is sealed
// anew under the number that the peer waits for; nil where that is not possible.
func (t *tap) rewrite(dir int, b []byte, back uint64) []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.wanted == handshake.AlertNone && back == 0 && !t.stopped && t.shown == nil {
		return b
	}
	for off := 0; len(b)-off >= handshake.RecordHeader; {
		n := handshake.RecordHeader + handshake.RecordLen(b[off:])
		if n > len(b)-off {
			break
		}
		rec := b[off : off+n]
		if out, ok := t.otherAlert(dir, rec, back); ok {
			t.wanted = handshake.AlertNone
			return append(append(append(make([]byte, 0, len(b)), b[:off]...), out...), b[off+n:]...)
		}
		off += n
	}
	if back > 0 {
		return nil
	}
	return b
}

// otherAlert makes the record that replaces rec, if rec is an alert that can be
// replaced.
func (t *tap) otherAlert(dir int, rec []byte, back uint64) ([]byte, bool) {
	body := rec[handshake.RecordHeader:]
	if rec[0] == handshake.RecordAlert && len(body) == 2 {
		alert := t.leaves(handshake.Alert(body[1]))
		return append(append([]byte{}, rec[:handshake.RecordHeader]...), alert.Level(), byte(alert)), true
	}
	if rec[0] != handshake.RecordAppData || len(body) != alertRecord13 || t.seen.version < tls.VersionTLS13 {
		return nil, false
	}
	// The newest keys first; a trial with other keys or another number fails
	// its authentication.
	for i := len(t.secrets[dir]) - 1; i >= 0; i-- {
		o := newOpener(t.seen.suite, t.secrets[dir][i])
		if o == nil || t.secrets[dir][i] == nil {
			continue
		}
		for seq := range uint64(maxAlertSeq) {
			o.seq = seq
			if content, typ, ok := o.open(body); ok {
				if typ != handshake.RecordAlert || len(content) != 2 || seq < back {
					return nil, false
				}
				alert := t.leaves(handshake.Alert(content[1]))
				o.seq = seq - back
				return o.seal(handshake.RecordAlert, []byte{alert.Level(), byte(alert)}), true
			}
		}
	}
	return nil, false
}

// leaves is the alert that leaves in place of crypto/tls's.
func (t *tap) leaves(theirs handshake.Alert) handshake.Alert {
	switch {
	case t.wanted != handshake.AlertNone:
		theirs = t.wanted
	case theirs == handshake.AlertDecodeError && t.unreadable():
		// The message did decode, a certificate in it did not (RFC 8446, section 6.2).
		theirs = handshake.AlertBadCertificate
	case theirs == handshake.AlertUnsupportedCertificate:
		t.unreadable() // for its key: DSA, Ed448, RSASSA-PSS
	}
	if t.stopped { // nobody else notes it
		t.ledger.NoteAlert(t.alertStep(handshake.SideUs), handshake.SideUs, theirs)
	}
	return theirs
}

// unreadable says whether crypto/tls could not read one of the peer's
// certificates, and remembers which and why. It is asked once, when the handshake
// has failed.
func (t *tap) unreadable() bool {
	for i, der := range t.shown {
		c, err := certread.Certificate(der)
		bad, _ := errors.AsType[*certread.Refused](err)
		if bad == nil && i == 0 && err == nil {
			bad = certread.Key(c)
		}
		if bad != nil {
			t.seen.badKey = bad.Key
			name := handshake.Shortened(bad.Subject, handshake.MaxNameLength)
			t.seen.badCertificate = fmt.Sprintf("certificate %d of %d, \"%s\", serial %s: %s", i+1, len(t.shown), name, cmp.Or(bad.Serial, "unreadable"), bad.Why)
			return true
		}
	}
	return false
}

// ownAlert makes the record of an alert that crypto/tls has not sent and never
// will, because its connection is given up: nil where that is not possible.
// Nothing may be written after it.
func (t *tap) ownAlert(dir int, a handshake.Alert) []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stopped || a == handshake.AlertNone || t.seen.weEnded {
		return nil
	}
	t.drain(dir)
	d := &t.dirs[dir]
	if len(d.queue) > 0 || t.stopped {
		return nil
	}
	alert := []byte{a.Level(), byte(a)}
	// Between a HelloRetryRequest and the ServerHello there are no keys yet.
	plain := t.seen.retry && d.opener == nil && t.secrets[dir][epochHandshake-1] == nil
	if t.seen.version < tls.VersionTLS13 || plain {
		if d.ccs {
			return nil // encrypted under keys that crypto/tls alone has
		}
		return append([]byte{handshake.RecordAlert, 3, 3, 0, 2}, alert...)
	}
	o := d.opener
	if o == nil {
		e := max(d.epoch, epochHandshake)
		if t.secrets[dir][e-1] == nil {
			return nil
		}
		if o = newOpener(t.seen.suite, t.secrets[dir][e-1]); o == nil {
			return nil
		}
	}
	next := *o // the tap itself reads the record again when it goes by
	return next.seal(handshake.RecordAlert, alert)
}

// seal makes the next record with a content that needs no padding.
func (o *opener) seal(typ uint8, content []byte) []byte {
	n := len(content) + 1 + o.aead.Overhead()
	out := []byte{handshake.RecordAppData, 3, 3, byte(n >> 8), byte(n)}
	return o.aead.Seal(out, o.nonce(), append(append([]byte{}, content...), typ), out[:handshake.RecordHeader:handshake.RecordHeader])
}

// sendOwn sends an alert in crypto/tls's place, after its connection was given
// up. It says whether it could.
func (c *tapConn) sendOwn(a handshake.Alert) bool {
	dir := toServer
	if c.tap.server {
		dir = toClient
	}
	c.out.dropHeld()
	record := c.tap.ownAlert(dir, a)
	if record == nil {
		return false
	}
	_ = c.SetWriteDeadline(time.Now().Add(handshake.AlertTimeout)) // where it fails, the write does too
	_, err := c.Write(record)
	_ = c.SetWriteDeadline(time.Time{})
	return err == nil
}

// refusedByUs is what crypto/tls reads in place of a message that the tap has
// found not acceptable: it gives the connection up without an alert of its own.
type refusedByUs struct{ e *handshake.Error }

// Error is that of the refusal.
func (r *refusedByUs) Error() string { return r.e.Error() }
