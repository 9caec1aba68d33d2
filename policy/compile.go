package policy

import (
	"fmt"
	"slices"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/fielderr"
	"github.com/sslgate/sslgate/internal/reason"
	"github.com/sslgate/sslgate/internal/upgrade"
	"github.com/sslgate/sslgate/policy/pattern"
)

// maxRuleName bounds a rule's name, in bytes: it stands in every record.
const maxRuleName = 64

// Compile turns what is written into a Set. Everything wrong is found at
// once; paths are relative to the policy section ("rules[2].sni[0]"), and what
// is missing has the path where it would stand. The Set is nil if any finding
// is more than a warning.
func Compile(spec Spec, env Environment) (*Set, []*fielderr.Error) {
	return newCompiler(spec, env).compile(spec)
}

// compile is Compile.
func (c *compiler) compile(spec Spec) (*Set, []*fielderr.Error) {
	if spec.Default != "" && spec.Default != Deny.String() {
		c.list.Addf("default", "%q is not possible: what no rule fits is denied, so write %q or leave it out", spec.Default, Deny)
	}
	if len(spec.Rules) == 0 {
		c.list.Warnf("rules", "there is no rule, so every flow is denied")
	}
	for i := range spec.Rules {
		if c.over() {
			return nil, fielderr.All(c.list.Err())
		}
		c.rule(i, &spec.Rules[i])
	}
	c.finish()
	c.neverMatch()
	c.unanswered()
	c.takenForSelector()
	c.sameService(spec.Rules)
	c.weakerDemands()
	c.waitsForHello()
	c.otherDialogue()
	c.noHeader()
	c.sets.unused()
	if c.over() {
		return nil, fielderr.All(c.list.Err())
	}
	findings := fielderr.All(c.list.Err())
	if c.list.Failed() {
		return nil, findings
	}
	c.set.id = c.digest()
	return c.set, findings
}

// over says that whoever compiles has given up.
func (c *compiler) over() bool { return c.env.Over != nil && c.env.Over() }

// compiler carries one Compile.
type compiler struct {
	env   Environment
	set   *Set
	list  fielderr.List
	able  *handshake.Capabilities // the engine's
	mode  Mode                    // of rules that have none of their own
	names map[string]bool         // rule names taken
	sets  *sets
	when  conditions
	dead  map[int]bool // rules that can never match
	// whole says for every rule how far it could be read: what follows from a
	// part that could not be is left unsaid.
	whole []parts
	// limit is the budget of each search over pairs of rules, compared what all of
	// them have taken.
	limit, compared int
}

func newCompiler(spec Spec, env Environment) *compiler {
	c := &compiler{
		env: env, able: env.Engine.Capabilities(), limit: maxComparisons,
		set: &Set{engine: env.Engine, alerts: map[reason.Code]handshake.Alert{}}, names: map[string]bool{},
	}
	for _, e := range reason.All() {
		c.set.alerts[e.Code] = handshake.AlertOf(e.Code)
	}
	c.sets = newSets(&c.list, spec.Sets, &c.env)
	c.when.done, c.dead = map[string]*condition{}, map[int]bool{}
	c.mode, _ = oneOf(newScope(&c.list, ""), "mode", spec.Mode, Enforce, Observe)
	if c.mode == Observe {
		open := &rule{action: Bypass, observe: true}
		open.plan = Plan{Mode: TLSPlain, Observed: true, Source: env.Source, rule: open, set: c.set}
		c.set.open = open
	}
	return c
}

// finish makes what follows from all the rules together.
func (c *compiler) finish() {
	var all []authority
	named := map[string]bool{}
	for _, r := range c.set.rules {
		c.set.passes = c.set.passes || r.observe && r.action == Deny
		c.set.timed = c.set.timed || r.window != nil
		c.set.upgrades = c.set.upgrades || r.upgrade != upgrade.None
		r.trusted, r.destTrusted = newTrust(r.authorities), newTrust(r.destination)
		for _, a := range slices.Concat(r.authorities, r.destination) {
			if !named[a.Name] {
				named[a.Name], all = true, append(all, a)
			}
		}
	}
	c.set.trust = newTrust(all)
	c.set.index = newRuleIndex(c.set.rules)
}

// parts says which parts of a rule were read without a mistake.
type parts struct{ selectors, demands bool }

// rule compiles one rule and appends it to the set.
func (c *compiler) rule(i int, spec *RuleSpec) {
	r := &rule{name: spec.Name}
	r.plan = Plan{Rule: r.name, Mode: TLSPlain, Source: c.env.Source, rule: r, set: c.set}
	path := fmt.Sprintf("rules[%d]", i)
	c.sets.named = nil

	c.ruleName(newScope(&c.list, path), spec.Name)
	selectors := c.scope(path)
	c.selectors(selectors, r, spec)
	demands := c.scope(path)
	r.observe = c.ruleMode(demands, spec.Mode) == Observe
	var known bool
	if r.action, known = oneOf(demands, "action", spec.Action, Terminate, Bypass, Originate, Deny); known {
		c.demands(demands, r, spec)
	}
	if r.observe {
		r.widen(c.able)
	}
	slices.Sort(c.sets.named)
	r.sets = slices.Compact(c.sets.named)
	c.set.rules = append(c.set.rules, r)
	c.whole = append(c.whole, parts{selectors: !*selectors.failed, demands: !*demands.failed})
}

// scope is a mapping of a rule, whose lists can name sets.
func (c *compiler) scope(path string) scope {
	s := newScope(&c.list, path)
	s.sets, s.able = c.sets, c.able
	return s
}

// ruleMode: a rule's own word counts, else the policy's.
func (c *compiler) ruleMode(at scope, word string) Mode {
	if word == "" {
		return c.mode
	}
	mode, _ := oneOf(at, "mode", word, Enforce, Observe)
	return mode
}

func (c *compiler) ruleName(at scope, name string) {
	if name == "" {
		at.errorf("name", "the rule has no name")
		return
	}
	for _, ch := range name {
		if ch >= 0x80 || !pattern.IsLetterOrDigit(byte(ch)) && ch != '-' && ch != '_' && ch != '.' {
			at.errorf("name", `a rule's name is made of letters, digits, "-", "_" and "."; this one has %q`, ch)
			return
		}
	}
	if len(name) > maxRuleName {
		at.errorf("name", "a rule's name has at most %d bytes", maxRuleName)
	}
	if c.names[name] {
		at.errorf("name", "an earlier rule has the name %q too", name)
	}
	c.names[name] = true
}

// selectors compiles what a flow must fit.
func (c *compiler) selectors(at scope, r *rule, spec *RuleSpec) {
	r.local = spec.Local
	r.from = parseList(at, "from", spec.From, prefixKind)
	if spec.To == nil {
		at.errorf("to", `the rule has no "to": it must say which destinations it is for, "*:443" for any host`)
	}
	r.to = parseList(at, "to", spec.To, endpointKind)
	r.window = c.timeWindow(at, spec.Time)
	r.sni = parseList(at, "sni", spec.SNI, sniKind)
	r.offered = protocols(at, "alpn_offered", spec.ALPNOffered)
	r.ja4 = parseList(at, "ja4", spec.JA4, ja4Kind)
	if !*at.failed && !r.familiesMeet() {
		at.errorf("", `the rule can never match: "from" and "to" have no address family in common`)
	}
}

// protocols compiles a list of application protocols.
func protocols(at scope, field string, list []string) []string {
	all := parseItems(at, field, list, parseALPN)
	if len(all) > handshake.MaxALPN {
		at.errorf(fmt.Sprintf("%s[%d]", field, handshake.MaxALPN), "the list has %d protocols, at most %d are possible: no more are read of what a client offers, and a destination is offered the list", len(all), handshake.MaxALPN)
	}
	doubtProtocols(at, field, list)
	return all
}

// parseALPN: a protocol name has 1 to 255 bytes (RFC 7301, section 3.1); those
// in use are printable.
func parseALPN(s string) (string, error) {
	switch {
	case s == "":
		return "", fmt.Errorf("the protocol is empty")
	case len(s) > 255:
		return "", fmt.Errorf("a protocol has at most 255 bytes")
	case !pattern.PlainText(s):
		return "", fmt.Errorf("a protocol is a printable word, such as \"h2\" or \"http/1.1\"")
	}
	return s, nil
}

// demands compiles what the rule does with a flow that fits.
func (c *compiler) demands(at scope, r *rule, spec *RuleSpec) {
	oneOf(at, "plaintext", spec.Plaintext, Deny)
	c.upgrade(at, r, spec)
	if spec.JA4 != nil && r.action != Deny {
		at.errorf("ja4", "with action %s the rule would let through by what a client can imitate: ja4 is for action deny; write a rule with action: deny in front (and mode: observe if it shall only be recorded), and leave ja4 out here", r.action)
	}
	if spec.Destination.ToPort != 0 && r.action != Originate {
		at.errorf("destination.to_port", "with action %s the destination's port is the one that the client dials; to_port is for action originate", r.action)
	}
	if r.action == Originate {
		c.originate(at, r, spec)
		return
	}
	if r.action != Terminate {
		if r.action == Bypass && spec.Mode == Observe.String() {
			at.warnf("mode", "action bypass demands nothing, so there is nothing to observe")
		}
		onlyForTerminate(at, r.action, spec)
		if r.action == Bypass {
			c.source(at.in("destination"), r, &spec.Destination)
		}
		return
	}
	c.terminate(at, r, spec)
}

// onlyForTerminate refuses demands that the action cannot keep: whoever wrote
// them believes that they are kept.
func onlyForTerminate(at scope, action Action, spec *RuleSpec) {
	for _, f := range []struct {
		name string
		set  bool
	}{
		{"alpn", spec.ALPN != nil},
		{"identity", spec.Identity != ""},
		{"profile", spec.Profile != ""},
		{"client", spec.Client.Certificate != "" || spec.Client.Authorities != nil || spec.Client.Allow != nil || spec.Client.When != ""},
		{"destination", !forAction(action, spec.Destination).isZero()},
	} {
		switch {
		case f.set && f.name == "alpn":
			at.errorf(f.name, "with action %s nobody is answered a protocol, and alpn is what the rule answers; for what the client offers write alpn_offered", action)
		case f.set:
			at.errorf(f.name, "with action %s nothing looks at this; it is for action terminate", action)
		}
	}
}
