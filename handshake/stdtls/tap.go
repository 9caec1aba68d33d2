package stdtls

import (
	"crypto/tls"
	"sync"
	"time"

	"github.com/sslgate/sslgate/handshake"
)

// The way of a handshake byte through this file:
//
//  1. crypto/tls reads and writes through tapConn; the bytes go by unchanged.
//     It gets at most one record a Read, so that the ledger has a message just
//     before crypto/tls acts on it and what we decide then stands in its place.
//  2. tap.feed cuts each direction into records (RFC 8446, section 5.1).
//  3. Plaintext records are read at once. Those of TLS 1.3 that are encrypted
//     wait until crypto/tls has handed over the traffic secret (KeyLogWriter)
//     and are then opened by keylog.go, in order.
//  4. Their content is joined into handshake messages, and tapmsg.go notes
//     each in the ledger.
//
// After the handshake the tap detaches: bulk data costs one atomic load.

// Bounds of one tap. The peer decides what is in the records, so each is hard.
const (
	// maxQueue bounds the records of one direction that wait for their
	// secret, in bytes. A server's whole encrypted flight with a certificate
	// message of 256 KiB fits.
	maxQueue = 320 << 10
	// maxMessage and maxCertMessage are the limits of crypto/tls, in bytes and
	// without MessageHeader: a longer message ends the handshake there anyway.
	maxMessage     = 64 << 10
	maxCertMessage = 256 << 10
)

// tooLong says whether crypto/tls refuses a handshake message of n bytes, its
// header not counted. TestMessageLimits holds it against crypto/tls itself.
func tooLong(typ uint8, n int) bool {
	if typ == handshake.TypeCertificate {
		return n > maxCertMessage
	}
	return n > maxMessage
}

// The two directions.
const (
	toServer = iota
	toClient
)

// tap watches one handshake. It changes nothing but an alert (alertwire.go). It
// refuses a signature scheme that the profile does not allow, a Certificate message
// beyond its bound, and a second ClientHello with a list beyond its cap. What it
// cannot read only stops it, and the ledger says so.
type tap struct {
	// mu because crypto/tls may write an alert while another goroutine reads.
	mu     sync.Mutex
	ledger *handshake.Ledger
	server bool // we are the server
	brief  bool // LedgerSteps: messages are read, but not noted
	names  *nameTexts
	// schemes are those accepted in the peer's proof of possession; nil is any.
	schemes []uint16
	// certBytes bounds the peer's Certificate message, in bytes; 0 is no bound
	// but that of crypto/tls.
	certBytes int

	dirs    [2]direction
	secrets [2][2][]byte // [direction][epochHandshake-1, epochApp-1], from the key log
	seen    tapped
	stopped bool
	unread  string           // why the tap stopped before the handshake was over; "" if it did not
	wanted  handshake.Alert  // what the next alert of crypto/tls shall say, see alertwire.go
	shown   [][]byte         // the certificates of the peer, in DER, until the handshake is over
	refused *handshake.Error // the peer sent something that is not acceptable
}

// direction is the state of one way.
type direction struct {
	partial []byte   // of a record; less than RecordHeader+MaxRecord bytes
	queue   []record // encrypted, their secret not there yet; maxQueue bytes
	queued  int
	message []byte        // of a handshake message; at most MessageHeader+maxCertMessage bytes, and a record more
	at      time.Duration // when its last part came
	held    bool          // what else is in message waits for goOn
	epoch   epoch
	opener  *opener
	ccs     bool // ChangeCipherSpec went by
}

type record struct {
	typ  uint8
	body []byte
	at   time.Duration
}

// tapped is what the engine wants to know after a failure.
type tapped struct {
	version, suite, group uint16
	retry                 bool            // a HelloRetryRequest went by
	resumed               bool            // TLS 1.3: the server took a pre-shared key
	ems                   bool            // TLS 1.2: the server agreed to extended_master_secret
	lastFromPeer          string          // name of the last whole message
	peerCertificates      int             // how many the peer showed, -1 before its Certificate
	peerScheme            uint16          // of the peer's CertificateVerify or ServerKeyExchange
	weFinishedFlight      bool            // server: ServerHelloDone or Finished was sent
	peerEnded             handshake.Alert // the fatal alert with which the peer ended it before we did
	weEnded               bool            // we sent a fatal alert
	sealedAlert           bool            // TLS 1.2: we sent an alert that the tap cannot open
	unread                string          // why the tap did not read all of it; "" if it did
	read                  int             // bytes of the peer's handshake messages
	records               int             // of the peer
	exchanged             bool            // both shares of the key exchange were there
	weSigned              bool            // we have proved possession of our key
	badKey                bool            // badCertificate is about its key
	badCertificate        string          // why crypto/tls could not read a certificate of the peer; "" if it did
}

func newTap(l *handshake.Ledger, server bool) *tap {
	return &tap{ledger: l, server: server, wanted: handshake.AlertNone, seen: tapped{peerCertificates: -1, peerEnded: handshake.AlertNone}}
}

// from says who sends in a direction.
func (t *tap) from(dir int) handshake.Side {
	if (dir == toServer) == t.server {
		return handshake.SidePeer
	}
	return handshake.SideUs
}

// feed takes bytes of one direction.
func (t *tap) feed(dir int, b []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stopped {
		return
	}
	at := time.Since(t.ledger.Start())
	t.drain(toClient)
	t.drain(toServer)
	d := &t.dirs[dir]
	for len(b) > 0 && !t.stopped {
		if len(d.partial) == 0 && len(b) >= handshake.RecordHeader {
			if n := handshake.RecordHeader + handshake.RecordLen(b); n <= len(b) && n <= handshake.RecordHeader+handshake.MaxRecord {
				t.record(dir, record{b[0], b[handshake.RecordHeader:n], at})
				b = b[n:]
				continue
			}
		}
		want := handshake.RecordHeader
		if len(d.partial) >= handshake.RecordHeader {
			want += handshake.RecordLen(d.partial)
		}
		if want > handshake.RecordHeader+handshake.MaxRecord {
			t.stop("a record is longer than the protocol allows")
			return
		}
		n := min(want-len(d.partial), len(b))
		d.partial = append(d.partial, b[:n]...)
		b = b[n:]
		if len(d.partial) >= handshake.RecordHeader && len(d.partial) == handshake.RecordHeader+handshake.RecordLen(d.partial) {
			whole := d.partial
			d.partial = nil
			t.record(dir, record{whole[0], whole[handshake.RecordHeader:], at})
		}
	}
}

// record takes one whole record; its body is only lent.
func (t *tap) record(dir int, r record) {
	d := &t.dirs[dir]
	if t.from(dir) == handshake.SidePeer {
		t.seen.records++
	}
	if len(d.queue) > 0 {
		t.enqueue(d, r)
		return
	}
	if !t.open(dir, r) {
		t.enqueue(d, r)
	}
}

// enqueue keeps a copy of a record until its secret is there.
func (t *tap) enqueue(d *direction, r record) {
	if d.queued += len(r.body) + handshake.RecordHeader; d.queued > maxQueue {
		t.stop("too much encrypted data before its key")
		return
	}
	r.body = append([]byte(nil), r.body...)
	d.queue = append(d.queue, r)
}

// drain opens what waited and can be opened now.
func (t *tap) drain(dir int) {
	d := &t.dirs[dir]
	for len(d.queue) > 0 && !t.stopped {
		r := d.queue[0]
		if !t.open(dir, r) {
			return
		}
		if len(d.queue) > 0 { // stop empties it
			d.queue = d.queue[1:]
			d.queued -= len(r.body) + handshake.RecordHeader
		}
	}
}

// open reads one record; false means that its secret is not there yet.
func (t *tap) open(dir int, r record) bool {
	d := &t.dirs[dir]
	v13 := t.seen.version >= tls.VersionTLS13
	switch {
	case r.typ == handshake.RecordCCS:
		// TLS 1.3 sends it for middleboxes only, without meaning (RFC 8446, appendix D.4).
		if t.seen.version != 0 && !v13 {
			d.ccs = true
			t.changeCipherSpec(dir, r)
		}
	case r.typ == handshake.RecordAlert && len(r.body) == 2:
		// Plaintext; an encrypted alert is longer in every version.
		t.alert(dir, r.body, r.at)
	case r.typ == handshake.RecordAppData && v13:
		return t.open13(dir, r)
	case d.ccs && r.typ == handshake.RecordHandshake:
		t.finished12(dir, r)
	case r.typ == handshake.RecordHandshake:
		t.handshake(dir, r.body, r.at)
	case d.ccs && (r.typ == handshake.RecordAlert || r.typ == handshake.RecordAppData):
		// Encrypted under TLS 1.2 keys: of an alert crypto/tls tells the
		// number (see remoteAlert and alertBehind), data is none of ours.
		if r.typ == handshake.RecordAlert && t.from(dir) == handshake.SideUs {
			t.seen.sealedAlert = true
		}
	default:
		t.stop("a record does not belong here")
	}
	return true
}

// handshake takes handshake bytes in the clear and cuts them into messages.
func (t *tap) handshake(dir int, b []byte, at time.Duration) {
	d := &t.dirs[dir]
	d.message, d.at = append(d.message, b...), at
	t.messages(dir)
}

// messages notes what is whole, up to where crypto/tls judges the peer before it
// looks further: what stands behind that in the same record is noted when
// crypto/tls has gone on (goOn), and so the ledger and the verdict do not depend
// on how the peer cuts its flight into records.
func (t *tap) messages(dir int) {
	d := &t.dirs[dir]
	for len(d.message) >= handshake.MessageHeader && !t.stopped && !d.held && t.refused == nil {
		n := int(d.message[1])<<16 | int(d.message[2])<<8 | int(d.message[3])
		if tooLong(d.message[0], n) {
			t.stop("a handshake message is longer than the limit")
			return
		}
		if t.from(dir) == handshake.SidePeer && d.message[0] == handshake.TypeCertificate && t.certBytes > 0 && n > t.certBytes {
			// Before crypto/tls decodes all of it.
			t.refused = t.tooManyCertificates(n)
			return
		}
		if n += handshake.MessageHeader; len(d.message) < n {
			return
		}
		msg := d.message[:n]
		d.message = d.message[n:]
		t.noteMessage(dir, msg, d.at)
		d.held = t.judged(dir, msg[0])
	}
	if len(d.message) == 0 {
		d.message = nil
	}
}

// judged says whether crypto/tls judges the client after a message: the chain, by
// VerifyConnection, then the proof of possession.
func (t *tap) judged(dir int, typ uint8) bool {
	switch {
	case !t.server || dir != toServer:
		return false
	case t.seen.version >= tls.VersionTLS13:
		return typ == handshake.TypeCertificate || typ == handshake.TypeCertificateVerify
	}
	return typ == handshake.TypeClientKeyExchange
}

// goOn is told that crypto/tls has gone on to the client's next message.
func (t *tap) goOn() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.resume(toServer)
}

func (t *tap) resume(dir int) {
	if d := &t.dirs[dir]; d.held {
		d.held = false
		t.messages(dir)
	}
}

// room is how much of a buffer of n bytes the next Read may fill: up to the end
// of the current header or record. Once the tap has stopped, all of it.
func (t *tap) room(dir, n int) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stopped {
		return n
	}
	t.resume(dir) // crypto/tls has used up what it had
	d := &t.dirs[dir]
	want := handshake.RecordHeader
	if len(d.partial) >= handshake.RecordHeader {
		want += handshake.RecordLen(d.partial)
	}
	return min(n, want-len(d.partial))
}

// proofScheme is the signature scheme of the peer's proof of possession, 0 if
// the tap has not read it.
func (t *tap) proofScheme() uint16 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.seen.peerScheme
}

// agreedEMS says whether the server agreed to extended_master_secret.
func (t *tap) agreedEMS() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.seen.ems
}

// refusal is what the peer sent that is not acceptable, nil if nothing.
func (t *tap) refusal() *handshake.Error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.refused
}

// stop ends the watching, not the traffic. crypto/tls refuses what makes the
// tap stop, with the alert that fits; where it does not, leg.end does: nobody
// gets a session of a handshake that was not read to its end.
func (t *tap) stop(why string) {
	if t.stopped {
		return
	}
	t.stopped, t.unread = true, why
	t.ledger.Note(handshake.Entry{From: handshake.SideUs, Facts: "ledger incomplete from here: " + why})
	t.dirs = [2]direction{} // the secrets stay: an alert may still have to be sealed
}

// forget drops secrets and buffers.
func (t *tap) forget() {
	for i := range t.secrets {
		for j := range t.secrets[i] {
			clear(t.secrets[i][j])
			t.secrets[i][j] = nil
		}
	}
	t.dirs, t.shown = [2]direction{}, nil
}

// finish opens what still waits and ends the watching. It returns what was
// seen, and whether the peer's bytes were read up to the end of a record and
// no further.
func (t *tap) finish() (seen tapped, aligned bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	in := toClient
	if t.server {
		in = toServer
	}
	aligned = !t.stopped && len(t.dirs[in].partial) == 0
	if !t.stopped {
		t.drain(toClient)
		t.drain(toServer)
	}
	t.stopped = true
	t.forget()
	t.seen.unread = t.unread
	return t.seen, aligned
}
