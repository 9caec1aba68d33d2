package gateway

import (
	"net/netip"
	"sync"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/reason"
	"github.com/sslgate/sslgate/policy"
)

// Live is a flow that is on its walk. Its methods may be called by anyone at
// any time.
type Live struct {
	ID                  string
	Start               time.Time
	Client, Destination netip.AddrPort

	fl *flow

	mu      sync.Mutex
	hello   *handshake.ClientHello // once it was read
	rule    string                 // of the hello
	action  policy.Action          // of that rule
	dest    *handshake.Ledger      // of the handshake with the destination, while it lasts
	reached leg                    // what it was, afterwards
	tlsRead int                    // bytes of the hello that crypto/tls has read
	relay   *relay                 // while data flows
	granted *granted
	ended   reason.Code // End was called before there was a relay
	cancel  func()      // ends what the flow waits for
}

// leg is a ledger that is complete.
type leg struct {
	entries []handshake.Entry
	lost    int
}

// granted is what a flow was let through with: enough to decide it anew.
type granted struct {
	verdict policy.Verdict // the last one
	facts   policy.Facts   // as they were verified for it
	found   policy.Facts   // as the flow found them; what verdicts are made from
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
	// Of both handshakes, and how many entries had no room; only from Status.
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

// Brief is Status without the ledgers: cheap enough to ask of every flow.
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

// Granted returns the facts and the verdict that the flow was let through
// with; false while it is not decided yet.
func (l *Live) Granted() (policy.Facts, policy.Verdict, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.granted == nil {
		return policy.Facts{}, policy.Verdict{}, false
	}
	return l.granted.facts, l.granted.verdict, true
}

// Found returns the facts that the flow found, to decide it anew; false while
// it is not decided yet. Those of Granted have only what the last decision asked
// for, verified by its authorities.
func (l *Live) Found() (policy.Facts, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.granted == nil {
		return policy.Facts{}, false
	}
	return l.granted.found, true
}

// DestinationPeer is whom a flow that was let through has reached, proven; nil
// while there is none, or where the rule asks for no TLS.
func (l *Live) DestinationPeer() *handshake.Peer {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.granted == nil || l.granted.found.Upstream == nil {
		return nil
	}
	return l.granted.found.Upstream.Peer
}

// End ends the flow with a RST to both sides; code stands in its record as
// its end.
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

// waits notes what ends the waiting of a flow that has no relay yet: for a
// destination, a responder, its turn.
func (l *Live) waits(cancel func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cancel = cancel
}

// picked notes the rule that the client's hello leads to.
func (l *Live) picked(h *handshake.ClientHello, v policy.Verdict) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hello, l.rule, l.action = h, v.Rule, v.Action
}

// reaching notes that the handshake with the destination begins, and done that
// it has ended and what is left of its ledger.
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

// compact puts a smaller hello in the place of the one that was read, wherever it
// is kept: the client has chosen how large that one is.
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

// grant notes what the flow was let through with.
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

// Regrant notes that the flow was decided anew and goes on: by which verdict,
// and with which facts of policy.Decision. Nothing happens where it was not
// granted.
func (l *Live) Regrant(v policy.Verdict, f policy.Facts) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.granted != nil {
		f.Hello = l.granted.found.Hello // which may have become smaller since f was asked for
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

// relaying notes that data flows from now on; a code means that somebody has
// ended the flow already.
func (l *Live) relaying(r *relay) reason.Code {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.relay = r
	return l.ended
}

// ending says whether somebody has ended the flow, which takes its time.
func (l *Live) ending() bool {
	l.mu.Lock()
	r, ended := l.relay, l.ended != ""
	l.mu.Unlock()
	return ended || r != nil && r.ended()
}

// endedBy is the code of an End that came before data flowed.
func (l *Live) endedBy() reason.Code {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ended
}
