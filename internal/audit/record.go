package audit

import (
	"net/netip"
	"time"

	"go.uber.org/zap/zapcore"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/escape"
	"github.com/sslgate/sslgate/internal/reason"
)

// Record is everything that is kept of one flow. Strings from a peer are stored
// unchanged; they are escaped and cut when the record is written.
type Record struct {
	ID string
	// Seq is the number of the record among those of its process, from 1; 0 until a log that was
	// started has it. A log that loses a record has used its number up.
	Seq         uint64
	Start       time.Time
	Client      netip.AddrPort
	Destination netip.AddrPort
	Direction   Direction
	SNI         string
	ALPN        []string // offered by the client
	// Hello is what the client offered, perhaps compact; nil where no hello was read.
	Hello *handshake.ClientHello

	Policy string // digest of the policy set
	CRLs   string // digest of the revocation lists in force; "" without a check
	Rule   string
	// RuleDigest is that of the rule the flow came to last, with the sets that it names; ""
	// where no rule let it go on.
	RuleDigest string
	Action     string // terminate, bypass, deny

	Reason reason.Code
	Detail string
	Step   handshake.Step // the highest step that was reached

	AlertWanted   handshake.Alert
	AlertSent     handshake.Alert
	AlertReceived handshake.Alert

	ClientLeg      *handshake.State
	Plaintext      bool   // the client's leg is without TLS, as its rule has it (action originate)
	Upgrade        string // what the client has asked for TLS by; "" for TLS from the first byte, or nothing
	DestUpgrade    string // what the destination was asked for TLS by
	DestinationLeg *handshake.State
	Dialed         netip.AddrPort
	DialedFrom     netip.AddrPort  // set where it is the client's address
	Peer           *handshake.Peer // the client's certificate, proven or claimed
	DestPeer       *handshake.Peer
	Shadow         *Shadow     // what a shadow policy says, if it differs; nil if it agrees
	Would          *Would      // what an observed rule or policy would have refused; nil for nothing
	Seen           *Seen       // of a bypassed flow, read as it went by; nil for nothing
	Revocation     *Revocation // of the client's certificate; nil if nothing was checked

	Engine     handshake.EngineKind // that made the handshake with the client
	DestEngine handshake.EngineKind
	Ledger     []handshake.Entry
	DestLedger []handshake.Entry
	LedgerLost int // entries over handshake.MaxEntries, both legs

	BytesUp   int64 // from the client to the destination, without TLS
	BytesDown int64
	Setup     time.Duration // from the accepted connection until the first byte could be relayed
	Duration  time.Duration
	End       reason.Code // how a flow that was let through ended
	EndDetail string

	// Suppressed, in the record of a refused SYN, counts the refused SYNs without a record
	// of their own since the last one, because there were too many.
	Suppressed int64
	// SuppressedFlows, in the record of a refused flow, counts flows in the same way.
	// SuppressedClient counts both for this client alone, since its last record.
	SuppressedFlows, SuppressedClient int64
}

// Direction says whether one end of a flow is on this host: a program of it is the client
// (LocalOut), or a service of it the destination (LocalIn).
type Direction string

// The directions.
const (
	Forwarded Direction = ""
	LocalIn   Direction = "local_in"
	LocalOut  Direction = "local_out"
)

// NewRecord starts the record of a flow. Its reason is internal_error until a reason is
// known, so that no path can leave it empty.
func NewRecord(id string, start time.Time, client, destination netip.AddrPort) *Record {
	return &Record{
		ID: id, Start: start, Client: client, Destination: destination,
		Action: "deny", Reason: reason.Internal,
		AlertWanted: handshake.AlertNone, AlertSent: handshake.AlertNone, AlertReceived: handshake.AlertNone,
	}
}

// Verdict is "allowed", "refused" or "failed", by the kind of the reason.
func (r *Record) Verdict() string {
	e, ok := reason.Lookup(r.Reason)
	if !ok {
		return reason.Refused.String()
	}
	return e.Kind.String()
}

// MarshalLogObject writes the record with the stable field names that
// docs/audit.md lists. Fields without a value are left out.
func (r *Record) MarshalLogObject(enc zapcore.ObjectEncoder) error {
	str := func(key, v string) {
		if v != "" {
			enc.AddString(key, escape.String(v, 0))
		}
	}
	str("id", r.ID)
	if r.Seq > 0 {
		enc.AddUint64("seq", r.Seq)
	}
	enc.AddString("time", r.Start.UTC().Format("2006-01-02T15:04:05.000000Z07:00"))
	enc.AddString("client", r.Client.String())
	enc.AddString("destination", r.Destination.String())
	str("direction", string(r.Direction))
	str("sni", r.SNI)
	if len(r.ALPN) > 0 {
		if err := enc.AddArray("alpn_offered", stringArray(r.ALPN)); err != nil {
			return err
		}
	}
	if r.Hello != nil {
		if err := enc.AddObject("hello", offered{r.Hello}); err != nil {
			return err
		}
	}
	str("policy", r.Policy)
	str("crls", r.CRLs)
	str("rule", r.Rule)
	str("rule_digest", r.RuleDigest)
	str("action", r.Action)
	enc.AddString("verdict", r.Verdict())
	enc.AddString("reason", string(r.Reason))
	str("detail", r.Detail)
	r.Would.marshal(str)
	enc.AddUint8("step", uint8(r.Step))
	str("alert_wanted", r.AlertWanted.String())
	str("alert_sent", r.AlertSent.String())
	str("alert_received", r.AlertReceived.String())
	if r.Engine != handshake.EngineStd {
		enc.AddString("engine", r.Engine.String())
	}
	str("upgrade", r.Upgrade)
	var client zapcore.ObjectMarshaler
	switch {
	case r.ClientLeg != nil:
		client = leg{r.ClientLeg}
	case r.Plaintext:
		client = plaintext{}
	}
	if client != nil {
		if err := enc.AddObject("client_leg", client); err != nil {
			return err
		}
	}
	if r.Peer != nil {
		if err := enc.AddObject("peer", peer{r.Peer}); err != nil {
			return err
		}
	}
	if r.Shadow != nil {
		if err := enc.AddObject("shadow", r.Shadow); err != nil {
			return err
		}
	}
	if r.Revocation != nil {
		if err := enc.AddObject("revocation", r.Revocation); err != nil {
			return err
		}
	}
	if r.Dialed.IsValid() {
		enc.AddString("dialed", r.Dialed.String())
	}
	if r.DialedFrom.IsValid() {
		enc.AddString("dialed_from", r.DialedFrom.String())
	}
	str("destination_upgrade", r.DestUpgrade)
	if r.DestEngine != handshake.EngineStd {
		enc.AddString("destination_engine", r.DestEngine.String())
	}
	if r.DestinationLeg != nil {
		if err := enc.AddObject("destination_leg", leg{r.DestinationLeg}); err != nil {
			return err
		}
	}
	if r.DestPeer != nil {
		if err := enc.AddObject("destination_peer", peer{r.DestPeer}); err != nil {
			return err
		}
	}
	if r.Seen != nil {
		if err := enc.AddObject("seen", r.Seen); err != nil {
			return err
		}
	}
	if err := r.marshalEnd(enc, str); err != nil {
		return err
	}
	if len(r.Ledger) > 0 {
		if err := enc.AddArray("ledger", entries(r.Ledger)); err != nil {
			return err
		}
	}
	if len(r.DestLedger) > 0 {
		return enc.AddArray("destination_ledger", entries(r.DestLedger))
	}
	return nil
}

func (r *Record) marshalEnd(enc zapcore.ObjectEncoder, str func(key, v string)) error {
	enc.AddInt64("bytes_up", r.BytesUp)
	enc.AddInt64("bytes_down", r.BytesDown)
	if r.Setup >= time.Microsecond {
		enc.AddInt64("setup_us", r.Setup.Microseconds())
	}
	enc.AddInt64("duration_us", r.Duration.Microseconds())
	str("end", string(r.End))
	str("end_detail", r.EndDetail)
	if r.LedgerLost > 0 {
		enc.AddInt("ledger_lost", r.LedgerLost)
	}
	if r.Suppressed > 0 {
		enc.AddInt64("suppressed", r.Suppressed)
	}
	if r.SuppressedFlows > 0 {
		enc.AddInt64("suppressed_flows", r.SuppressedFlows)
	}
	if r.SuppressedClient > 0 {
		enc.AddInt64("suppressed_client", r.SuppressedClient)
	}
	return nil
}
