package report

import (
	"fmt"
	"io"
	"strings"

	"github.com/sslgate/sslgate/internal/escape"
)

// Width of every line of text, in columns, unless a name is longer.
const width = 80

// page is text of at most width columns.
type page struct{ strings.Builder }

func (p *page) line(format string, args ...any) {
	p.WriteString(strings.TrimRight(fmt.Sprintf(format, args...), " ") + "\n")
}

// wrapped writes a text, escaped, behind first, and what does not fit behind as many spaces.
func (p *page) wrapped(first, text string) {
	line := first
	empty := true
	for _, word := range strings.Fields(escape.Shown(text, 1<<16)) {
		if !empty && len([]rune(line))+1+len([]rune(word)) > width {
			p.line("%s", line)
			line, empty = strings.Repeat(" ", len([]rune(first))), true
		}
		if !empty {
			line += " "
		}
		line, empty = line+word, false
	}
	p.line("%s", line)
}

// count is a number and what it counts.
func count(n int64, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// head says what was read.
func (p *page) head(r *Read) {
	text := count(r.Flows, "flow")
	if r.From != "" {
		text += fmt.Sprintf(" from %s to %s", stamp(r.From), stamp(r.To))
	}
	text += fmt.Sprintf(", %s in %s", count(r.Lines, "line"), count(int64(r.Files), "file"))
	if r.Packets > 0 {
		text += fmt.Sprintf(", %s of captures", count(r.Packets, "packet"))
	}
	p.wrapped("", text)
	for _, d := range r.At {
		p.wrapped("damaged  ", d.Place+": "+d.Why+"; passed over")
	}
	if more := r.Damaged - int64(len(r.At)); more > 0 {
		p.line("damaged  %s more", count(more, "line"))
	}
	if r.Missing > 0 {
		p.wrapped("missing  ", count(r.Missing, "record")+": the numbers between (seq) are in no file that was read")
	}
	for _, name := range r.Twice {
		p.wrapped("twice    ", name+": was given before, and is read once")
	}
	if r.Again > 0 {
		p.wrapped("twice    ", count(r.Again, "record")+": read before in another file, and counted once")
	}
	if r.Undated > 0 {
		p.wrapped("undated  ", count(r.Undated, "flow")+": the record has no time that can be read")
	}
	for _, t := range r.Full {
		p.wrapped("full     ", fmt.Sprintf("the table of %s had no room for all: what is listed here is less than was seen", t))
	}
}

// stamp is a time of a record without its fraction.
func stamp(s string) string {
	if len(s) > 19 && s[10] == 'T' {
		return s[:10] + " " + s[11:19]
	}
	return s
}

// rows lists counts with their part of all.
func (p *page) rows(title string, all []Count, of int64) {
	const most = 12
	for i, c := range all {
		name := escape.Shown(c.Name, 0)
		switch {
		case i == most && len(all) > most+1:
			rest := int64(0)
			for _, c := range all[i:] {
				rest += c.Flows
			}
			p.row("", fmt.Sprintf("and %d more", len(all)-most), rest, of)
			return
		case i > 0:
			p.row("", name, c.Flows, of)
		default:
			p.row(title, name, c.Flows, of)
		}
	}
}

func (p *page) row(title, name string, n, of int64) {
	p.line("  %-9s %-46s %10d %s", title, name, n, percent(n, of))
}

// percent is a part in three digits: 0.0 and 100 % mean nothing and all, and nothing else.
func percent(n, of int64) string {
	switch {
	case of <= 0:
		return ""
	case n > 0 && n*1000 < of:
		return "<0.1 %"
	case n < of && n*1000 >= of*999:
		return "99.9 %"
	case n == of:
		return " 100 %"
	}
	return fmt.Sprintf("%4.1f %%", float64(n)*100/float64(of))
}

// Text writes the report in 80 columns.
func (c *Crypto) Text(w io.Writer) error {
	var p page
	p.head(&c.Read)
	p.rows("verdict", c.Verdicts, c.Read.Flows)
	p.rows("action", c.Actions, c.Read.Flows)
	p.rows("refused", c.Reasons, c.Read.Flows)
	if c.Would > 0 {
		p.row("observed", "would be refused", c.Would, c.Read.Flows)
	}
	p.leg("with clients", &c.Client)
	p.leg("with destinations", &c.Destination)
	if c.Passing.Flows > 0 || len(c.Passing.Alerts) > 0 {
		p.leg("by clients and servers themselves (bypass)", &c.Passing.Leg)
		if c.Passing.Asked > 0 {
			p.row("asked for", "a client certificate", c.Passing.Asked, c.Passing.Flows)
		}
		p.rows("alert", c.Passing.Alerts, c.Read.Flows)
	}
	o := &c.Offered
	p.line("")
	if o.Hellos == 0 {
		p.wrapped("", "No record says what clients offered: they are of a version before hello was recorded, or no hello was read.")
		return p.to(w)
	}
	p.line("offered by clients, in %s", count(o.Hellos, "hello"))
	p.rows("newest", o.Newest, o.Hellos)
	p.row("ML-KEM", "offered", o.MLKEM, o.Hellos)
	p.row("", "not offered", o.Hellos-o.MLKEM, o.Hellos)
	p.line("  no ML-KEM offered: %s of %d", count(int64(o.ClientsWithoutMLKEM), "client"), o.Clients)
	p.rows("ja4", o.JA4, o.Hellos)
	p.line("")
	p.line("who would fail, by what the hello offers alone")
	p.line("  %-14s %10s %10s  %s", "profile", "clients", "flows", "why")
	for _, f := range c.Profiles {
		why := make([]string, len(f.Reasons))
		for i, r := range f.Reasons {
			why[i] = r.Name
		}
		p.wrapped(fmt.Sprintf("  %-14s %10d %10d  ", f.Name, f.Clients, f.Flows), strings.Join(why, ", "))
	}
	return p.to(w)
}

func (p *page) to(w io.Writer) error {
	_, err := io.WriteString(w, p.String())
	return err
}

func (p *page) leg(title string, l *Leg) {
	if l.Flows == 0 {
		return
	}
	p.line("")
	p.line("negotiated %s, in %s", title, count(l.Flows, "flow"))
	p.rows("version", l.Versions, l.Flows)
	p.rows("suite", l.Suites, l.Flows)
	p.rows("group", l.Groups, l.Flows)
	p.rows("alpn", l.ALPN, l.Flows)
	p.rows("key", l.Keys, l.Flows)
	if l.Resumed > 0 {
		p.row("resumed", "by a ticket", l.Resumed, l.Flows)
	}
	if l.HelloRetry > 0 {
		p.row("retried", "HelloRetryRequest", l.HelloRetry, l.Flows)
	}
}

// Text writes the report in 80 columns.
func (c *Certificates) Text(w io.Writer) error {
	var p page
	p.head(&c.Read)
	for i := range c.All {
		e := &c.All[i]
		p.line("")
		p.wrapped(fmt.Sprintf("%-12s ", ends(e)), e.Subject)
		field := func(name, text string) {
			if text != "" {
				p.wrapped(fmt.Sprintf("  %-10s ", name), text)
			}
		}
		field("of", fmt.Sprintf("a %s, %s, proven in %d, %s to %s", e.Of, count(e.Flows, "flow"), e.Proven, stamp(e.First), stamp(e.Last)))
		field("names", strings.Join(e.SANs, ", "))
		field("issuer", e.Issuer)
		field("serial", e.Serial)
		field("key", e.Key)
		field("valid", e.NotBefore+" to "+e.NotAfter)
		field("authority", e.Authority)
		field("where", strings.Join(e.Places, "; "))
		field("clients", strings.Join(e.Clients, ", "))
	}
	if len(c.All) == 0 {
		p.line("no certificate was seen")
	}
	return p.to(w)
}

func ends(c *Certificate) string {
	switch {
	case c.DaysLeft == nil:
		return "?"
	case *c.DaysLeft < 0:
		return "EXPIRED"
	case *c.DaysLeft == 1:
		return "1 day"
	}
	return fmt.Sprintf("%d days", *c.DaysLeft)
}

// Text writes the report in 80 columns.
func (c *Clients) Text(w io.Writer) error {
	var p page
	p.head(&c.Read)
	for i := range c.All {
		e := &c.All[i]
		p.line("")
		text := count(e.Flows, "flow")
		for _, n := range []struct {
			n    int64
			what string
		}{{e.Refused, "refused"}, {e.Failed, "failed"}, {e.Would, "would be refused"}} {
			if n.n > 0 {
				text += fmt.Sprintf(", %d %s", n.n, n.what)
			}
		}
		p.wrapped(fmt.Sprintf("%-16s ", e.Address), text+fmt.Sprintf(", %s to %s", stamp(e.First), stamp(e.Last)))
		field := func(name string, texts []string) {
			if len(texts) > 0 {
				p.wrapped(fmt.Sprintf("  %-14s ", name), strings.Join(texts, ", "))
			}
		}
		field("proven as", e.Names)
		field("negotiated", e.Versions)
		field("ja4", e.JA4)
		if e.NoMLKEM > 0 {
			field("no ML-KEM", []string{fmt.Sprintf("in %d of %s", e.NoMLKEM, count(e.Hellos, "hello"))})
		}
		field("would fail", e.Fails)
	}
	if len(c.All) == 0 {
		p.line("no client was seen")
	}
	return p.to(w)
}
