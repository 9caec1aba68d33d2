package native

import (
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/handshake/native/keys"
	"github.com/sslgate/sslgate/handshake/native/record"
	"github.com/sslgate/sslgate/handshake/native/wire"
)

const (
	// maxMessage bounds a handshake message of a client behind the handshake, in bytes:
	// it may send KeyUpdate alone. maxTicket bounds those of a destination, as crypto/tls
	// does.
	maxMessage = handshake.MessageHeader + 1
	maxTicket  = handshake.MessageHeader + 64<<10
	// maxUpdates bounds KeyUpdates and tickets without data between them, as many as
	// crypto/tls allows.
	maxUpdates = 16
	// heldFor is how long a ticket that may leave waits for something to go with: most
	// often the first answer takes it along.
	heldFor = 5 * time.Millisecond
	// lastTimeout bounds the writing of the handshake's end in TLS 1.2: the peer has just
	// read all that came before, so there is room for it.
	lastTimeout = 5 * time.Second
	// closeTimeout bounds the close_notify of Close, where the peer reads nothing.
	closeTimeout = time.Second
)

var (
	// errNotGranted is what a write gets before Session.Grant.
	errNotGranted = errors.New("handshake: written before the client was let in")
	errClosed     = errors.New("handshake: written after our end")
)

// conn is step 9: application data, and an end that is told exactly.
type conn struct {
	net.Conn // below TLS
	ledger   *handshake.Ledger

	readMu  sync.Mutex
	in      *record.Reader
	inbox   inbox
	traffic *keys.Traffic // the peer's epoch; nil in TLS 1.2, whose keys never change
	tickets bool          // it may send some: it is a destination
	rest    []byte        // of the last record, in the reader's buffer
	updates int           // in a row
	failed  error         // how the reading ended, for every later Read
	before  int           // records of the handshake
	asked   int           // answers to KeyUpdates that were asked for

	answer atomic.Bool   // a KeyUpdate of ours is asked for
	breach atomic.Uint32 // the alert for what the peer did against the protocol, and 1; 0: nothing

	writeMu sync.Mutex
	out     *record.Writer
	granted bool
	brief   bool      // LedgerSteps
	ticket  []byte    // NewSessionTicket that has not left
	last    *ending12 // what of the handshake has not left
	timer   *time.Timer
	err     error // no more is written
}

func newConn(g *leg) *conn {
	c := &conn{Conn: g.conn, ledger: g.ledger, in: g.in, inbox: g.inbox, traffic: g.waiting, out: g.out, brief: g.brief}
	c.inbox.step = handshake.StepApplicationData
	c.before = c.in.Records
	c.in.Trim()
	return c
}

// Read returns io.EOF only after a close_notify, ErrNoCloseNotify or ErrTruncated after
// a FIN without one, *AlertError after an alert of the peer. It waits for one record, and
// takes as many more as are there already and have room in b. A record that fits is opened
// in b.
func (c *conn) Read(b []byte) (int, error) {
	c.readMu.Lock()
	defer c.readMu.Unlock()
	if len(b) == 0 {
		return 0, nil
	}
	n, most := 0, c.in.Records+handshake.RecordsAtOnce
	for n < len(b) {
		if len(c.rest) == 0 {
			if n > 0 && (c.failed != nil || c.in.Records >= most || !c.in.Buffered()) {
				break
			}
			if c.failed != nil {
				return 0, c.failed
			}
			if err := c.more(b[n:]); err != nil {
				if err = c.told(err); n > 0 {
					break // the next Read returns it
				}
				return 0, err
			}
			continue
		}
		k := copy(b[n:], c.rest) // nothing is copied where it stands there
		c.rest = c.rest[k:]
		n += k
	}
	if len(c.rest) == 0 {
		c.rest = nil // it may be a piece of b, which the caller lends to others
		c.in.Trim()
	}
	return n, nil
}

// Received says how many records have come, and how many answers to KeyUpdates they cost.
func (c *conn) Received() (records, answers int) { return c.in.Records - c.before, c.asked }

// WaitRead waits until Read will return something: the rest of a record, the next one,
// an end or an error. It is for callers that hold no buffer meanwhile.
func (c *conn) WaitRead() {
	c.readMu.Lock()
	defer c.readMu.Unlock()
	if c.failed == nil && len(c.rest) == 0 {
		c.in.Await()
	}
}

// more takes the next record, in b where that has room for it. rest may be empty behind it.
func (c *conn) more(b []byte) error {
	typ, content, err := c.in.NextInto(b)
	if err != nil {
		return err
	}
	if typ != handshake.RecordAppData {
		if err := c.inbox.put(typ, content); err != nil {
			return err
		}
		return c.messages()
	}
	if err := c.inbox.changeKeys(); err != nil { // section 5.1: nothing stands inside a message
		return err
	}
	if c.rest = content; len(content) > 0 {
		c.updates, c.inbox.warning = 0, 0
	}
	return nil
}

// messages takes what a peer may send behind the handshake: KeyUpdate (RFC 8446, section
// 4.6.3), and a destination NewSessionTicket (section 4.6.1), which nobody keeps.
func (c *conn) messages() error {
	if c.inbox.v12 {
		return c.inbox.nothing12()
	}
	most := maxMessage
	if c.tickets {
		most = maxTicket
	}
	for {
		msg, err := c.inbox.take(most)
		var large *tooLarge
		switch {
		case errors.As(err, &large) && (large.typ == handshake.TypeKeyUpdate || c.tickets && large.typ == handshake.TypeNewSessionTicket):
			return &wire.Error{Message: handshake.MessageName(large.typ), Alert: handshake.AlertDecodeError, Detail: large.Error()}
		case errors.As(err, &large):
			return unexpected("%s behind the handshake", large)
		case err != nil:
			return err
		case msg == nil:
			return nil
		}
		if c.updates++; c.updates > maxUpdates {
			return unexpected("%d messages in a row that carry no data", c.updates)
		}
		if c.tickets && msg[0] == handshake.TypeNewSessionTicket {
			if _, err := wire.ParseNewSessionTicket(msg); err != nil {
				return err
			}
			continue
		}
		if err := c.newKeys(msg); err != nil {
			return err
		}
	}
}

// newKeys obeys a KeyUpdate.
func (c *conn) newKeys(msg []byte) error {
	m, err := wire.ParseKeyUpdate(msg)
	if err != nil {
		return err
	}
	if err := c.inbox.changeKeys(); err != nil {
		return err
	}
	c.traffic = c.traffic.Next()
	c.in.SetKeys(c.traffic)
	if m.Requested && !c.answer.Swap(true) {
		c.asked++
	}
	return nil
}

// grant is Session.Grant.
func (c *conn) grant() {
	c.writeMu.Lock()
	defer c.release()
	if c.granted {
		return
	}
	c.granted = true
	switch {
	case c.err != nil:
	case c.last != nil: // the peer waits for it
		last := c.last
		_ = c.Conn.SetWriteDeadline(time.Now().Add(lastTimeout))
		err := c.ready()
		if err == nil {
			err = c.out.Flush()
		}
		if err != nil { // the peer never gets our Finished: its handshake has not ended
			c.err = err
			_ = c.Conn.Close()
			return
		}
		_ = c.Conn.SetWriteDeadline(time.Time{})
		last.left(c.ledger)
	case c.ticket != nil:
		if !c.brief {
			c.ledger.Note(entryOf(handshake.StepApplicationData, handshake.SideUs, c.ticket, ""))
		}
		c.timer = time.AfterFunc(heldFor, func() { _, _ = c.Write(nil) }) // the same
	}
}

// CloseWrite sends close_notify, and FIN after it where the connection below can be
// half-closed. Reading goes on. It waits while the peer takes nothing of what was written
// before, as Write does.
func (c *conn) CloseWrite() error {
	c.writeMu.Lock()
	defer c.release()
	return handshake.EndBelow(c.Conn, c.notify)
}

// notify sends close_notify, once.
func (c *conn) notify() error {
	if errors.Is(c.err, errClosed) {
		return nil
	}
	if err := c.ready(); err != nil {
		return err
	}
	c.err = errClosed
	if err := c.out.Add(handshake.RecordAlert, []byte{handshake.AlertCloseNotify.Level(), byte(handshake.AlertCloseNotify)}); err != nil {
		return err
	}
	return c.out.Flush()
}

// CloseWriteBare sends a FIN without close_notify: the peer learns that nothing more
// comes, and not that this was all. Reading goes on.
func (c *conn) CloseWriteBare() error {
	c.writeMu.Lock()
	defer c.release()
	err := handshake.CloseWriteBelow(c.Conn)
	if err == nil && c.err == nil {
		c.err = errClosed
	}
	return err
}

// Close sends close_notify, unless a write waits, and closes the connection below. It
// gives back what was lent, so it is due after a reset too.
func (c *conn) Close() error {
	alone := c.writeMu.TryLock()
	if alone || c.breach.Load() != 0 { // a write under way owes the peer an alert then
		_ = c.Conn.SetWriteDeadline(time.Now().Add(closeTimeout))
		if !alone {
			c.writeMu.Lock()
		}
		_ = c.notify()
		c.writeMu.Unlock()
	}
	err := c.Conn.Close()
	c.writeMu.Lock() // a Write under way has ended with the connection
	if c.timer != nil {
		c.timer.Stop()
	}
	c.out.End(net.ErrClosed)
	c.err = net.ErrClosed
	if c.last != nil {
		c.last.traffic.Clear()
		c.last = nil
	}
	c.writeMu.Unlock()
	c.readMu.Lock()
	defer c.readMu.Unlock()
	if c.failed == nil {
		c.failed = net.ErrClosed
	}
	c.rest = nil
	c.in.Release()
	c.forget()
	return err
}

// NetConn returns the connection below TLS, as it was handed to the engine.
func (c *conn) NetConn() net.Conn { return c.Conn }

var (
	_ handshake.Conn       = (*conn)(nil)
	_ handshake.BareCloser = (*conn)(nil)
	_ handshake.ReadWaiter = (*conn)(nil)
	_ handshake.Wrapper    = (*conn)(nil)

	_ handshake.RecordCounter = (*conn)(nil)
)
