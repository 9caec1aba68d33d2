// Package replay asks a policy about the flows of audit records: who would be decided
// differently by it. Where the records have not what the answer needs, it says so.
package replay

import (
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/audit"
	"github.com/sslgate/sslgate/internal/policytest"
	"github.com/sslgate/sslgate/internal/reason"
	"github.com/sslgate/sslgate/policy"
)

const (
	// maxGroups bounds the differences that are told apart, about 1 KiB each.
	maxGroups = 4096
	// maxClients bounds the clients of one group that are counted.
	maxClients = 4096
	// listed is how many clients of a group are named.
	listed = 5
)

// Group is flows that would be decided differently in the same way. Its names in JSON are
// stable.
type Group struct {
	Kind      string   `json:"kind"` // as the shadow of a record: shadow_denies is "now refused"
	Rule      string   `json:"rule"` // that decided; "" for the default
	Reason    string   `json:"reason"`
	NewRule   string   `json:"new_rule"`
	NewReason string   `json:"new_reason"` // "" where a certificate would be asked for
	Flows     int64    `json:"flows"`
	Clients   int      `json:"clients"` // at most maxClients are told apart
	Some      []string `json:"some_clients"`
	Example   string   `json:"example"` // id of the first of its records
	order     policy.DifferenceKind
	addresses map[netip.Addr]struct{}
}

// Unknown is flows about which a record does not say enough.
type Unknown struct {
	Why   string `json:"why"`
	Rule  string `json:"rule"` // of the new policy, "" where not even that is known
	Flows int64  `json:"flows"`
}

// Result is what a replay found.
type Result struct {
	Policy    string    `json:"policy"`     // digest of the new policy
	Flows     int64     `json:"flows"`      // records
	Same      int64     `json:"same"`       // decided as they were
	Different int64     `json:"different"`  // in Groups, and Rest
	Uncertain int64     `json:"uncertain"`  // in Unknown
	Undecided int64     `json:"undecided"`  // no policy had its word: no hello came, a limit was met
	Groups    []Group   `json:"groups"`     // those to look at first in front
	Rest      int64     `json:"not_listed"` // different flows of groups for which there was no room
	Unknown   []Unknown `json:"unknown"`
	Again     int64     `json:"again"` // records that were given twice, and count once
}

type groupKey struct {
	kind                             policy.DifferenceKind
	rule, reason, newRule, newReason string
}

type unknownKey struct{ why, rule string }

// Replay is a policy with what it was asked. It is for one goroutine.
type Replay struct {
	set     *policy.Set
	r       Result
	groups  map[groupKey]*Group
	unknown map[unknownKey]int64
	series  audit.Series
}

// New begins a replay.
func New(set *policy.Set) *Replay {
	return &Replay{set: set, r: Result{Policy: set.ID()}, groups: map[groupKey]*Group{}, unknown: map[unknownKey]int64{}}
}

// Add asks about one line of an audit log. The error says why it is no record.
func (r *Replay) Add(line []byte) error {
	p, err := audit.Parse(line)
	if err != nil {
		return err
	}
	if p.Msg != "flow" {
		return errors.New("no record of a flow")
	}
	f, err := facts(p)
	if err != nil {
		return err
	}
	if r.series.Add(p.ID, p.Seq, p.Time) {
		return nil
	}
	r.r.Flows++
	was, ok := Enforced(p)
	if !ok {
		switch code := reason.Code(p.Reason); {
		case !Known(p):
			r.uncertain("its record is of a version that has other reasons or actions", "")
		case code == reason.Revoked, code == reason.RevocationUnknown, code == reason.PolicyChanged:
			r.uncertain("it was refused for what no policy knows: "+p.Reason, "")
		default:
			r.r.Undecided++
		}
		return nil
	}
	is, why := r.decide(p, was, f)
	if why != "" {
		r.uncertain(why, is.Rule)
		return nil
	}
	d, differ := policy.Compare(was, is)
	if !differ {
		r.r.Same++
		return nil
	}
	r.differs(p, d, f.Src.Addr())
	return nil
}

func (r *Replay) uncertain(why, rule string) {
	r.r.Uncertain++
	if k := (unknownKey{why, rule}); len(r.unknown) < maxGroups || r.unknown[k] > 0 {
		r.unknown[k]++
	}
}

// Lets says whether the policy surely lets the flow of a record pass now as it did then, by
// the same rule and with the same action.
func (r *Replay) Lets(p *audit.Parsed) bool {
	f, err := facts(p)
	if err != nil {
		return false
	}
	was, ok := Enforced(p)
	if !ok || !was.Action.Lets() {
		return false
	}
	is, why := r.decide(p, was, f)
	return why == "" && is.Action == was.Action && is.Rule == was.Rule && !is.Would.Deny
}

func (r *Replay) differs(p *audit.Parsed, d policy.Difference, client netip.Addr) {
	r.r.Different++
	k := groupKey{d.Kind, d.EnforcedRule, string(d.EnforcedReason), d.ShadowRule, string(d.ShadowReason)}
	g := r.groups[k]
	if g == nil {
		if len(r.groups) >= maxGroups {
			r.r.Rest++
			return
		}
		g = &Group{
			Kind: d.Kind.String(), Rule: k.rule, Reason: k.reason, NewRule: k.newRule, NewReason: k.newReason,
			Example: p.ID, order: d.Kind, addresses: map[netip.Addr]struct{}{},
		}
		r.groups[k] = g
	}
	g.Flows++
	if _, known := g.addresses[client]; known || len(g.addresses) >= maxClients {
		return
	}
	g.addresses[client] = struct{}{}
	if len(g.Some) < listed {
		g.Some = append(g.Some, client.String())
	}
}

// Result is what was found so far.
func (r *Replay) Result() Result {
	out := r.r
	out.Groups, out.Unknown, out.Again = []Group{}, []Unknown{}, r.series.Again()
	for _, g := range r.groups {
		c := *g
		c.Clients = len(g.addresses)
		out.Groups = append(out.Groups, c)
	}
	slices.SortFunc(out.Groups, func(a, b Group) int {
		return cmp.Or(cmp.Compare(a.order, b.order), cmp.Compare(b.Flows, a.Flows), cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.NewRule, b.NewRule),
			cmp.Compare(a.Reason, b.Reason), cmp.Compare(a.NewReason, b.NewReason))
	})
	for k, n := range r.unknown {
		out.Unknown = append(out.Unknown, Unknown{k.why, k.rule, n})
	}
	slices.SortFunc(out.Unknown, func(a, b Unknown) int {
		return cmp.Or(cmp.Compare(b.Flows, a.Flows), cmp.Compare(a.Why, b.Why), cmp.Compare(a.Rule, b.Rule))
	})
	return out
}

// facts are those of a record. It has no certificates.
func facts(p *audit.Parsed) (policy.Facts, error) {
	var f policy.Facts
	var err error
	if f.Now, err = time.Parse(time.RFC3339Nano, p.Time); err != nil {
		return f, errors.New("no time that can be read")
	}
	if f.Src, err = netip.ParseAddrPort(p.Client); err != nil || f.Src.Addr().Zone() != "" {
		return f, errors.New("no client that can be read")
	}
	if f.Dst, err = netip.ParseAddrPort(p.Destination); err != nil || f.Dst.Addr().Zone() != "" {
		return f, errors.New("no destination that can be read")
	}
	f.Local = audit.Direction(p.Direction) == audit.LocalOut
	if f.Upgrade, err = policytest.ParseUpgrade(p.Upgrade); err != nil {
		return f, errors.New("no upgrade that is known")
	}
	f.Hello, err = p.Hello.ClientHello(p.SNI, p.Offered())
	return f, err
}

// decides says whether a refusal is one of the policy. handshaking: its hello was accepted.
func decides(code reason.Code, step int, handshaking bool, rule string) bool {
	switch code {
	case reason.Revoked, reason.RevocationUnknown, reason.PolicyChanged, reason.NoPossession:
		return false // other facts than a policy has
	case reason.NoRule, reason.OutsideTime, reason.RuleDeny, reason.NoALPN, reason.SNIMissing, reason.SNIUnknown, reason.SNIInvalid, reason.ClientSpeaksTLS:
		return true
	case reason.NotUpgraded, reason.UpgradeMalformed, reason.UpgradeInjected, reason.UpgradeCancel:
		return false // of what was said before TLS, which a record has not
	case reason.ProtocolVersion, reason.NoCommonSuite, reason.NoCommonGroup, reason.NoCommonSigAlg, reason.NoExtendedMasterSecret:
		return !handshaking && rule != "" // else it was found in the handshake, or before any rule
	}
	return step == int(handshake.StepClientCertificate) || step == int(handshake.StepClientVerified)
}

// decide is what the policy says of the facts of a record. why says what the record has not,
// "" if the answer is certain.
func (r *Replay) decide(p *audit.Parsed, was policy.Verdict, f policy.Facts) (v policy.Verdict, why string) {
	bare := f
	bare.Hello = nil
	syn, decided := r.set.OnSYN(bare)
	switch {
	case decided && was.Action != policy.Deny, decided && f.Hello == nil:
		return syn, ""
	case was.Action == policy.Originate:
		// The policy waits for a hello, and this client sends none.
		return policy.Verdict{Reason: reason.NotTLS}, ""
	case f.Hello == nil:
		return policy.Verdict{}, "the answer needs the client's hello, which was not read"
	case decided:
		return syn, ""
	case p.Hello.Partly:
		return r.partly(p, f)
	}
	v = r.set.OnHello(f)
	if v.Action != policy.Terminate {
		return v, ""
	}
	return r.peer(p, was, f, v)
}

// partly is decide for a hello of which the record has a part: its fingerprint, which is that
// of the whole, and what it offers as far as it fits. Whether its server name is a valid one is
// not known, nor what else a rule that terminates holds against its profile.
func (r *Replay) partly(p *audit.Parsed, f policy.Facts) (policy.Verdict, string) {
	const why = "the answer needs the client's hello, of which the record has only a part"
	if p.Hello.JA4 == "" || !p.WholeALPN() {
		return policy.Verdict{}, why
	}
	f.JA4 = p.Hello.JA4
	hello := *f.Hello
	if p.SNI != "" { // its extension may be one of those that are left out
		hello.SNIPresent, hello.SNIInvalid = true, false
	}
	f.Hello = &hello
	v := r.set.OnHello(f)
	hello.SNIPresent, hello.SNIInvalid = true, true
	other := r.set.OnHello(f)
	switch {
	case v.Action != other.Action, v.Rule != other.Rule, v.Reason != other.Reason, v.Would != other.Would:
	case v.Action == policy.Bypass, v.Action == policy.Deny && decidesWithout(v.Reason):
		return v, ""
	}
	return policy.Verdict{Rule: v.Rule}, why
}

// decidesWithout says whether a refusal at the hello is one of the rules' selectors alone.
func decidesWithout(code reason.Code) bool {
	switch code {
	case reason.RuleDeny, reason.NoRule, reason.OutsideTime, reason.NoALPN:
		return true
	}
	return false
}

// peer is decide for a flow whose hello comes to a rule that terminates.
func (r *Replay) peer(p *audit.Parsed, was policy.Verdict, f policy.Facts, hello policy.Verdict) (policy.Verdict, string) {
	plan := hello.Plan
	digest := plan.Digest()
	// An absent certificate counts only where the record shows that one was asked for.
	asked := p.Peer != nil || was.Reason == reason.OKNoCertificate || was.Reason == reason.NoCertificate || p.WouldReason == string(reason.NoCertificate)
	switch {
	case p.RuleDigest == hex.EncodeToString(digest[:8]) && p.Rule == plan.Rule && reached(was):
		return sameDemands(p, was, hello), ""
	case plan.Client.ClientAuth == handshake.ClientAuthNone:
	case was.Action == policy.Bypass:
		return hello, "" // whatever its certificate: it is terminated now
	case !asked:
		return hello, "the rule asks for a certificate, and it is not known that one was asked for then"
	case p.Peer != nil:
		return hello, "the rule's demands are others now, and the record has no certificate but its names"
	default:
		return hello, "the rule's demands are others now, and a client that has shown no certificate may have one for them"
	}
	if plan.AsksAgreed() {
		return hello, "the rule asks what the handshake agrees on, and that would be agreed on anew"
	}
	f.State = policytest.Agreed(f.Hello, plan.Client.Profile, plan.Client.ALPN)
	return r.set.Redecide(f).Verdict, ""
}

// reached says whether a verdict is about a flow whose hello came to a rule that terminates.
func reached(v policy.Verdict) bool {
	e, _ := reason.Lookup(v.Reason)
	return v.Action == policy.Terminate || e.Step == int(handshake.StepClientCertificate) || e.Step == int(handshake.StepClientVerified)
}

// sameDemands is the verdict of a rule that is the same as then. What may differ is a deny rule
// in front of it that is only observed.
func sameDemands(p *audit.Parsed, was, hello policy.Verdict) policy.Verdict {
	switch {
	case !was.Action.Lets():
	case hello.Would.Deny:
		was.Would = hello.Would
	case p.WouldRule != p.Rule:
		was.Would = policy.Would{}
	}
	return was
}

// String is a group in words.
func (g *Group) String() string {
	is := "let through"
	switch {
	case g.order == policy.ShadowDenies, g.order == policy.OtherReason:
		is = "refused, " + g.NewReason
	case g.NewReason == "":
		is = "let through if its certificate is accepted"
	}
	was := "let through"
	if g.order == policy.ShadowAllows || g.order == policy.OtherReason {
		was = "refused, " + g.Reason
	}
	return fmt.Sprintf("%s by %s; now %s by %s", was, ruleName(g.Rule), is, ruleName(g.NewRule))
}

func ruleName(s string) string {
	if s == "" {
		return "the default"
	}
	return "rule " + s
}
