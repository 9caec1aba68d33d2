package diagram

import (
	"fmt"
	"strings"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/audit"
	"github.com/sslgate/sslgate/internal/reason"
)

// Of returns the ledgers of a record, for the picture.
func Of(r *audit.Parsed) Flow {
	return Flow{
		Plain:       r.Action == "originate",
		Client:      Leg{Entries: entries(r.Ledger), Lost: r.LedgerLost},
		Destination: Leg{Entries: entries(r.DestinationLedger)},
	}
}

func entries(parsed []audit.ParsedEntry) []handshake.Entry {
	var all []handshake.Entry
	for _, e := range parsed {
		all = append(all, e.Entry())
	}
	return all
}

// Block answers "what happened to this flow" as text: who connected where, the picture,
// verdict, rule, reason and alerts.
func Block(r *audit.Parsed) string {
	var b strings.Builder
	head := r.Client + " -> " + r.Destination
	if r.SNI != "" {
		head += " (server name " + r.SNI + ")"
	}
	switch audit.Direction(r.Direction) {
	case audit.LocalOut:
		head += " (from a program of this host)"
	case audit.LocalIn:
		head += " (to a service of this host)"
	}
	b.WriteString(strings.Join(wrap(clean(head), width, 6), "\n") + "\n\n")
	f := Of(r)
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
	field(&b, "alert", alerts(r))
	if r.Upgrade != "" {
		field(&b, "asked by", "upgrade: "+r.Upgrade+", before TLS")
	}
	certificate(&b, "certificate", r.Peer)
	agreed(&b, "client leg", r.ClientLeg)
	if r.Dialed != "" {
		from := ""
		if r.DialedFrom != "" {
			from = " as " + r.DialedFrom
		}
		field(&b, "dialled", r.Dialed+from)
	}
	agreed(&b, "far leg", r.DestinationLeg)
	if r.End != "" {
		field(&b, "end", fmt.Sprintf("%s; %d bytes up, %d down", r.End, r.BytesUp, r.BytesDown))
	}
	return b.String()
}

func alerts(r *audit.Parsed) string {
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

func certificate(b *strings.Builder, name string, s *audit.ParsedPeer) {
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

func agreed(b *strings.Builder, name string, a *audit.ParsedLeg) {
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
