package handshake

import (
	"sync"
	"time"
)

// Entry is one line of the ledger: one handshake message, alert, or decision
// of ours, in the order it happened.
type Entry struct {
	Step Step
	// From is SideUs or SidePeer: who sent the message. Decisions of ours
	// (steps 3 and 6) have SideUs and no Message.
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
	// Alert is set where Message is "Alert", else AlertNone.
	Alert Alert
}

// Ledger is the record of the nine steps of one leg. It is safe for one
// writer and many readers. The number of entries is bounded (MaxEntries): a
// peer that sends thousands of messages does not grow it.
type Ledger struct {
	mu      sync.Mutex
	start   time.Time
	entries []Entry
	reached Step
	sent    Alert
	recv    Alert
	lost    int
}

// MaxEntries bounds a ledger: a full TLS 1.3 handshake with HelloRetryRequest
// has 16 entries, so 64 leaves room for odd but legal ones; at about 100
// bytes each that is 6.4 KB a leg.
const MaxEntries = 64

// NewLedger starts a ledger at the given time.
func NewLedger(start time.Time) *Ledger {
	return &Ledger{start: start, sent: AlertNone, recv: AlertNone}
}
