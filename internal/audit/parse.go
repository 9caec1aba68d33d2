package audit

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/escape"
)

// Parsed is a record as it stands in the file; docs/audit.md describes its fields. Strings
// from a peer are escaped in it already. Alerts are names with numbers, "unknown_ca(48)", ""
// for none. Fields of later versions are ignored.
type Parsed struct {
	Msg         string   `json:"msg,omitempty"`
	ID          string   `json:"id,omitempty"`
	Seq         uint64   `json:"seq,omitempty"`
	Time        string   `json:"time,omitempty"` // RFC 3339, with microseconds
	Client      string   `json:"client,omitempty"`
	Destination string   `json:"destination,omitempty"`
	Direction   string   `json:"direction,omitempty"` // local_in, local_out
	SNI         string   `json:"sni,omitempty"`
	ALPN        []string `json:"alpn_offered,omitempty"`

	Hello *ParsedHello `json:"hello,omitempty"`

	Policy     string `json:"policy,omitempty"`
	CRLs       string `json:"crls,omitempty"`
	Rule       string `json:"rule,omitempty"`
	RuleDigest string `json:"rule_digest,omitempty"`
	Action     string `json:"action,omitempty"`
	Verdict    string `json:"verdict,omitempty"`
	Reason     string `json:"reason,omitempty"`
	Detail     string `json:"detail,omitempty"`
	Step       int    `json:"step"`

	Would       string `json:"would,omitempty"`
	WouldRule   string `json:"would_rule,omitempty"`
	WouldReason string `json:"would_reason,omitempty"`
	WouldDetail string `json:"would_detail,omitempty"`
	WouldAlert  string `json:"would_alert,omitempty"`

	AlertWanted   string `json:"alert_wanted,omitempty"`
	AlertSent     string `json:"alert_sent,omitempty"`
	AlertReceived string `json:"alert_received,omitempty"`

	Engine          string            `json:"engine,omitempty"`
	Upgrade         string            `json:"upgrade,omitempty"`
	ClientLeg       *ParsedLeg        `json:"client_leg,omitempty"`
	Peer            *ParsedPeer       `json:"peer,omitempty"`
	Shadow          *ParsedShadow     `json:"shadow,omitempty"`
	Revocation      *ParsedRevocation `json:"revocation,omitempty"`
	Dialed          string            `json:"dialed,omitempty"`
	DialedFrom      string            `json:"dialed_from,omitempty"`
	DestUpgrade     string            `json:"destination_upgrade,omitempty"`
	DestEngine      string            `json:"destination_engine,omitempty"`
	DestinationLeg  *ParsedLeg        `json:"destination_leg,omitempty"`
	DestinationPeer *ParsedPeer       `json:"destination_peer,omitempty"`

	Seen *ParsedSeen `json:"seen,omitempty"`

	BytesUp          int64  `json:"bytes_up"`
	BytesDown        int64  `json:"bytes_down"`
	Setup            int64  `json:"setup_us,omitempty"`
	Duration         int64  `json:"duration_us"`
	End              string `json:"end,omitempty"`
	EndDetail        string `json:"end_detail,omitempty"`
	LedgerLost       int    `json:"ledger_lost,omitempty"`
	Suppressed       int64  `json:"suppressed,omitempty"`
	SuppressedFlows  int64  `json:"suppressed_flows,omitempty"`
	SuppressedClient int64  `json:"suppressed_client,omitempty"`

	Ledger            []ParsedEntry `json:"ledger,omitempty"`
	DestinationLedger []ParsedEntry `json:"destination_ledger,omitempty"`
}

// ParsedLeg is what the two sides of a leg agreed on.
type ParsedLeg struct {
	Version    string `json:"version"` // "plaintext" without TLS
	Suite      string `json:"suite,omitempty"`
	Group      string `json:"group,omitempty"`
	ALPN       string `json:"alpn,omitempty"`
	ServerName string `json:"server_name,omitempty"`
	HelloRetry bool   `json:"hello_retry,omitempty"`
	Resumed    bool   `json:"resumed,omitempty"`
}

// ParsedPeer is a peer's certificate. Unless Proven it is only a claim.
type ParsedPeer struct {
	Proven    bool     `json:"proven"`
	Subject   string   `json:"subject"`
	Issuer    string   `json:"issuer,omitempty"`
	Serial    string   `json:"serial,omitempty"`
	SANs      []string `json:"sans,omitempty"`
	SPKI      string   `json:"spki,omitempty"`
	Key       string   `json:"key,omitempty"`
	NotBefore string   `json:"not_before,omitempty"`
	NotAfter  string   `json:"not_after,omitempty"`
	Authority string   `json:"authority,omitempty"`
	Signature string   `json:"signature,omitempty"`
}

// ParsedRevocation is what was known of a certificate's revocation.
type ParsedRevocation struct {
	Status string `json:"status"`
	Mode   string `json:"mode"`
	Source string `json:"source,omitempty"`
	Until  string `json:"until,omitempty"`
	Detail string `json:"detail,omitempty"`
}

// ParsedShadow is what a shadow policy said.
type ParsedShadow struct {
	Kind   string `json:"kind"`
	Policy string `json:"policy"`
	Action string `json:"action"`
	Rule   string `json:"rule,omitempty"`
	Reason string `json:"reason,omitempty"`
	Detail string `json:"detail,omitempty"`
}

// ParsedEntry is an entry of a ledger.
type ParsedEntry struct {
	Step    uint8  `json:"step"`
	From    string `json:"from"`
	Message string `json:"message,omitempty"`
	AtUs    int64  `json:"at_us"`
	Size    int    `json:"size,omitempty"`
	Facts   string `json:"facts,omitempty"`
	Alert   string `json:"alert,omitempty"`
}

// Parse parses one line of an audit log. The error gives the column at which it is no
// record.
func Parse(line []byte) (*Parsed, error) {
	var r Parsed
	err := json.Unmarshal(line, &r)
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case err == nil:
		return &r, nil
	case errors.As(err, &syntax):
		return nil, fmt.Errorf("column %d: %w", syntax.Offset, err)
	case errors.As(err, &kind):
		if kind.Field == "" {
			return nil, fmt.Errorf("column %d: the line is no object", kind.Offset)
		}
		return nil, fmt.Errorf("column %d: field %s is no %s", kind.Offset, kind.Field, kind.Type)
	}
	return nil, fmt.Errorf("column 1: %w", err)
}

// Offered returns the application protocols as the client sent them, as far as the record has
// them. GREASE values (RFC 8701) are no text; the record has them escaped.
func (p *Parsed) Offered() []string {
	var all []string
	for i, s := range p.ALPN {
		if i == maxNames && strings.HasPrefix(s, "... ") {
			break // says how many more there were
		}
		all = append(all, escape.Original(s))
	}
	return all
}

// WholeALPN says whether Offered is all that the client sent, and whole.
func (p *Parsed) WholeALPN() bool {
	return len(p.ALPN) <= maxNames && !slices.ContainsFunc(p.ALPN, func(s string) bool { return len(s) >= escape.MaxString })
}

// Entry returns the entry in the form of package handshake.
func (p *ParsedEntry) Entry() handshake.Entry {
	e := handshake.Entry{
		Step: handshake.Step(p.Step), Message: p.Message, At: time.Duration(p.AtUs) * time.Microsecond,
		Size: p.Size, Facts: p.Facts, Alert: ParseAlert(p.Alert),
	}
	if p.From == handshake.SidePeer.String() {
		e.From = handshake.SidePeer
	}
	return e
}

// ParseAlert returns the alert of a text in a record; AlertNone for "" and for any text that
// is no alert.
func ParseAlert(s string) handshake.Alert {
	_, num, ok := strings.Cut(strings.TrimSuffix(s, ")"), "(")
	n, err := strconv.ParseUint(num, 10, 8)
	if !ok || err != nil {
		return handshake.AlertNone
	}
	return handshake.Alert(n)
}
