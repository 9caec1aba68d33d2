// Package suggest makes rules of audit records: exactly what was let through and, where the
// rule asked for a certificate, what was proven. It is never wider than what was seen, and
// what it cannot decide it asks.
package suggest

import (
	"cmp"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/sslgate/sslgate/internal/audit"
	"github.com/sslgate/sslgate/internal/escape"
	"github.com/sslgate/sslgate/internal/replay"
	"github.com/sslgate/sslgate/policy"
)

const (
	// maxPaths bounds what is told apart, at some 500 bytes each.
	maxPaths = 1 << 17
	// maxAsked bounds the questions of one kind.
	maxAsked = 1 << 10
)

// path is who went where, by which name.
type path struct {
	client netip.Addr
	dst    netip.AddrPort
	sni    string // as a rule writes it, "-" where none was sent; "" of action originate
	local  bool   // the client is a program of the gateway's own host
	rule   string // of the policy then
	action policy.Action
}

// identity is a client that has proven itself.
type identity struct {
	authority, field, value string
}

// sample is one flow of a path.
type sample struct {
	at   path
	time string   // RFC 3339
	alpn []string // that it offered
}

// use is how a path was used.
type use struct {
	sample  sample
	flows   int64
	first   string // RFC 3339
	last    string
	days    map[string]bool
	proven  map[identity]bool
	without bool // flows without a certificate, of an action that terminates
}

// Suggester collects records. It is for one goroutine.
type Suggester struct {
	paths map[path]*use
	lost  int64
	asked map[string]int64 // questions, with how many flows they are about
	flows int64
	names map[identity]bool // whether a rule can ask for them
	now   *replay.Replay    // the policy that is narrowed, and what of it is asked
	set   *policy.Set

	series audit.Series
}

// New begins a suggestion: a policy, narrowed to what records say.
func New(now *policy.Set) *Suggester {
	return &Suggester{paths: map[path]*use{}, asked: map[string]int64{}, names: map[identity]bool{}, now: replay.New(now), set: now}
}

func (s *Suggester) ask(question string) {
	if _, known := s.asked[question]; known || len(s.asked) < maxAsked {
		s.asked[question]++
	}
}

// Add takes one line of an audit log. The error says why it is no record.
func (s *Suggester) Add(line []byte) error {
	p, err := audit.Parse(line)
	if err != nil {
		return err
	}
	if p.Msg != "flow" {
		return errors.New("no record of a flow")
	}
	src, err := netip.ParseAddrPort(p.Client)
	if err != nil || src.Addr().Zone() != "" {
		return errors.New("no client that can be read")
	}
	dst, err := netip.ParseAddrPort(p.Destination)
	if err != nil || dst.Addr().Zone() != "" {
		return errors.New("no destination that can be read")
	}
	if _, err := time.Parse(time.RFC3339Nano, p.Time); err != nil {
		return errors.New("no time that can be read")
	}
	if s.series.Add(p.ID, p.Seq, p.Time) {
		return nil
	}
	s.flows++
	v, judged := replay.Enforced(p)
	switch {
	case !judged && !replay.Known(p):
		s.ask("Recorded by a version that has other reasons or actions, on the way to " + where(p) + ": what became of it? Nothing is suggested for it.")
		return nil
	case !judged:
		return nil
	case !v.Action.Lets():
		s.ask("Refused (" + p.Reason + ") on the way to " + where(p) + ": is that as it should be? Nothing is suggested for it.")
		return nil
	case v.Would.Deny:
		s.ask("Only observed, and refused once that is enforced (" + p.WouldReason + ", rule " + named(p.WouldRule) + "), on the way to " + where(p) + ": should it pass? Nothing is suggested for it.")
		return nil
	case !s.now.Lets(p):
		s.ask("Let through by rule " + named(p.Rule) + " as it was then, on the way to " + where(p) + ": the configuration of now does not surely do so. Should it pass? Nothing is suggested for it.")
		return nil
	}
	at := path{src.Addr().Unmap(), netip.AddrPortFrom(dst.Addr().Unmap(), dst.Port()), "", audit.Direction(p.Direction) == audit.LocalOut, p.Rule, v.Action}
	if v.Action != policy.Originate {
		var question string
		if at.sni, question = name(p); question != "" {
			s.ask(question)
			return nil
		}
	}
	u := s.paths[at]
	if u == nil {
		can := at.sni == "" || s.set.CanSay(&policy.RuleSpec{Name: "r", To: []string{dst.String()}, SNI: []string{at.sni}}) == nil
		if !can {
			s.ask("By a name that a rule cannot have, on the way to " + where(p) + ": which client is it? Nothing is suggested for it.")
			return nil
		}
		if len(s.paths) >= maxPaths {
			s.lost++
			return nil
		}
		u = &use{sample: sample{at: at, time: p.Time}, first: p.Time, days: map[string]bool{}, proven: map[identity]bool{}}
		if v.Action != policy.Originate {
			u.sample.alpn = p.Offered()
		}
		s.paths[at] = u
	}
	s.count(u, p, v)
	return nil
}

func (s *Suggester) count(u *use, p *audit.Parsed, v policy.Verdict) {
	u.flows++
	u.first, u.last = min(u.first, p.Time), max(u.last, p.Time)
	if len(p.Time) >= 10 {
		u.days[p.Time[:10]] = true
	}
	if v.Action != policy.Terminate {
		return
	}
	id, ok := s.proven(p.Peer)
	switch {
	case p.Peer == nil:
		u.without = true
	case ok:
		u.proven[id] = true
	default:
		s.ask("A certificate without a name that a rule can ask for, on the way to " + where(p) + ": who is it? Nothing is suggested for it.")
	}
}

// proven is the identity that a rule can ask for: a URI, a DNS name or an address for mail,
// else the key.
func (s *Suggester) proven(p *audit.ParsedPeer) (identity, bool) {
	if p == nil || !p.Proven || p.Authority == "" {
		return identity{}, false
	}
	for _, kind := range []struct{ prefix, field string }{{"uri:", "san_uri"}, {"dns:", "san_dns"}, {"email:", "san_email"}} {
		for _, n := range p.SANs {
			// What was cut, escaped or has a pattern in it is no name to be asked for.
			if name, ok := strings.CutPrefix(n, kind.prefix); ok && !strings.ContainsAny(name, "\\*\" ") && !strings.HasSuffix(name, "...") && name != "" {
				if id := (identity{p.Authority, kind.field, name}); s.canSay(id) {
					return id, true
				}
			}
		}
	}
	return identity{p.Authority, "spki", p.SPKI}, len(p.SPKI) == 64
}

// canSay says whether a rule can ask for an identity. The answers are remembered.
func (s *Suggester) canSay(id identity) bool {
	id.authority = ""
	can, known := s.names[id]
	if !known {
		r := policy.RuleSpec{Name: "r", To: []string{"*:443"}, Client: policy.ClientSpec{Allow: []policy.AllowSpec{id.allow(policy.AllowSpec{})}}}
		if can = s.set.CanSay(&r) == nil; len(s.names) < maxPaths {
			s.names[id] = can
		}
	}
	return can
}

// allow is an alternative that asks for the identity too.
func (id identity) allow(a policy.AllowSpec) policy.AllowSpec {
	values := []string{id.value}
	switch id.field {
	case "san_uri":
		a.SANURI = values
	case "san_dns":
		a.SANDNS = values
	case "san_email":
		a.SANEmail = values
	default:
		a.SPKI = values
	}
	return a
}

// name is the server name of a flow as a rule writes it; a question where there is none to
// write.
func name(p *audit.Parsed) (sni, question string) {
	if sni = escape.Original(p.SNI); sni != "" {
		return sni, ""
	}
	h, err := p.Hello.ClientHello(p.SNI, nil)
	switch {
	case err != nil || h == nil:
		return "", "Without a client hello that was read, on the way to " + where(p) + ", by rule " + named(p.Rule) + ": a rule for it would let any name through. Is it no TLS? Nothing is suggested for it."
	case h.SNIPresent:
		return "", "With a server name that is no host name, on the way to " + where(p) + ", by rule " + named(p.Rule) + ": a rule cannot ask for that. Nothing is suggested for it."
	}
	return noName, ""
}

// noName is a hello without a server name, in a list of a rule.
const noName = "-"

func where(p *audit.Parsed) string {
	if p.SNI == "" {
		return p.Destination
	}
	return p.SNI + " (" + p.Destination + ")"
}

func named(rule string) string {
	if rule == "" {
		return "none"
	}
	return rule
}

// sorted lists identities in an order of their own.
func sorted(m map[identity]bool) []identity {
	out := make([]identity, 0, len(m))
	for id := range m {
		out = append(out, id)
	}
	slices.SortFunc(out, func(a, b identity) int {
		return cmp.Or(cmp.Compare(a.authority, b.authority), cmp.Compare(a.field, b.field), cmp.Compare(a.value, b.value))
	})
	return out
}
