package suggest

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/sslgate/sslgate/policy"
)

// Rule is one suggested rule with what it rests on.
type Rule struct {
	Spec     policy.RuleSpec
	Clients  []string // members of its set where there are many; else they are in Spec.From
	Evidence string   // "120 flows, 3 clients, 2 days from 2026-11-01 to 2026-11-02"
	ids      []identity
	without  bool
	kept     bool // a rule of the configuration that denies, as it is
}

// draft is paths that are used alike.
type draft struct {
	action  policy.Action
	rule    string
	ids     []identity
	without bool
	local   bool
	clients []string
	dsts    []string
	snis    []string // empty for any
	flows   int64
	first   string
	last    string
	days    map[string]bool
}

// how is what paths must have in common to be in one rule.
func (d *draft) how() string {
	return fmt.Sprintf("%d %q %v %v %q %v", d.action, d.rule, d.local, d.without, d.ids, len(d.snis) == 0)
}

func (d *draft) add(o *draft) {
	d.flows += o.flows
	d.first, d.last = min(d.first, o.first), max(d.last, o.last)
	maps.Copy(d.days, o.days)
}

// Rules makes the rules, and the questions. base are the rules of the configuration that was
// in force: a suggested rule is one of them, narrowed.
func (s *Suggester) Rules(base []policy.RuleSpec) (rules []Rule, questions []string) {
	drafts := s.drafts()
	// Each step joins what is the same in all but one part, so that the product of the parts
	// has no path that was not seen.
	drafts = join(drafts, func(d *draft) string { return fmt.Sprint(d.dsts, d.snis) }, func(d, o *draft) { d.clients = append(d.clients, o.clients...) })
	drafts = join(drafts, func(d *draft) string { return fmt.Sprint(d.clients, d.snis) }, func(d, o *draft) { d.dsts = append(d.dsts, o.dsts...) })
	drafts = join(drafts, func(d *draft) string { return fmt.Sprint(d.clients, d.dsts) }, func(d, o *draft) { d.snis = append(d.snis, o.snis...) })
	names := map[string]int{}
	for _, b := range base {
		names[b.Name]++ // a name of the configuration is that of the rule itself
	}
	index := func(d *draft) int {
		return slices.IndexFunc(base, func(b policy.RuleSpec) bool { return b.Name == d.rule })
	}
	// In the order of the configuration: where two rules meet, the first decides as it did.
	slices.SortStableFunc(drafts, func(a, b *draft) int { return cmp.Or(cmp.Compare(index(a), index(b)), cmp.Compare(b.flows, a.flows)) })
	next := 0
	for i := range base {
		for ; next < len(drafts) && index(drafts[next]) < i; next++ {
			rules = s.append(rules, drafts[next], base, names)
		}
		switch deny := base[i]; {
		case deny.Action != policy.Deny.String():
		case strings.Contains(fmt.Sprint(deny.From, deny.To, deny.SNI, deny.ALPNOffered), "@"):
			// Without it the rules behind it are wider: none of them is suggested.
			s.asked["Rule "+deny.Name+" denies, and names a set: which members? Nothing is suggested for the rules behind it."]++
			drafts = drafts[:next]
		default:
			rules = append(rules, Rule{Spec: deny, Evidence: "denies, as it was", kept: true})
		}
	}
	for ; next < len(drafts); next++ {
		rules = s.append(rules, drafts[next], base, names)
	}
	for _, q := range slices.Sorted(maps.Keys(s.asked)) {
		questions = append(questions, fmt.Sprintf("%d flows: %s", s.asked[q], q))
	}
	if s.lost > 0 {
		questions = append(questions, fmt.Sprintf("%d flows found no room: give fewer records at once.", s.lost))
	}
	return rules, questions
}

// append adds the rule of a draft, or a question.
func (s *Suggester) append(rules []Rule, d *draft, base []policy.RuleSpec, names map[string]int) []Rule {
	r, question := d.suggest(base, names)
	if question != "" {
		s.asked[question] += d.flows
		return rules
	}
	return append(rules, r)
}

func (s *Suggester) drafts() []*draft {
	var out []*draft
	for p, u := range s.paths {
		if p.action == policy.Terminate && !u.without && len(u.proven) == 0 {
			continue // nobody has proven a name: asked already
		}
		d := &draft{
			action: p.action, rule: p.rule, local: p.local, ids: sorted(u.proven), without: u.without, flows: u.flows, first: u.first, last: u.last, days: maps.Clone(u.days),
			clients: []string{p.client.String()}, dsts: []string{p.dst.String()},
		}
		if p.sni != "" {
			d.snis = []string{p.sni}
		}
		out = append(out, d)
	}
	slices.SortFunc(out, func(a, b *draft) int {
		return cmp.Or(cmp.Compare(a.dsts[0], b.dsts[0]), slices.Compare(a.snis, b.snis), cmp.Compare(a.clients[0], b.clients[0]))
	})
	return out
}

// join merges drafts that are used alike and have the same key. grow adds the part that
// differs.
func join(all []*draft, key func(*draft) string, grow func(d, o *draft)) []*draft {
	known := map[string]*draft{}
	var out []*draft
	for _, o := range all {
		k := o.how() + key(o)
		d := known[k]
		if d == nil {
			known[k] = o
			out = append(out, o)
			continue
		}
		grow(d, o)
		d.add(o)
	}
	for _, d := range out {
		for _, l := range []*[]string{&d.clients, &d.dsts, &d.snis} {
			slices.Sort(*l)
			*l = slices.Compact(*l)
		}
	}
	return out
}

// mostFrom is how many clients stand in a rule; more are a set.
const mostFrom = 4

// suggest makes the rule; a question instead where it cannot.
func (d *draft) suggest(base []policy.RuleSpec, names map[string]int) (r Rule, question string) {
	at := slices.IndexFunc(base, func(b policy.RuleSpec) bool { return b.Name == d.rule })
	spec := policy.RuleSpec{Name: "seen", Action: d.action.String()}
	switch {
	case at >= 0:
		spec = base[at]
	case d.action != policy.Bypass:
		return r, fmt.Sprintf("Rule %s is not in the configuration: how is %s terminated? Nothing is suggested for it.", named(d.rule), strings.Join(d.dsts, ", "))
	}
	if word := spec.Action; word != d.action.String() && (word != "" || d.action != policy.Terminate) {
		return r, fmt.Sprintf("Rule %s has another action in the configuration than then. Nothing is suggested for it.", d.rule)
	}
	spec.Mode, spec.SameService = "", nil
	spec.To, spec.SNI, spec.Local = d.dsts, d.snis, d.local
	if len(d.snis) > 0 {
		spec.Name = label(d.snis[0])
	}
	if names[spec.Name]++; names[spec.Name] > 1 {
		spec.Name = fmt.Sprintf("%s-%d", spec.Name, names[spec.Name])
	}
	r = Rule{ids: d.ids, without: d.without}
	if spec.From = d.clients; len(d.clients) > mostFrom {
		r.Clients, spec.From = d.clients, []string{"@" + spec.Name + "-clients"}
	}
	if d.action == policy.Terminate {
		if question := d.demand(&spec); question != "" {
			return r, question
		}
	}
	r.Spec = spec
	r.Evidence = fmt.Sprintf("%s, %s, %s from %s to %s", plural(int(d.flows), "flow"), plural(len(d.clients), "client"), plural(len(d.days), "day"), day(d.first), day(d.last))
	if len(d.ids) > 0 {
		r.Evidence += ", " + plural(len(d.ids), "identity")
		r.Evidence = strings.Replace(r.Evidence, "identitys", "identities", 1)
	}
	return r, ""
}

// demand narrows what the rule demands of the client's certificate to what was proven.
func (d *draft) demand(spec *policy.RuleSpec) (question string) {
	if len(d.ids) == 0 {
		switch spec.Client.Certificate {
		case "none":
		case "optional":
			spec.Client.Certificate, spec.Client.Authorities, spec.Client.Allow, spec.Client.OnRevoked = "none", nil, nil, ""
		default:
			return fmt.Sprintf("Rule %s asks for a certificate, and its flows showed none. Nothing is suggested for it.", d.rule)
		}
		return ""
	}
	if !d.without {
		spec.Client.Certificate = "required"
	}
	if len(spec.Client.Allow) > 1 {
		return fmt.Sprintf("Rule %s has several alternatives in allow: by which of them does each client pass? Nothing is suggested for it.", d.rule)
	}
	var kept policy.AllowSpec // demands besides names
	if len(spec.Client.Allow) == 1 {
		kept = spec.Client.Allow[0]
	}
	authorities := map[string]bool{}
	for _, id := range d.ids {
		authorities[id.authority] = true
	}
	spec.Client.Authorities = slices.Sorted(maps.Keys(authorities))
	spec.Client.Allow = nil
	for _, id := range d.ids {
		a := kept
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
		if len(authorities) > 1 && id.issuer != "" {
			a.Issuer = []string{id.issuer}
		}
		spec.Client.Allow = append(spec.Client.Allow, a)
	}
	return ""
}

// label makes a name of a rule out of a host name.
func label(host string) string { return strings.ReplaceAll(host, "_", "-") }

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func day(s string) string { return s[:min(len(s), 10)] }
