package handshake

import (
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sslgate/sslgate/internal/work"
)

// Entry is one line of the ledger: one handshake message, alert, or decision
// of ours, in the order it happened.
type Entry struct {
	Step Step
	// From is SideUs or SidePeer: who sent the message. Decisions of ours
	// (steps 3 and 6) have SideUs and no Message. What is only inferred of the
	// peer (step 3: it went on, so it accepted; step 4 of TLS 1.3: its key
	// share stood in the hello) has SidePeer and no Message.
	From Side
	// Message is the RFC's name: "ClientHello", "CertificateVerify",
	// "Alert"; "" for a decision.
	Message string
	// At is the time since the flow began.
	At time.Duration
	// Size of the handshake message in bytes, with its 4-byte header.
	Size int
	// Facts in short words for the picture and the record, for example
	// "TLS_AES_128_GCM_SHA256 X25519MLKEM768". May quote the peer: escape
	// where shown.
	Facts string
	// CANames are the distinguished names of acceptable CAs in a
	// CertificateRequest (RFC 4514 strings, at most maxCANames of them).
	CANames []string
	// Alert is set where Message is "Alert", else AlertNone.
	Alert Alert
}

// Ledger is the record of the nine steps of one leg. It is safe for one
// writer and many readers. The number of entries is bounded (MaxEntries): a
// peer that sends thousands of messages does not grow it. It never holds
// secrets or application data.
type Ledger struct {
	mu      sync.Mutex
	start   time.Time
	entries []Entry
	done    uint16 // bit n: step n is complete
	sent    Alert
	recv    Alert
	lost    int
	spent   work.Units
	engine  EngineKind
}

// MaxEntries bounds a ledger: a full TLS 1.3 handshake with HelloRetryRequest
// has 16 entries, so 64 leaves room for odd but legal ones; at about 100
// bytes each that is 6.4 KB a leg.
const MaxEntries = 64

// usualEntries are those of a TLS 1.3 handshake with a client certificate, and
// the alerts at its end: room that need not grow.
const usualEntries = 20

// MaxFacts bounds the facts of one entry, in bytes: one long subject fits.
const MaxFacts = 512

// NewLedger starts a ledger at the given time.
func NewLedger(start time.Time) *Ledger {
	return &Ledger{start: start, sent: AlertNone, recv: AlertNone}
}

// Note adds an entry. An At of 0 becomes the time since the flow began; facts
// are cut at 512 bytes. Entries over MaxEntries are counted by Lost, but
// their alert is still remembered.
func (l *Ledger) Note(e Entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e.At == 0 {
		e.At = time.Since(l.start)
	}
	if e.Message != MsgAlert {
		e.Alert = AlertNone
	} else if e.From == SideUs {
		l.sent = e.Alert
	} else {
		l.recv = e.Alert
	}
	if len(l.entries) >= MaxEntries {
		l.lost++
		return
	}
	e.Facts = Shortened(e.Facts, MaxFacts)
	if l.entries == nil {
		l.entries = make([]Entry, 0, usualEntries)
	}
	l.entries = append(l.entries, e)
}

// SetEngine notes which engine makes the handshake.
func (l *Ledger) SetEngine(k EngineKind) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.engine = k
}

// Engine is the engine that made the handshake, if one was made.
func (l *Ledger) Engine() EngineKind {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.engine
}

// Spend adds to what this leg has made us compute.
func (l *Ledger) Spend(u work.Units) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.spent += u
}

// Spent is what this leg has made us compute so far.
func (l *Ledger) Spent() work.Units {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.spent
}

// Decide adds a decision of ours and completes its step.
func (l *Ledger) Decide(step Step, facts string) {
	l.Note(Entry{Step: step, From: SideUs, Facts: facts})
	l.Complete(step)
}

// NoteHello adds the client's hello. Who read it before the engine runs
// (Peek) calls this at once, so that its time is right and a flow refused at
// step 1 has it; the engine does not add it a second time.
func (l *Ledger) NoteHello(h *ClientHello) {
	l.Note(Entry{Step: StepClientHello, From: SidePeer, Message: MsgClientHello, Size: len(h.Raw), Facts: h.Summary()})
	l.Complete(StepClientHello)
}

// NoteAlert adds an alert that somebody else than the engine sent or read.
func (l *Ledger) NoteAlert(step Step, from Side, a Alert) {
	l.Note(Entry{Step: step, From: from, Message: MsgAlert, Alert: a, Facts: a.String(), Size: 2})
}

// Compact frees the room for entries that are not there: a flow that is relayed
// may keep its ledger for days, and few are added.
func (l *Ledger) Compact() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if cap(l.entries)-len(l.entries) > usualEntries/4 {
		l.entries = slices.Clone(l.entries)
	}
}

// Final returns the entries of a ledger to which no more are added, in the order
// things happened.
func (l *Ledger) Final() []Entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.entries[:len(l.entries):len(l.entries)]
}

// Entries returns a copy, in the order things happened.
func (l *Ledger) Entries() []Entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.entries)
}

// Reached is the highest step such that it and every step before it were
// completed. TLS 1.3 sends some messages of later steps early (the server's
// Finished, step 8, before step 5); they do not count before their turn.
func (l *Ledger) Reached() Step {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := StepNone
	for s < StepApplicationData && l.done&(1<<(s+1)) != 0 {
		s++
	}
	return s
}

// AlertSent is the last alert that really left towards the peer; AlertNone if none did.
// The close_notify of an orderly end is not noted.
func (l *Ledger) AlertSent() Alert {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sent
}

// AlertReceived is the last alert the peer sent, AlertNone if none came.
func (l *Ledger) AlertReceived() Alert {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.recv
}

// Lost counts the entries that did not fit.
func (l *Ledger) Lost() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lost
}

// Start is the time the flow began, to which every At refers.
func (l *Ledger) Start() time.Time { return l.start }

// CANames returns the acceptable CA names of the CertificateRequest, nil if
// there was none.
func (l *Ledger) CANames() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.entries {
		if e.Message == MsgCertificateRequest {
			return slices.Clone(e.CANames)
		}
	}
	return nil
}

// Complete marks steps as completed.
func (l *Ledger) Complete(steps ...Step) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range steps {
		l.done |= 1 << s
	}
}

// HasHello says whether the client's hello was noted already.
func (l *Ledger) HasHello() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(l.entries, func(e Entry) bool { return e.Message == MsgClientHello })
}

// Shortened cuts s to at most n bytes and shows that it did.
func Shortened(s string, n int) string {
	if len(s) <= n {
		return s
	}
	const mark = "..."
	return strings.ToValidUTF8(s[:n-len(mark)], "") + mark
}
