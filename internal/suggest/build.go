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
	// conditioned says that the rule of the configuration has a condition.
	conditioned bool
	draft       *draft // nil for a rule of the configuration that denies
	kept        bool   // a rule of the configuration that denies, as it is
}

// clientsOf ends the name of the set of a rule's clients.
const clientsOf = "-clients"

func (r *Rule) set() string { return r.Spec.Name + clientsOf }

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
	sample  sample
}

// how is what paths must have in common to be in one rule.
func (d *draft) how() string {
	return fmt.Sprintf("%d %q %v %v %#v %v", d.action, d.rule, d.local, d.without, d.ids, len(d.snis) == 0)
}

func (d *draft) add(o *draft) {
	d.flows += o.flows
	d.first, d.last = min(d.first, o.first), max(d.last, o.last)
	maps.Copy(d.days, o.days)
}

// Rules makes the rules, and the questions. A suggested rule is one of the configuration,
// narrowed. wrong says by its number what is wrong with a rule of a policy.
func (s *Suggester) Rules(wrong func(policy.Spec) map[int]string) (rules []Rule, questions []string) {
	base := s.base
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
		for ; next < len(drafts) && index(drafts[next]) < i; next++ { // of a rule that is gone
			rules = s.append(rules, drafts[next], base, names)
		}
		for ; next < len(drafts) && index(drafts[next]) == i; next++ {
			rules = s.append(rules, drafts[next], base, names)
		}
		is := base[i]
		denies := is.Action == policy.Deny.String()
		switch {
		case !denies && is.Time == nil && is.ALPNOffered == nil:
		case strings.Contains(fmt.Sprint(is.From, is.To, is.SNI, is.ALPNOffered, is.JA4), "@"):
			// Without it the rules behind it are wider: none of them is suggested.
			s.asked["Rule "+is.Name+" comes before others, and names a set: which members? Nothing is suggested for the rules behind it."]++
			drafts = drafts[:next]
		case denies:
			rules = append(rules, Rule{Spec: is, Evidence: "denies, as it was", kept: true})
		case next < len(drafts):
			// At another time, or with another protocol, a path that was seen at a rule behind
			// it was one of this rule.
			rest := Rule{Spec: is}
			rest.Spec.Name = label(is.Name + "-rest")
			if names[rest.Spec.Name]++; names[rest.Spec.Name] > 1 {
				rest.Spec.Name = fmt.Sprintf("%s-%d", rest.Spec.Name, names[rest.Spec.Name])
			}
			rest = denied(rest)
			rest.Evidence = "what rule " + is.Name + " would take else, and was not seen"
			rules = append(rules, rest)
		}
	}
	for ; next < len(drafts); next++ {
		rules = s.append(rules, drafts[next], base, names)
	}
	rules = s.without(rules, wrong)
	for _, q := range slices.Sorted(maps.Keys(s.asked)) {
		questions = append(questions, plural(int(s.asked[q]), "flow")+": "+q)
	}
	if s.lost > 0 {
		questions = append(questions, plural(int(s.lost), "flow")+" found no room: give fewer records at once.")
	}
	if n := s.series.Again(); n > 0 {
		questions = append(questions, "Given twice, and counted once: "+plural(int(n), "record")+".")
	}
	return rules, questions
}

// append adds the rule of a draft. If there is only a question, it is one that denies.
func (s *Suggester) append(rules []Rule, d *draft, base []policy.RuleSpec, names map[string]int) []Rule {
	r, question := d.suggest(base, names)
	r.draft = d
	if question != "" {
		s.asked[question] += d.flows
		r = denied(r)
	}
	return append(rules, r)
}

// denied is a rule in the place of one about which there is a question: what it is for must
// not come to a rule behind it.
func denied(r Rule) Rule {
	r.Spec = policy.RuleSpec{
		Name: r.Spec.Name, From: r.Spec.From, Local: r.Spec.Local, To: r.Spec.To, SNI: r.Spec.SNI, ALPNOffered: r.Spec.ALPNOffered, Time: r.Spec.Time,
		Action: policy.Deny.String(),
	}
	r.Evidence, r.kept = "denied until a question below is answered", true
	return r
}

// without replaces the rules with which the policy is none: of each there is a question then.
func (s *Suggester) without(rules []Rule, wrong func(policy.Spec) map[int]string) []Rule {
	for range len(rules) + 1 { // each turn replaces or takes away at least one
		rules = needed(rules)
		found := wrong(Spec(rules))
		if len(found) == 0 {
			break
		}
		var left []Rule
		for i, r := range rules {
			why, is := found[i]
			switch {
			case !is:
				left = append(left, r)
			case !r.kept:
				s.asked[fmt.Sprintf("Let through by rule %s on the way to %s; a rule for exactly that cannot be: %s. Nothing is suggested for it.", named(r.draft.rule), strings.Join(r.draft.dsts, ", "), why)] += r.draft.flows
				left = append(left, denied(r))
			}
		}
		rules = left
	}
	return rules
}

// needed leaves out rules that deny in the place of others, and that no rule behind them
// shares a flow with.
func needed(rules []Rule) []Rule {
	return slices.DeleteFunc(slices.Clone(rules), func(r Rule) bool {
		if r.draft == nil || !r.kept {
			return false
		}
		at := slices.IndexFunc(rules, func(o Rule) bool { return o.draft == r.draft })
		return !slices.ContainsFunc(rules[at+1:], func(o Rule) bool { return o.draft != nil && !o.kept && r.draft.meets(o.draft) })
	})
}

// meets says whether some flow may be one of both.
func (d *draft) meets(o *draft) bool {
	common := func(a, b []string) bool {
		return slices.ContainsFunc(a, func(s string) bool { _, found := slices.BinarySearch(b, s); return found })
	}
	return common(d.clients, o.clients) && common(d.dsts, o.dsts) && (len(d.snis) == 0 || len(o.snis) == 0 || common(d.snis, o.snis))
}

// Spec is a policy of the rules.
func Spec(rules []Rule) policy.Spec {
	spec := policy.Spec{}
	for _, r := range rules {
		spec.Rules = append(spec.Rules, r.Spec)
		if len(r.Clients) > 0 {
			if spec.Sets == nil {
				spec.Sets = map[string]policy.SetSpec{}
			}
			spec.Sets[r.set()] = policy.SetSpec{Members: r.Clients}
		}
	}
	return spec
}

func (s *Suggester) drafts() []*draft {
	var out []*draft
	for p, u := range s.paths {
		if p.action == policy.Terminate && !u.without && len(u.proven) == 0 {
			continue // nobody has proven a name: asked already
		}
		d := &draft{
			action: p.action, rule: p.rule, local: p.local, ids: sorted(u.proven), without: u.without, flows: u.flows, first: u.first, last: u.last, days: maps.Clone(u.days),
			sample: u.sample, clients: []string{p.client.String()}, dsts: []string{p.dst.String()},
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

// suggest makes the rule. With a question it has no more than its name and its selectors.
func (d *draft) suggest(base []policy.RuleSpec, names map[string]int) (r Rule, question string) {
	at := slices.IndexFunc(base, func(b policy.RuleSpec) bool { return b.Name == d.rule })
	spec := policy.RuleSpec{Name: "seen", Action: d.action.String()}
	switch {
	case at < 0 && d.action != policy.Bypass:
		question = fmt.Sprintf("Rule %s is not in the configuration: how is %s terminated? Nothing is suggested for it.", named(d.rule), strings.Join(d.dsts, ", "))
	case at >= 0:
		spec = base[at]
		if word := spec.Action; word != d.action.String() && (word != "" || d.action != policy.Terminate) {
			question = fmt.Sprintf("Rule %s has another action in the configuration than then. Nothing is suggested for it.", d.rule)
		}
	}
	spec.Mode, spec.SameService = "", nil
	spec.To, spec.SNI, spec.Local = d.dsts, d.snis, d.local
	if i := slices.IndexFunc(d.snis, func(s string) bool { return s != noName }); i >= 0 {
		spec.Name = label(d.snis[i])
	}
	if names[spec.Name]++; names[spec.Name] > 1 {
		spec.Name = fmt.Sprintf("%s-%d", spec.Name, names[spec.Name])
	}
	r = Rule{ids: d.ids, without: d.without, conditioned: spec.Client.When != ""}
	if spec.From = d.clients; len(d.clients) > mostFrom {
		r.Clients, spec.From = d.clients, []string{"@" + spec.Name + clientsOf}
	}
	if r.Spec = spec; question != "" {
		return r, question
	}
	if d.action == policy.Terminate {
		if question := d.demand(&spec); question != "" {
			return r, question
		}
	}
	r.Spec = spec
	r.Evidence = fmt.Sprintf("%s, %s, %s from %s to %s", plural(int(d.flows), "flow"), plural(len(d.clients), "client"), plural(len(d.days), "day"), day(d.first), day(d.last))
	if n := identities(d.ids); n > 0 {
		r.Evidence += ", " + plural(n, "identity")
		r.Evidence = strings.Replace(r.Evidence, "identitys", "identities", 1)
	}
	return r, ""
}

// identities is how many there are, by whichever alternatives.
func identities(ids []identity) int {
	all := map[identity]bool{}
	for _, id := range ids {
		id.alternative = 0
		all[id] = true
	}
	return len(all)
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
	alternatives := spec.Client.Allow
	if alternatives == nil {
		alternatives = []policy.AllowSpec{{}}
	}
	authorities := map[string]bool{}
	names, pairs, allowed := map[identity]bool{}, map[identity]bool{}, map[identity]bool{}
	spec.Client.Allow = nil
	for _, id := range d.ids {
		authorities[id.authority] = true
		by := id
		id.alternative = 0
		pairs[id] = true
		id.authority = ""
		names[id] = true
		if by.authority = ""; !allowed[by] { // each name, by each alternative that it may have passed by
			allowed[by] = true
			spec.Client.Allow = append(spec.Client.Allow, by.allow(alternatives[by.alternative]))
		}
	}
	spec.Client.Authorities = slices.Sorted(maps.Keys(authorities))
	if len(names)*len(authorities) == len(pairs) {
		return "" // each name was proven by each authority
	}
	when := byAuthority(d.ids)
	if d.without {
		when = "!cert.present || " + when
	}
	if spec.Client.When != "" {
		when = "(\n" + string(spec.Client.When) + "\n) && (" + when + ")"
	}
	if spec.Client.When = policy.Expression(when); len(when) > maxCondition {
		return fmt.Sprintf("Rule %s has several authorities, and %d identities of theirs on the way to %s are more than a condition can tell apart: can it be a rule for each authority? Nothing is suggested for it.", d.rule, len(d.ids), strings.Join(d.dsts, ", "))
	}
	return ""
}

// maxCondition is how long a condition may be, in bytes (policy.md).
const maxCondition = 4096

// byAuthority is a condition that binds each name to the authorities that it was proven by.
// An issuer's name does not: an authority gives what names it likes.
func byAuthority(ids []identity) string {
	names, seen := map[string][]string{}, map[identity]bool{}
	for _, id := range ids {
		if id.alternative = 0; seen[id] {
			continue
		}
		seen[id] = true
		has := fmt.Sprintf("%q in cert.%s", id.value, id.field)
		if id.field == "spki" {
			has = fmt.Sprintf("cert.spki == %q", id.value)
		}
		names[id.authority] = append(names[id.authority], has)
	}
	var all []string
	for _, authority := range slices.Sorted(maps.Keys(names)) {
		all = append(all, fmt.Sprintf("cert.authority == %q && (%s)", authority, strings.Join(names[authority], " || ")))
	}
	return strings.Join(all, "\n|| ")
}

// maxLabel is what a rule's name may take of a host name, in bytes: a number and "-clients"
// for its set have room behind it.
const maxLabel = 48

// label makes a name of a rule out of a host name.
func label(host string) string {
	name := strings.ReplaceAll(host, "_", "-")
	return strings.TrimRight(name[:min(len(name), maxLabel)], ".-")
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func day(s string) string { return s[:min(len(s), 10)] }
