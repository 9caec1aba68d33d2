package gateway

import (
	"net/netip"
	"sync"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/reason"
	"github.com/sslgate/sslgate/policy"
)

// Live is a flow that has not ended. Its methods may be called by any goroutine at any
// time.
type Live struct {
	ID                  string
	Start               time.Time
	Client, Destination netip.AddrPort

	fl *flow

	mu      sync.Mutex
	hello   *handshake.ClientHello // once it was read
	rule    string                 // of the hello
	action  policy.Action          // of that rule
	dest    *handshake.Ledger      // of the handshake with the destination, while that lasts
	reached leg                    // the ledger of that handshake, afterwards
	tlsRead int                    // bytes of the hello that crypto/tls has read
	relay   *relay                 // while data flows
	granted *granted
	ended   reason.Code // End was called before there was a relay
	cancel  func()      // ends what the flow waits for
}

// leg is a ledger that is complete: its entries, and how many had no room.
type leg struct {
	entries []handshake.Entry
	lost    int
}

// granted is what a flow was let through with: enough to decide it again.
type granted struct {
	verdict policy.Verdict // the last one
	facts   policy.Facts   // as verified for that verdict
	found   policy.Facts   // as the flow found them; new verdicts are made from these
}

// Status is a flow as it stands at one moment.
type Status struct {
	ID                  string
	Start               time.Time
	Client, Destination netip.AddrPort
	SNI                 string
	Rule                string
	Reason              reason.Code // "" until it is let through
	Action              policy.Action
	Step                handshake.Step
	Peer                *handshake.Peer // proven; nil without certificate
	BytesUp, BytesDown  int64
	// Of both handshakes, and how many entries had no room. Only Live.Status sets these.
	Ledger, DestLedger         []handshake.Entry
	LedgerLost, DestLedgerLost int
}

// Status returns how far the flow has come.
func (l *Live) Status() Status {
	s := l.Brief()
	s.Ledger, s.LedgerLost = l.fl.ledger.Entries(), l.fl.ledger.Lost()
	l.mu.Lock()
	dest := l.dest
	s.DestLedger, s.DestLedgerLost = l.reached.entries, l.reached.lost
	l.mu.Unlock()
	if dest != nil {
		s.DestLedger, s.DestLedgerLost = dest.Entries(), dest.Lost()
	}
	return s
}

// Relaying says whether data flows already.
func (l *Live) Relaying() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.relay != nil
}

// Step is the step the client's leg has reached.
func (l *Live) Step() handshake.Step { return l.fl.ledger.Reached() }

// Brief is Status without the ledgers: cheap enough to call for every flow.
func (l *Live) Brief() Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := Status{
		ID: l.ID, Start: l.Start, Client: l.Client, Destination: l.Destination,
		Step: l.fl.ledger.Reached(), Rule: l.rule, Action: l.action,
	}
	if l.hello != nil {
		s.SNI = l.hello.ServerName
	}
	if g := l.granted; g != nil {
		s.Rule, s.Reason, s.Action, s.Peer = g.verdict.Rule, g.verdict.Reason, g.verdict.Action, g.facts.Peer
	}
	if l.relay != nil {
		s.BytesUp, s.BytesDown = l.relay.up.moved.Load(), l.relay.down.moved.Load()
	}
	return s
}

// Granted returns the facts and the verdict that the flow was let through with; false
// if it is not decided yet.
func (l *Live) Granted() (policy.Facts, policy.Verdict, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.granted == nil {
		return policy.Facts{}, policy.Verdict{}, false
	}
	return l.granted.facts, l.granted.verdict, true
}

// Found returns the facts as the flow found them, to decide it again; false if it is not
// decided yet. The facts of Granted are not enough: they have only what the last decision
// asked for, verified by the authorities of that decision.
func (l *Live) Found() (policy.Facts, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.granted == nil {
		return policy.Facts{}, false
	}
	return l.granted.found, true
}

// DestinationPeer is the proven peer that a granted flow has reached; nil while there is
// none, or if the rule asks for no TLS.
func (l *Live) DestinationPeer() *handshake.Peer {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.granted == nil || l.granted.found.Upstream == nil {
		return nil
	}
	return l.granted.found.Upstream.Peer
}

// End ends the flow with a RST to both sides. code becomes the end in its record.
func (l *Live) End(code reason.Code) {
	l.mu.Lock()
	r := l.relay
	if r == nil && l.ended == "" {
		l.ended = code
	}
	cancel := l.cancel
	l.mu.Unlock()
	if r != nil {
		r.fail(code)
		return
	}
	l.fl.client.Reset()
	if cancel != nil {
		cancel()
	}
}

// waits stores the function that ends a wait of a flow without a relay: for a destination,
// a responder or its turn.
func (l *Live) waits(cancel func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cancel = cancel
}

// picked stores the rule that the client's hello leads to.
func (l *Live) picked(h *handshake.ClientHello, v policy.Verdict) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hello, l.rule, l.action = h, v.Rule, v.Action
}

// reaching notes that the handshake with the destination begins. done notes that it has
// ended, and keeps its final ledger.
func (l *Live) reaching(dest *handshake.Ledger) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dest = dest
}

func (l *Live) done(entries []handshake.Entry, lost int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dest, l.reached = nil, leg{entries, lost}
}

// compact replaces the hello that was read by a smaller one wherever it is kept, because
// the client has chosen the size of the original.
func (l *Live) compact(h *handshake.ClientHello) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.action == policy.Terminate {
		l.tlsRead = len(l.hello.Raw)
	}
	l.hello = h
	if l.granted != nil {
		l.granted.facts.Hello, l.granted.found.Hello = h, h
	}
}

// grant stores what the flow was let through with.
func (l *Live) grant(v policy.Verdict, f policy.Facts) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.granted = &granted{v, f, f}
}

// takeBack undoes grant.
func (l *Live) takeBack() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.granted = nil
}

// Regrant stores the verdict and the facts (of policy.Decision) of a flow that was decided
// again and goes on. It does nothing if the flow was not granted.
func (l *Live) Regrant(v policy.Verdict, f policy.Facts) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.granted != nil {
		f.Hello = l.granted.found.Hello // f may have been taken before the hello was compacted
		l.granted.verdict, l.granted.facts = v, f
	}
}

// connected adds the connection with the destination to the facts.
func (l *Live) connected(up *policy.Upstream) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.granted != nil {
		l.granted.facts.Upstream, l.granted.found.Upstream = up, up
	}
}

// relaying notes that data flows from now on. A code means that End was called before.
func (l *Live) relaying(r *relay) reason.Code {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.relay = r
	return l.ended
}

// ending says whether the flow was told to end; the end itself takes some time.
func (l *Live) ending() bool {
	l.mu.Lock()
	r, ended := l.relay, l.ended != ""
	l.mu.Unlock()
	return ended || r != nil && r.ended()
}

// stops notes that the gateway has ended a flow that was let through, before data flowed.
func (l *Live) stops() {
	if _, _, granted := l.Granted(); granted {
		l.ends(reason.EndDrain)
	}
}

// ends notes why the flow ended before data flowed, unless that is known.
func (l *Live) ends(code reason.Code) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended == "" {
		l.ended = code
	}
}

// endedBy is the code of an End that was called before data flowed.
func (l *Live) endedBy() reason.Code {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ended
}
