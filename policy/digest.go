package policy

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/identity"
)

// digest is the first 16 hex digits (64 bits: enough to tell sets apart, not
// to resist forgery) of the SHA-256 over a canonical form of the set:
// everything that is written in it, and of identities what they are. Which
// certificates an identity shows and which ones an authority trusts is not in it, so
// that a renewed one and another bundle of CAs are no other policy. Lists whose order
// means nothing are sorted. It also gives each rule its own digest: see Plan.Digest.
func (c *compiler) digest() string {
	h := sha256.New()
	put := func(v any) { h.Write(encoded(v)) }
	put(c.mode.String())
	if c.set.open != nil && c.set.open.plan.Source != SourceGateway {
		put(c.set.open.plan.Source.String())
	}
	sets := map[string][sha256.Size]byte{}
	for _, name := range c.sets.names {
		if c.sets.used[name] > 0 {
			members := slices.Clone(c.sets.members[name])
			slices.Sort(members)
			text := encoded([]any{name, slices.Compact(members)})
			h.Write(text)
			sets[name] = sha256.Sum256(text)
		}
	}
	for _, r := range c.set.rules {
		text := encoded(r.canonical())
		h.Write(text)
		own := sha256.New()
		for _, name := range r.sets {
			sum := sets[name]
			own.Write(sum[:])
		}
		own.Write(text)
		own.Sum(r.digest[:0])
	}
	return hex.EncodeToString(h.Sum(nil))[:16]
}

// encoded is a part of the canonical form: one line of JSON.
func encoded(v any) []byte {
	text, err := json.Marshal(v)
	if err != nil { // strings, numbers and slices of them cannot fail
		panic("policy: canonical form: " + err.Error())
	}
	return append(text, '\n')
}

// Digest is the SHA-256 over the canonical form of the rule and of the sets that it
// names: what the policy demands of a flow that comes to this rule, without the
// certificates of authorities. Other rules are not in it: which rule a flow comes to
// is found anew for each client hello. It is zero where no policy made the Plan.
func (p *Plan) Digest() [sha256.Size]byte {
	if p == nil || p.rule == nil {
		return [sha256.Size]byte{}
	}
	return p.rule.digest
}

// AsksAgreed says whether the rule's condition asks what the handshake agrees on (tls.*).
func (p *Plan) AsksAgreed() bool {
	return p != nil && p.rule != nil && p.rule.when != nil &&
		slices.ContainsFunc(p.rule.when.names, func(name string) bool { return strings.HasPrefix(name, "tls.") })
}

// canonicalRule is what digest hashes of one rule.
type canonicalRule struct {
	Name, Action, Mode string
	Local              bool   `json:",omitempty"` // sets without it keep their digest
	Upgrade            string `json:",omitempty"`
	DestUpgrade        string `json:",omitempty"`
	From, To, SNI      []string
	Time               string
	ALPN               []string // in order: it is our preference
	ALPNOffered        []string `json:",omitempty"` // sets without it keep their digest
	JA4                []string `json:",omitempty"` // sets without it keep their digest
	Auth               string
	Authorities        []canonicalAuthority
	Allow              []string
	When, OnRevoked    string
	DestAuthorities    []canonicalAuthority
	DestName, DestMode string
	ProxyV2, DialFirst bool
	Port               uint16   `json:",omitempty"` // sets without it keep their digest
	Offered            []string `json:",omitempty"` // in order
	Source             string   `json:",omitempty"` // unless the gateway's: sets without it keep their digest
	Client, Dest       *canonicalParams
}

type canonicalAuthority struct {
	Name    string
	Permits string
}

type canonicalParams struct {
	Profile       handshake.Profile
	MaxChain      int
	MaxChainBytes int
	Pins          [][32]byte
	Ledger        string
	Identity      canonicalIdentity
}

func (r *rule) canonical() canonicalRule {
	c := canonicalRule{
		Name: r.name, Action: r.action.String(), Mode: r.mode().String(),
		Local: r.local, Upgrade: r.upgrade.Word(), DestUpgrade: r.plan.DestUpgrade.Word(), From: r.from.canonical(), To: r.to.canonical(), SNI: r.sni.canonical(), Time: r.window.String(), ALPN: r.alpn, ALPNOffered: texts(r.offered), JA4: r.ja4.canonical(),
		Authorities: canonicalAuthorities(r.authorities), Allow: make([]string, 0, len(r.allow)),
		DestAuthorities: canonicalAuthorities(r.destination), DestName: r.destName,
		DestMode: r.plan.Mode.String(), ProxyV2: r.plan.ProxyV2, DialFirst: r.plan.DialFirst, Port: r.plan.Port, Offered: r.plan.Offered, Auth: r.auth.String(), OnRevoked: r.onRevoked.String(),
	}
	if p := r.plan.Client; p != nil {
		c.Client = canonicalOf(&p.Params)
		c.Client.Identity = r.plan.own.canonical()
	}
	if p := r.plan.dest; p != nil {
		c.Dest = canonicalOf(&p.Params)
		c.Dest.Pins = p.Pins
		c.Dest.Identity = r.plan.destOwn.canonical()
	}
	if r.plan.Source != SourceGateway && r.action != Deny {
		c.Source = r.plan.Source.String()
	}
	for i := range r.allow {
		c.Allow = append(c.Allow, r.allow[i].canonical())
	}
	slices.Sort(c.Allow)
	if r.when != nil {
		c.When = r.when.text
	}
	return c
}

func (r *rule) mode() Mode {
	if r.observe {
		return Observe
	}
	return Enforce
}

func canonicalAuthorities(list []authority) []canonicalAuthority {
	out := make([]canonicalAuthority, 0, len(list))
	for _, a := range list {
		c := canonicalAuthority{Name: a.Name, Permits: "any"}
		if p := a.permits; p != nil {
			c.Permits = fmt.Sprintf("%q %q %q %q %q", texts(p.spiffe), texts(p.dns), texts(p.uri), texts(p.email), texts(p.ip))
			if p.svid {
				c.Permits += " svid"
			}
		}
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b canonicalAuthority) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	return out
}

// canonicalOf leaves out what canonicalRule has already, and our own certificates.
func canonicalOf(p *handshake.Params) *canonicalParams {
	return &canonicalParams{Profile: p.Profile, MaxChain: p.MaxChain, MaxChainBytes: p.MaxChainBytes, Ledger: p.Ledger.String()}
}

// canonicalIdentity is an identity, and what its certificates are in order of
// preference.
type canonicalIdentity struct {
	Name string
	Is   []identity.Kind
}

func (id Identity) canonical() canonicalIdentity {
	if id.Source == nil {
		return canonicalIdentity{}
	}
	return canonicalIdentity{id.Name, id.Source.Is()}
}

// texts is a list whose order means nothing, sorted.
func texts[T any](list []T) []string {
	out := make([]string, len(list))
	for i, v := range list {
		out[i] = fmt.Sprint(v)
	}
	slices.Sort(out)
	return out
}
