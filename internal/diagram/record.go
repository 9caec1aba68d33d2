package diagram

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/reason"
)

// Record is one line of the audit record as it is shown. Strings that came
// from a peer are escaped in it already. Alerts are names with numbers,
// "unknown_ca(48)", "" for none.
type Record struct {
	ID          string `json:"id"`
	Time        string `json:"time"`
	Client      string `json:"client"`
	Destination string `json:"destination"`
	SNI         string `json:"sni"`
	Rule        string `json:"rule"`
	Action      string `json:"action"`
	Verdict     string `json:"verdict"`
	Reason      string `json:"reason"`
	Detail      string `json:"detail"`
	Step        int    `json:"step"`

	AlertWanted   string `json:"alert_wanted"`
	AlertSent     string `json:"alert_sent"`
	AlertReceived string `json:"alert_received"`

	ClientLeg       *Agreed  `json:"client_leg"`
	DestinationLeg  *Agreed  `json:"destination_leg"`
	Peer            *Subject `json:"peer"`
	DestinationPeer *Subject `json:"destination_peer"`
	Dialed          string   `json:"dialed"`
	DialedFrom      string   `json:"dialed_from"`

	BytesUp   int64  `json:"bytes_up"`
	BytesDown int64  `json:"bytes_down"`
	Duration  int64  `json:"duration_us"`
	End       string `json:"end"`
	EndDetail string `json:"end_detail"`

	Ledger            []Line `json:"ledger"`
	DestinationLedger []Line `json:"destination_ledger"`
	LedgerLost        int    `json:"ledger_lost"`
}

// Agreed is what the two sides of a leg agreed on.
type Agreed struct {
	Version string `json:"version"`
	Suite   string `json:"suite"`
	Group   string `json:"group"`
	ALPN    string `json:"alpn"`
}

// Subject is a peer's certificate. Unless Proven it is a claim.
type Subject struct {
	Proven    bool     `json:"proven"`
	Subject   string   `json:"subject"`
	SANs      []string `json:"sans"`
	Serial    string   `json:"serial"`
	SPKI      string   `json:"spki"`
	Authority string   `json:"authority"`
}

// Line is an entry of a ledger.
type Line struct {
	Step    uint8  `json:"step"`
	From    string `json:"from"`
	Message string `json:"message"`
	AtUs    int64  `json:"at_us"`
	Size    int    `json:"size"`
	Facts   string `json:"facts"`
	Alert   string `json:"alert"`
}

// ParseRecord reads one line of the audit file.
func ParseRecord(line []byte) (*Record, error) {
	var r Record
	if err := json.Unmarshal(line, &r); err != nil {
		return nil, fmt.Errorf("audit record: %w", err)
	}
	return &r, nil
}

// Flow returns the ledgers of the record, for the picture.
func (r *Record) Flow() Flow {
	return Flow{
		Client:      Leg{Entries: entries(r.Ledger), Lost: r.LedgerLost},
		Destination: Leg{Entries: entries(r.DestinationLedger)},
	}
}

func entries(lines []Line) []handshake.Entry {
	var all []handshake.Entry
	for _, l := range lines {
		e := handshake.Entry{
			Step: handshake.Step(l.Step), Message: l.Message, At: time.Duration(l.AtUs) * time.Microsecond,
			Size: l.Size, Facts: l.Facts, Alert: AlertNumber(l.Alert),
		}
		if l.From == handshake.SidePeer.String() {
			e.From = handshake.SidePeer
		}
		all = append(all, e)
	}
	return all
}

// AlertNumber is the alert of its text in a record; AlertNone for "" and for
// what is none.
func AlertNumber(s string) handshake.Alert {
	_, num, ok := strings.Cut(strings.TrimSuffix(s, ")"), "(")
	n, err := strconv.ParseUint(num, 10, 8)
	if !ok || err != nil {
		return handshake.AlertNone
	}
	return handshake.Alert(n)
}

// Block is the whole answer to "what happened to this flow": who connected
// where, the picture, verdict, rule, reason and alerts.
func (r *Record) Block() string {
	var b strings.Builder
	head := r.Client + " -> " + r.Destination
	if r.SNI != "" {
		head += " (server name " + r.SNI + ")"
	}
	b.WriteString(strings.Join(wrap(clean(head), width, 6), "\n") + "\n\n")
	f := r.Flow()
	if p := f.Draw(); p != "" {
		b.WriteString(p + "\n")
		if not := f.NotSeen(); len(not) > 0 {
			field(&b, "not seen", strings.Join(not, ", "))
		}
	}
	field(&b, "verdict", r.Verdict)
	rule := r.Rule
	if rule == "" {
		rule = "none: the default, deny"
	}
	field(&b, "rule", rule)
	text := r.Reason
	if e, ok := reason.Lookup(reason.Code(r.Reason)); ok {
		text += ": " + e.Sentence
	}
	field(&b, "reason", text)
	if r.Detail != "" {
		field(&b, "detail", r.Detail)
	}
	field(&b, "alert", r.alerts())
	r.Peer.field(&b, "certificate")
	r.ClientLeg.field(&b, "client leg")
	if r.Dialed != "" {
		from := ""
		if r.DialedFrom != "" {
			from = " as " + r.DialedFrom
		}
		field(&b, "dialled", r.Dialed+from)
	}
	r.DestinationLeg.field(&b, "far leg")
	if r.End != "" {
		field(&b, "end", fmt.Sprintf("%s; %d bytes up, %d down", r.End, r.BytesUp, r.BytesDown))
	}
	return b.String()
}

func (r *Record) alerts() string {
	var parts []string
	for _, a := range []struct{ word, alert string }{
		{"wanted", r.AlertWanted}, {"sent", r.AlertSent}, {"received", r.AlertReceived},
	} {
		if a.alert != "" {
			parts = append(parts, a.word+" "+a.alert)
		}
	}
	if parts == nil {
		return "none"
	}
	return strings.Join(parts, ", ")
}

func (s *Subject) field(b *strings.Builder, name string) {
	if s == nil {
		return
	}
	text := s.Subject
	for _, n := range s.SANs {
		text += ", " + n
	}
	if s.Proven {
		field(b, name, "proven: "+text)
		return
	}
	field(b, name, "claimed, never proven: "+text)
}

func (a *Agreed) field(b *strings.Builder, name string) {
	if a == nil {
		return
	}
	parts := []string{}
	for _, s := range []string{a.Version, a.Suite, a.Group, a.ALPN} {
		if s != "" {
			parts = append(parts, s)
		}
	}
	field(b, name, strings.Join(parts, ", "))
}

// Field is "name   text" and a newline, the text escaped, cut to 512 bytes and
// wrapped to 80 columns.
func Field(name, text string) string {
	var b strings.Builder
	field(&b, name, text)
	return b.String()
}

func field(b *strings.Builder, name, text string) {
	const indent = 13
	for i, part := range wrap(clean(text), width-indent, 8) {
		if i > 0 {
			name = ""
		}
		fmt.Fprintf(b, "%-*s%s\n", indent, name, part)
	}
}
