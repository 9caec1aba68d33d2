package stdtls

import (
	"crypto/tls"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/lab/handshaketest"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/ticket"
)

// What a recutter does to the pieces besides cutting them. Only the first three
// leave a flight that the RFCs allow; after the others the connection ends.
const (
	cutOnly    = iota
	cutPadded  // TLS 1.3: padding in each record (RFC 8446, section 5.4)
	cutCCS     // ChangeCipherSpec in front of the flight (RFC 8446, appendix D.4)
	cutEmpty   // an empty handshake record in the middle
	cutLost    // a piece is missing
	cutTwice   // a piece comes twice
	cutSwapped // two pieces change places
	cutAlert   // a warning between two pieces
	cutMiddle  // ChangeCipherSpec between two pieces
	cutModes
)

// recutter is a client's connection that cuts the handshake messages of its
// flights into records of other sizes, plain ones and those under the handshake
// traffic secret. It knows the secrets from the client's key log.
type recutter struct {
	*net.TCPConn
	keys  *tap   // also the client's KeyLogWriter
	sizes []byte // of the records, cyclic: 1 means 1 byte, 255 a whole record
	at    int
	mode  int

	in, out *opener // of the handshake traffic secret
	ccs     bool    // TLS 1.2: what follows is encrypted
}

func (c *recutter) Read(b []byte) (int, error) {
	n, err := c.TCPConn.Read(b)
	c.keys.feed(toClient, b[:n])
	return n, err
}

func (c *recutter) Write(b []byte) (int, error) {
	var out, plain, sealed []byte
	for rest := b; len(rest) >= handshake.RecordHeader; {
		n := handshake.RecordHeader + handshake.RecordLen(rest)
		rec := rest[:n]
		rest = rest[n:]
		if content, ok := c.opened(rec); ok {
			sealed = append(sealed, content...)
			continue
		}
		if rec[0] == handshake.RecordHandshake && !c.ccs {
			plain = append(plain, rec[handshake.RecordHeader:]...)
			continue
		}
		out = append(out, c.cut(plain, nil)...)
		out = append(out, c.cut(sealed, c.out)...)
		plain, sealed = nil, nil
		c.ccs = c.ccs || rec[0] == handshake.RecordCCS && c.keys.seen.version < tls.VersionTLS13
		out = append(out, rec...)
	}
	out = append(out, c.cut(plain, nil)...)
	out = append(out, c.cut(sealed, c.out)...)
	if _, err := c.TCPConn.Write(out); err != nil {
		return 0, err
	}
	if c.mode > cutCCS && c.keys.seen.version != 0 {
		_ = c.CloseWrite() // the server may wait for what the fault has taken away
	}
	return len(b), nil
}

// opened is the content of a record under the client's handshake traffic secret.
func (c *recutter) opened(rec []byte) ([]byte, bool) {
	c.keys.mu.Lock()
	secret, suite := c.keys.secrets[toServer][0], c.keys.seen.suite
	c.keys.mu.Unlock()
	if rec[0] != handshake.RecordAppData || secret == nil || c.ccs {
		return nil, false
	}
	if c.in == nil {
		c.in, c.out = newOpener(suite, secret), newOpener(suite, secret)
	}
	seq := c.in.seq
	content, typ, ok := c.in.open(rec[handshake.RecordHeader:])
	if !ok || typ != handshake.RecordHandshake {
		c.in.seq = seq
		return nil, false
	}
	return content, true
}

// cut makes the records of a flight.
func (c *recutter) cut(flight []byte, o *opener) []byte {
	if len(flight) == 0 {
		return nil
	}
	var pieces [][]byte
	for len(flight) > 0 {
		n := handshake.MaxPlaintext
		if len(c.sizes) > 0 {
			if s := int(c.sizes[c.at%len(c.sizes)]); s < 255 {
				n = 1 + s*s/8
			}
			c.at++
		}
		if c.keys.seen.version == 0 {
			n = max(n, 256) // Peek has a bound of its own for a hello in too many records
		}
		n = min(n, len(flight))
		pieces = append(pieces, flight[:n])
		flight = flight[n:]
	}
	middle := len(pieces) / 2
	switch hello := c.keys.seen.version == 0; {
	case hello: // its faults are those of FuzzPeek
	case c.mode == cutEmpty:
		pieces = slices.Insert(pieces, middle, []byte{})
	case c.mode == cutLost:
		pieces = slices.Delete(pieces, middle, middle+1)
	case c.mode == cutTwice:
		pieces = slices.Insert(pieces, middle, pieces[middle])
	case c.mode == cutSwapped && middle > 0:
		pieces[middle], pieces[middle-1] = pieces[middle-1], pieces[middle]
	}
	var out []byte
	for i, p := range pieces {
		if c.keys.seen.version != 0 && (c.mode == cutCCS && i == 0 && o != nil || c.mode == cutMiddle && i == middle && i > 0) {
			out = append(out, handshake.RecordCCS, 3, 3, 0, 1, 1)
		}
		if c.mode == cutAlert && i == middle && c.keys.seen.version != 0 {
			out = append(out, c.record(handshake.RecordAlert, []byte{1, byte(handshake.AlertUserCanceled)}, o)...)
		}
		out = append(out, c.record(handshake.RecordHandshake, p, o)...)
	}
	return out
}

func (c *recutter) record(typ uint8, content []byte, o *opener) []byte {
	if o == nil {
		return append([]byte{typ, 3, 3, byte(len(content) >> 8), byte(len(content))}, content...)
	}
	if c.mode == cutPadded && len(content) < 1000 {
		n := len(content) + 1 + 77 + o.aead.Overhead()
		head := []byte{handshake.RecordAppData, 3, 3, byte(n >> 8), byte(n)}
		inner := append(append(append([]byte{}, content...), typ), make([]byte, 77)...)
		return o.aead.Seal(head, o.nonce(), inner, head[:handshake.RecordHeader:handshake.RecordHeader])
	}
	return o.seal(typ, content)
}

// recutOutcome is what must not depend on the records.
type recutOutcome struct {
	reason   string
	step     handshake.Step
	reached  handshake.Step
	messages string
	peer     string
	scheme   uint16
	tickets  int
}

// FuzzRecutFlights: a client's flights cut into records of any sizes, split or
// put together, padded or with ChangeCipherSpec in front, lead to the same
// verdict, the same ledger and the same tickets as the flights as they were. A
// flight with a fault in it may end the handshake or not; but nobody has a
// session without the verdict, or with another peer, and who is refused has no
// ticket.
func FuzzRecutFlights(f *testing.F) {
	x := handshaketest.Fixtures()
	p := func(ledger handshake.LedgerMode) *handshake.ServerParams {
		return ticketParams(ticket.NewKeys(0), func(p *handshake.ServerParams) {
			p.ClientAuth, p.Ledger = handshake.ClientAuthOptional, ledger
			p.Profile.Signatures = []uint16{uint16(tls.ECDSAWithP256AndSHA256)}
		})
	}
	clients := []*testpki.Cert{
		x.Client,
		testpki.Must(x.CA.Issue(testpki.Leaf{CN: "bob", Key: testpki.RSA2048})), // a scheme outside the profile
		testpki.Must(x.CA.Expired(testpki.Leaf{CN: "carol"})),
		nil,
	}
	type kind struct {
		who     int
		version uint16
		brief   bool
	}
	try := func(t *testing.T, k kind, recut func(*net.TCPConn, *tls.Config) net.Conn) (got recutOutcome, asked, proven bool, o outcome) {
		config := clientConfig(k.version)
		if c := clients[k.who]; c != nil {
			config = clientConfig(k.version, c.TLS())
		}
		cache := newCounted()
		config.ClientSessionCache = cache
		ledger := handshake.LedgerFull
		if k.brief {
			ledger = handshake.LedgerSteps
		}
		var calls atomic.Int32
		check := func(*handshake.Peer, *handshake.State) error { calls.Add(1); return nil }
		o = handshakeWith(t, p(ledger), check, func(c *net.TCPConn) {
			_ = goClient(config, nil)(recut(c, config))
		})
		got = recutOutcome{reached: o.l.Reached(), messages: strings.Join(story(o.l), ";"), tickets: cache.count()}
		if o.err != nil {
			got.reason, got.step = string(o.err.Reason), o.err.Step
		} else if o.s.Peer != nil {
			got.peer, got.scheme, proven = o.s.Peer.Leaf().Subject.String(), o.s.Peer.SignatureScheme, o.s.Peer.Proven
		}
		return got, calls.Load() > 0, proven, o
	}
	wants := map[kind]recutOutcome{}
	for who := range clients {
		for _, version := range bothVersions {
			for _, brief := range []bool{false, true} {
				k := kind{who, version, brief}
				f.Add(uint8(who), version == tls.VersionTLS13, brief, uint8(cutOnly), []byte{40, 0, 3, 100})
				for mode := range cutModes {
					f.Add(uint8(who), version == tls.VersionTLS13, brief, uint8(mode), []byte{60})
				}
				wants[k] = recutOutcome{step: 255}
			}
		}
	}
	f.Add(uint8(0), true, false, uint8(cutOnly), []byte{0})   // a byte a record
	f.Add(uint8(0), false, false, uint8(cutOnly), []byte{0})  //
	f.Add(uint8(1), true, true, uint8(cutOnly), []byte{255})  // all in one
	f.Add(uint8(1), false, true, uint8(cutOnly), []byte{255}) //
	f.Fuzz(func(t *testing.T, who uint8, v13, brief bool, mode uint8, sizes []byte) {
		k := kind{int(who) % len(clients), tls.VersionTLS12, brief}
		if v13 {
			k.version = tls.VersionTLS13
		}
		want := wants[k]
		if want.step == 255 {
			want, _, _, _ = try(t, k, func(c *net.TCPConn, _ *tls.Config) net.Conn { return c })
			wants[k] = want
		}
		m := int(mode) % cutModes
		if len(sizes) > 64 {
			sizes = sizes[:64]
		}
		got, asked, proven, o := try(t, k, func(c *net.TCPConn, config *tls.Config) net.Conn {
			tp := newTap(handshake.NewLedger(time.Now()), false)
			config.KeyLogWriter = tp
			return &recutter{TCPConn: c, keys: tp, sizes: sizes, mode: m}
		})
		if m <= cutPadded || m == cutCCS {
			if got != want {
				t.Errorf("%+v, mode %d, cut at %d:\n%+v, want\n%+v\n%v", k, m, sizes, got, want, o.err)
			}
			return
		}
		switch {
		case o.err != nil && got.tickets != 0:
			t.Errorf("%+v, mode %d, cut at %d: refused (%v), and %d tickets", k, m, sizes, o.err, got.tickets)
		case o.err == nil && (!asked || want.reason != "" || got.peer != want.peer || got.scheme != want.scheme || (got.peer != "") != proven || got.reached != want.reached || strings.Contains(facts(o.l), "incomplete")):
			t.Errorf("%+v, mode %d, cut at %d: let in as %+v, asked %v, proven %v, want %+v", k, m, sizes, got, asked, proven, want)
		}
	})
}
