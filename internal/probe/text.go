package probe

import (
	"fmt"
	"strings"
	"time"

	"github.com/sslgate/sslgate/internal/diagram"
	"github.com/sslgate/sslgate/internal/times"
)

// Text is the result for a terminal, 80 columns wide.
func (r *Result) Text() string {
	var b strings.Builder
	head := r.Address
	if r.ServerName != "" {
		head += " (server name " + r.ServerName + ")"
	}
	b.WriteString(diagram.Field("probed", fmt.Sprintf("%s: %d connections in %s", head, r.Connections, r.Took.Round(time.Millisecond))))
	if r.Incomplete != "" {
		b.WriteString(diagram.Field("incomplete", r.Incomplete))
	}
	b.WriteString("\n")
	if r.Picture != "" {
		b.WriteString(r.Picture + "\n")
	}
	if r.Ended != "" {
		b.WriteString(diagram.Field("ended", r.Ended))
	}
	for _, c := range r.Certificates {
		c.text(&b)
	}
	r.textVersions(&b)
	list(&b, "TLS 1.3", r.Suites13, r.Order13)
	list(&b, r.SuitesOf, r.Suites12, r.Order12)
	list(&b, "groups", r.Groups, "")
	if r.GroupsNote != "" {
		b.WriteString(diagram.Field("", r.GroupsNote))
	}
	if r.DHBits > 0 {
		b.WriteString(diagram.Field("DHE prime", fmt.Sprintf("%d bits", r.DHBits)))
	}
	r.textRequests(&b)
	for _, s := range r.Resumption {
		b.WriteString(diagram.Field("resumption", s.text()))
	}
	if r.Features.Asked {
		b.WriteString(diagram.Field("features", r.Features.text()))
	}
	name := "refusals"
	for _, q := range r.Refusals {
		b.WriteString(diagram.Field(name, q.Question+": "+q.Said))
		name = ""
	}
	if f := r.Fit; f != nil {
		word := "yes"
		if !f.Fits {
			word = "no"
		}
		b.WriteString(diagram.Field("fits", "profile "+f.Profile+": "+word))
		for _, v := range f.Violations {
			b.WriteString(diagram.Field("", "- "+v))
		}
	}
	return b.String()
}

func (c *Certificate) text(b *strings.Builder) {
	b.WriteString(diagram.Field("certificate", c.Subject))
	b.WriteString(diagram.Field("", fmt.Sprintf("%s, signed with %s, until %s", c.Key, c.Signed, times.Date(c.NotAfter))))
	if len(c.Names) > 0 {
		b.WriteString(diagram.Field("", "for "+strings.Join(c.Names, ", ")))
	}
	for _, x := range c.Chain {
		b.WriteString(diagram.Field("", "then "+x))
	}
	b.WriteString(diagram.Field("", c.Verdict))
}

func (r *Result) textVersions(b *strings.Builder) {
	var yes, no []string
	for _, v := range r.Versions {
		if v.Accepted {
			yes = append(yes, v.Name.Name)
		} else {
			no = append(no, v.Name.Name+": "+v.Said)
		}
	}
	b.WriteString(diagram.Field("versions", strings.Join(yes, ", ")))
	if no != nil {
		b.WriteString(diagram.Field("", "not "+strings.Join(no, "; ")))
	}
}

// list prints one name a line, and last a line about the order of preference.
func list(b *strings.Builder, name string, all []Name, order Order) {
	if name == "" || len(all) == 0 {
		return
	}
	for i, n := range all {
		if i > 0 {
			name = ""
		}
		b.WriteString(diagram.Field(name, n.Name))
	}
	switch order {
	case OrderServer:
		b.WriteString(diagram.Field("", "(the server's order decides)"))
	case OrderClient:
		b.WriteString(diagram.Field("", "(the client's order decides)"))
	}
}

func (r *Result) textRequests(b *strings.Builder) {
	if len(r.Requests) == 0 {
		b.WriteString(diagram.Field("asks", "for no client certificate"))
	}
	for i := range r.Requests {
		r.Requests[i].text(b)
	}
}

func (q *Request) text(b *strings.Builder) {
	text := q.Version + ": for a client certificate"
	if len(q.Types) > 0 {
		text += " of the types " + strings.Join(q.Types, ", ")
	}
	b.WriteString(diagram.Field("asks", text))
	if len(q.Schemes) > 0 {
		b.WriteString(diagram.Field("", "signed with "+strings.Join(q.Schemes, ", ")))
	}
	if len(q.CANames) == 0 {
		b.WriteString(diagram.Field("", "of any CA: no names"))
	}
	for i, n := range q.CANames {
		const most = 10 // the others are in --json
		if i == most && len(q.CANames) > most+1 {
			b.WriteString(diagram.Field("", fmt.Sprintf("and %d more", len(q.CANames)-most)))
			break
		}
		b.WriteString(diagram.Field("", "of CA "+n))
	}
	if q.Answer != "" {
		b.WriteString(diagram.Field("", q.Answer))
	}
}

func (s *Resumption) text() string {
	switch {
	case s.Note != "":
		return s.Version + ": " + s.Note
	case s.Resumed:
		return s.Version + ": by ticket"
	case s.Ticket:
		return s.Version + ": a ticket was given, and not taken back"
	}
	return s.Version + ": no ticket"
}

func (f *Features) text() string {
	var yes, no []string
	for _, x := range []struct {
		name string
		has  bool
	}{
		{"extended master secret", f.ExtendedMasterSecret}, {"secure renegotiation", f.SecureRenegotiation},
		{"session IDs", f.SessionID}, {"OCSP staple", f.Staple}, {"compression", f.Compression},
	} {
		if x.has {
			yes = append(yes, x.name)
		} else {
			no = append(no, x.name)
		}
	}
	out := strings.Join(yes, ", ")
	if f.ExtendedMasterSecret && f.WithoutEMS {
		out = strings.Replace(out, "extended master secret", "extended master secret (not demanded)", 1)
	}
	if len(no) > 0 {
		out += "; no " + strings.Join(no, ", no ")
	}
	return strings.TrimPrefix(out, "; ")
}
