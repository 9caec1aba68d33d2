package policy

import (
	"cmp"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/certname"
	"github.com/sslgate/sslgate/internal/reason"
	"github.com/sslgate/sslgate/internal/upgrade"
	"github.com/sslgate/sslgate/policy/pattern"
)

// Trace is what became of one rule, or of one demand of the rule that fits.
// Its texts may quote the peer: escape them where they are shown.
type Trace struct {
	Rule string // name of the rule
	// Index of the rule in the policy, from 0.
	Index int
	// Fits says that every selector fits, or that the demand is met.
	Fits bool
	// Passed says that the rule fits and is passed over: an observed deny.
	Passed bool
	// Condition that was looked at: the first selector that does not fit
	// ("local", "from", "to", "time", "upgrade", "sni", "alpn_offered", "ja4"), or the demand.
	Condition string
	Seen      string // what the flow has
	Wanted    string // what the rule asks for
}

// Explanation is a decision with what led to it.
type Explanation struct {
	// Moment the decision was made at: "syn", "hello", "peer" or "destination".
	Moment string
	// Rules that were tried, in order, up to and with the one that fits.
	Rules []Trace
	// Demands of the rule that fits, in the order they are asked, up to and
	// with the first that is not met; of allow, where no entry fits, the first
	// field of each that does not.
	Demands []Trace
	Verdict Verdict
	// Decided is false where the answer needs a client hello that the facts
	// do not have.
	Decided bool
	// Reason documents Verdict.Reason, or Verdict.Would.Reason where the
	// refusal was only observed.
	Reason reason.Entry
	// Change says what would have to be different for the flow to go through;
	// empty where it does.
	Change []string
}

// Explain decides a flow as far as the facts go, as Redecide does, and says why.
func (s *Set) Explain(f Facts) *Explanation {
	d := s.Redecide(f)
	e := &Explanation{Moment: d.Moment, Verdict: d.Verdict, Decided: d.Decided}
	if flow, _, ok := s.subject(f); ok {
		e.trace(s, &flow, d.Facts)
	}
	v := e.Verdict
	code := v.Reason
	if v.Would.Deny {
		code = v.Would.Reason
	}
	e.Reason, _ = reason.Lookup(code)
	if e.Decided && (v.Action == Deny || v.Would.Deny) {
		e.Change = e.changes()
	}
	return e
}

// Shown adds a client's certificates to the facts of a flow, as if it had shown
// them and proven its key: what tests of a policy use in the place of a
// handshake. Redecide verifies them.
func (s *Set) Shown(f Facts, chain []*x509.Certificate) Facts {
	f.Peer = nil
	if v := s.OnHello(f); v.Action == Terminate && len(chain) > 0 && v.Plan.Client.ClientAuth != handshake.ClientAuthNone {
		f.Peer = &handshake.Peer{Shown: chain, Proven: true}
	}
	return f
}

// trace tries the rules in turn, without the index.
func (e *Explanation) trace(s *Set, flow *subject, f Facts) {
	for i, r := range s.rules {
		sel := r.match(flow)
		t := Trace{Rule: r.name, Index: i, Fits: sel == selNone}
		if sel != selNone {
			t.Condition, t.Seen, t.Wanted = r.tell(sel, flow)
		}
		t.Passed = t.Fits && r.observe && r.action == Deny
		e.Rules = append(e.Rules, t)
		if t.Passed {
			continue
		}
		if sel == selNone && r.action == Terminate && flow.hello != nil {
			e.demands(s.engine, r, i, f, flow)
		}
		if sel == selNone || sel == selHello {
			return
		}
	}
}

// tell says in words what a selector saw and what it wants.
func (r *rule) tell(sel selector, f *subject) (condition, seen, wanted string) {
	switch sel {
	case selLocal:
		return "local", "a client that came in by an interface", "a program of this host"
	case selSource:
		return "from", f.src.Addr().String(), r.from.words()
	case selDestination:
		return "to", f.dst.String(), r.to.words()
	case selTime:
		return "time", f.now.In(r.window.zone).Format("Mon 15:04 MST"), r.window.String()
	case selUpgrade:
		return "upgrade", "a client that begins with " + f.began.Begins() + ", where it is waited for " + f.dialogue.Begins(), r.upgrade.Begins()
	case selSNI:
		switch {
		case !f.hello.SNIPresent:
			seen = "no server name"
		case sniOf(f.hello) == "":
			seen = "a server name that is no host name: " + clip(f.hello.SNISent)
		default:
			seen = clip(f.hello.ServerName)
		}
		wanted = r.sni.words()
		if r.sni.has(pattern.Host{}) {
			wanted += ` ("-" is no server name)`
		}
		return "sni", seen, wanted
	case selALPN:
		return "alpn_offered", strings.Trim(quoted(f.hello.ALPN), " ()"), orWords(r.offered)
	case selJA4:
		return "ja4", f.fingerprint(), r.ja4.words()
	default:
		return "hello", "no client hello yet", "a client hello, to look at " + r.helloSelectors()
	}
}

// demands asks what OnHello and OnPeer ask, one after the other.
func (e *Explanation) demands(engine handshake.Planner, r *rule, i int, f Facts, flow *subject) {
	add := func(condition string, fits bool, seen, wanted string) bool {
		e.Demands = append(e.Demands, Trace{Rule: r.name, Index: i, Fits: fits, Condition: condition, Seen: seen, Wanted: wanted})
		return fits
	}
	if r.upgrade != upgrade.None {
		refused := r.direct(flow)
		if !add("upgrade", refused == nil, "a client that begins with "+f.Upgrade.Begins(), r.upgrade.Begins()+", or TLS that offers "+r.upgrade.ALPN()) && !r.observe {
			return
		}
	}
	var refused *handshake.Error
	if refused = f.Hello.Acceptable(r.plan.Client.Profile); r.observe {
		asked := *r.plan.Client
		asked.ALPN, asked.AnswersNone = nil, false // asked below
		refused = engine.Refuses(&asked, f.Hello)
	}
	if refused != nil {
		add("profile", false, refused.Detail, "profile "+r.plan.Client.Profile.Name)
		if !r.observe {
			return
		}
	} else {
		add("profile", true, f.Hello.Summary(), "profile "+r.plan.Client.Profile.Name)
	}
	if !e.demandProtocol(r, f, add) && !r.observe {
		return
	}
	e.demandsOfPeer(r, f, add)
}

// demandProtocol tells what is answered to the client's protocols, where it offers
// any and the rule knows the answer.
func (e *Explanation) demandProtocol(r *rule, f Facts, add func(condition string, fits bool, seen, wanted string) bool) bool {
	if len(f.Hello.ALPN) == 0 || len(r.alpn) == 0 && !r.plan.Client.AnswersNone {
		return true
	}
	return add("alpn", r.plan.Client.RefusesProtocols(f.Hello) == nil, "offered"+quoted(f.Hello.ALPN), "answered: "+cmp.Or(orWords(r.alpn), "none"))
}

func (e *Explanation) demandsOfPeer(r *rule, f Facts, add func(condition string, fits bool, seen, wanted string) bool) {
	if r.auth == handshake.ClientAuthNone && f.Peer == nil {
		add("certificate", true, "not asked for", r.auth.String())
		e.demandWhen(r, f, nil, add)
		return
	}
	names := make([]string, len(r.authorities))
	for i, a := range r.authorities {
		names[i] = a.Name
	}
	if f.Peer == nil {
		if add("certificate", r.auth == handshake.ClientAuthOptional, "none shown", r.auth.String()+", of "+orWords(names)) {
			e.demandWhen(r, f, nil, add)
		}
		return
	}
	add("certificate", true, describe(f.Peer.Leaf()), r.auth.String())
	if refusal := f.Peer.Refusal; refusal != nil {
		add("chain", false, string(refusal.Reason)+": "+refusal.Detail, "authority "+orWords(names))
		return
	}
	var permits *permits
	known := false
	for _, a := range r.authorities {
		if a.Name == f.Peer.Authority {
			permits, known = a.permits, true
		}
	}
	if !add("chain", known && len(f.Peer.Chain) > 0, "authority "+f.Peer.Authority, "authority "+orWords(names)) {
		return
	}
	c, err := readClaims(f)
	if err != nil {
		add("names", false, err.Error(), "names that can be decoded")
		return
	}
	if permits != nil {
		refusal := permits.refusal(&c.names)
		seen := "every name permitted"
		if refusal != "" {
			seen = refusal
		}
		if !add("permits", refusal == "", seen, "names that authority "+f.Peer.Authority+" may speak for") {
			return
		}
	}
	fits := slices.IndexFunc(r.allow, func(a alternative) bool { return a.unmet(c) == nil })
	switch {
	case fits >= 0:
		add(fmt.Sprintf("allow[%d]", fits), true, "every field fits", r.allow[fits].words())
	case len(r.allow) > 0:
		for i := range r.allow[:min(len(r.allow), maxAlternatives)] {
			d := r.allow[i].unmet(c)
			add(fmt.Sprintf("allow[%d].%s", i, d.field), false, strings.Trim(quoted(d.seen(c)), " ()"), d.wanted)
		}
		return
	}
	e.demandWhen(r, f, c, add)
}

func (e *Explanation) demandWhen(r *rule, f Facts, c *claims, add func(condition string, fits bool, seen, wanted string) bool) {
	if r.when == nil {
		return
	}
	ok, err := r.when.holds(f, c)
	seen := "true"
	switch {
	case err != nil:
		seen = "error: " + err.Error()
	case !ok:
		seen = "false"
	}
	if values := r.when.values(&activation{facts: f, claims: c}); values != "" {
		seen += ", with " + values
	}
	add("when", ok && err == nil, seen, clip(r.when.text))
}

// describe names a certificate for a person: its subject, or a name of it.
func describe(leaf *x509.Certificate) string {
	if s := certname.Subject(leaf); s != "" {
		return clip(s)
	}
	names, err := certname.ReadAltNames(leaf.Extensions)
	if all := slices.Concat(names.URI, names.DNS, names.Email); err == nil && len(all) > 0 {
		return clip(all[0])
	}
	return fmt.Sprintf("one without a name, serial %x", leaf.SerialNumber)
}

// words is the alternative for a person.
func (a *alternative) words() string {
	var parts []string
	for _, d := range a.demands {
		parts = append(parts, d.field+" "+d.wanted)
	}
	return strings.Join(parts, " and ")
}

// maxChanges bounds what is said to change: the nearest rules are enough.
const maxChanges = 5

// changes lists what would let the flow through: for a refusal by the rule
// what it asks for, for a refusal by the default the rules that failed at one
// selector.
func (e *Explanation) changes() []string {
	if v := e.Verdict; v.Reason == reason.ClientSpeaksTLS || v.Would.Reason == reason.ClientSpeaksTLS {
		return []string{"a client that speaks without TLS"}
	}
	var out []string
	for _, d := range e.Demands {
		if !d.Fits && len(out) < maxChanges {
			out = append(out, fmt.Sprintf("%s: %s instead of %s", d.Condition, d.Wanted, d.Seen))
		}
	}
	if len(out) > 0 {
		return out
	}
	// The rule that fits, then those that came closest.
	for _, condition := range [...]string{"", "hello", "upgrade", "alpn_offered", "sni", "time", "to", "from", "local"} {
		for _, t := range e.Rules {
			switch {
			case t.Condition != condition || len(out) >= maxChanges:
			case t.Fits:
				out = append(out, fmt.Sprintf("rule %s: take it away, narrow it, or put a rule that lets through before it", t.Rule))
			default:
				out = append(out, fmt.Sprintf("to come to rule %s: %s %s instead of %s", t.Rule, t.Condition, t.Wanted, t.Seen))
			}
		}
	}
	if len(out) == 0 {
		out = append(out, "a rule for this flow: there is none at all")
	}
	return out
}
