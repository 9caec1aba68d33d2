// Package suggest makes rules of audit records: exactly what was let through and, where the
// rule asked for a certificate, what was proven. It is never wider than what was seen, and
// what it cannot decide it asks.
package suggest

import (
	"cmp"
	"errors"
	"fmt"
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
	// maxIdentities bounds those of all paths, and the certificates whose are remembered.
	maxIdentities = 1 << 17
	// maxDays bounds the days of a path that are told apart.
	maxDays = 1 << 12
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

// identity is a client that has proven itself, as an alternative of its rule's allow asks for
// it.
type identity struct {
	authority, field, value string
	alternative             int // of the rule; 0 where allow is left out
}

// sample is one flow of a path.
type sample struct {
	at   path
	time string   // RFC 3339
	alpn []string // that it offered
	// upgrade is what it has asked for TLS by, "" for TLS from the first byte.
	upgrade string
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
	names map[identity]bool     // whether a rule can ask for them
	known map[string][]identity // of certificates that were seen
	ids   int                   // of all paths
	base  []policy.RuleSpec     // the rules that are narrowed
	now   *replay.Replay        // their policy, and what of it is asked
	set   *policy.Set

	series audit.Series
}

// New begins a suggestion: a policy and its rules, narrowed to what records say.
func New(now *policy.Set, base []policy.RuleSpec) *Suggester {
	return &Suggester{
		paths: map[path]*use{}, asked: map[string]int64{}, names: map[identity]bool{}, known: map[string][]identity{},
		base: base, now: replay.New(now), set: now,
	}
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
			u.sample.alpn, u.sample.upgrade = p.Offered(), p.Upgrade
		}
		s.paths[at] = u
	}
	s.count(u, p, v)
	return nil
}

func (s *Suggester) count(u *use, p *audit.Parsed, v policy.Verdict) {
	u.flows++
	u.first, u.last = min(u.first, p.Time), max(u.last, p.Time)
	if len(u.days) < maxDays {
		u.days[p.Time[:10]] = true
	}
	if v.Action != policy.Terminate {
		return
	}
	if p.Peer == nil {
		u.without = true
		return
	}
	ids := s.proven(p.Peer, p.Rule)
	if len(ids) == 0 {
		s.ask("A certificate without a name that a rule can ask for, on the way to " + where(p) + ": who is it? Nothing is suggested for it.")
	}
	for _, id := range ids {
		switch {
		case u.proven[id]:
		case s.ids >= maxIdentities:
			s.lost++
		default:
			s.ids++
			u.proven[id] = true
		}
	}
}

// proven is the certificate as the alternatives of the rule can ask for it: by each that it may
// have passed by. The answers are remembered.
func (s *Suggester) proven(p *audit.ParsedPeer, rule string) []identity {
	if !p.Proven || p.Authority == "" {
		return nil
	}
	key := fmt.Sprintf("%q %q %q %q", rule, p.Authority, p.SPKI, p.SANs)
	ids, known := s.known[key]
	if known {
		return ids
	}
	for i, a := range s.alternatives(rule) {
		if id, ok := s.by(a, p); ok {
			id.alternative = i
			ids = append(ids, id)
		}
	}
	if len(s.known) < maxIdentities {
		s.known[key] = ids
	}
	return ids
}

// alternatives are those of a rule of the configuration; one that demands nothing where it has
// none.
func (s *Suggester) alternatives(rule string) []policy.AllowSpec {
	i := slices.IndexFunc(s.base, func(r policy.RuleSpec) bool { return r.Name == rule })
	if i < 0 || len(s.base[i].Client.Allow) == 0 {
		return []policy.AllowSpec{{}}
	}
	return s.base[i].Client.Allow
}

// by is what an alternative can ask for to have this certificate and no other: a URI, a DNS
// name or an address for mail, else the key. The name is one that the alternative takes
// already, so that it stays as narrow as it is. It is not ok where the certificate has no
// such name: then it has not passed by this alternative.
func (s *Suggester) by(a policy.AllowSpec, p *audit.ParsedPeer) (identity, bool) {
	if otherSubject(a, p.Subject) || otherKey(a, p.Key) {
		return identity{}, false
	}
	for _, kind := range []struct {
		word, field string
		asks        []string
	}{{"uri", "san_uri", a.SANURI}, {"dns", "san_dns", a.SANDNS}, {"email", "san_email", a.SANEmail}} {
		unknown := len(p.SANs) > maxSANs
		for _, n := range p.SANs {
			name, ok := strings.CutPrefix(n, kind.word+":")
			// What was cut, escaped or has a pattern in it is no name to be asked for.
			switch whole := !strings.ContainsAny(name, "\\*\" ") && !strings.HasSuffix(name, "..."); {
			case !ok || name == "":
			case !whole:
				unknown = true
			case s.set.Meets(a, kind.word, name):
				if id := (identity{authority: p.Authority, field: kind.field, value: name}); s.canSay(id) {
					return id, true
				}
				unknown = true
			}
		}
		if kind.asks != nil && !unknown {
			return identity{}, false
		}
	}
	return identity{authority: p.Authority, field: "spki", value: p.SPKI}, len(p.SPKI) == 64 && (a.SPKI == nil || slices.Contains(a.SPKI, p.SPKI))
}

// otherSubject says whether a subject surely has none of the values that an alternative asks
// for. A text of RFC 4514 has each as "CN=value", but for characters that it escapes.
func otherSubject(a policy.AllowSpec, subject string) bool {
	if strings.HasSuffix(subject, "...") {
		return false // cut
	}
	for _, part := range []struct {
		key    string
		values []string
	}{{"CN=", a.SubjectCN}, {"O=", a.SubjectO}, {"OU=", a.SubjectOU}} {
		may := func(v string) bool {
			return v != strings.TrimSpace(v) || strings.ContainsFunc(v, odd) || strings.Contains(subject, part.key+v)
		}
		if part.values != nil && !slices.ContainsFunc(part.values, may) {
			return true
		}
	}
	return false
}

// otherKey says whether a kind of key, as "ECDSA P-256" in a record, is none that an
// alternative asks for, as "ecdsa".
func otherKey(a policy.AllowSpec, key string) bool {
	key = strings.ReplaceAll(strings.ToLower(key), "-", "")
	return a.KeyType != nil && key != "" && !slices.ContainsFunc(a.KeyType, func(kind string) bool { return strings.HasPrefix(key, kind) })
}

// odd is a character that a text of a record may have in another form.
func odd(r rune) bool {
	return r != ' ' && r != '.' && r != '-' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
}

// maxSANs is how many names a record has of a certificate.
const maxSANs = 32

// canSay says whether a rule can ask for an identity. The answers are remembered.
func (s *Suggester) canSay(id identity) bool {
	id.authority, id.alternative = "", 0
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
		return cmp.Or(cmp.Compare(a.authority, b.authority), cmp.Compare(a.field, b.field), cmp.Compare(a.value, b.value), cmp.Compare(a.alternative, b.alternative))
	})
	return out
}
