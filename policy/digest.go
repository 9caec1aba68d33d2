package policy

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/sslgate/sslgate/handshake"
)

// digest is the first 16 hex digits (64 bits: enough to tell sets apart, not
// to resist forgery) of the SHA-256 over a canonical form of the set:
// everything that decides, with certificates by the hash of their DER form.
// Lists whose order means nothing are sorted.
func (s *Set) digest() string {
	h := sha256.New()
	enc := json.NewEncoder(h)
	for _, r := range s.rules {
		// Encoding strings, numbers and slices of them into a hash cannot fail.
		if err := enc.Encode(r.canonical()); err != nil {
			panic("policy: canonical form: " + err.Error())
		}
	}
	return hex.EncodeToString(h.Sum(nil))[:16]
}

// canonicalRule is what digest hashes of one rule.
type canonicalRule struct {
	Name, Action       string
	From, To, SNI      []string
	ALPN               []string // in order: it is our preference
	Auth               string
	Authorities        []canonicalAuthority
	Allow              []string
	DestAuthorities    []canonicalAuthority
	DestName, DestMode string
	Client, Dest       *canonicalParams
}

type canonicalAuthority struct {
	Name    string
	Roots   []string
	Permits string
}

type canonicalParams struct {
	Profile       handshake.Profile
	Certificates  [][]string
	MaxChain      int
	MaxChainBytes int
}

func (r *rule) canonical() canonicalRule {
	c := canonicalRule{
		Name: r.name, Action: r.action.String(),
		From: texts(r.from), To: texts(r.to), SNI: texts(r.sni), ALPN: r.alpn,
		Authorities: canonicalAuthorities(r.authorities), Allow: make([]string, 0, len(r.allow)),
		DestAuthorities: canonicalAuthorities(r.destination), DestName: r.destName,
		DestMode: r.plan.Mode.String(), Auth: r.auth.String(),
		Client: canonicalOf(r.plan.Client), Dest: canonicalOf(r.plan.dest),
	}
	for i := range r.allow {
		c.Allow = append(c.Allow, r.allow[i].canonical())
	}
	slices.Sort(c.Allow)
	return c
}

func (a *alternative) canonical() string {
	return fmt.Sprintf("%q %q %q %q %q %q %q %q %q %q %d", texts(a.dns), texts(a.uri), texts(a.email), texts(a.ip),
		texts(a.cn), texts(a.o), texts(a.ou), texts(a.issuer), texts(a.spki), texts(a.keyTypes), a.keyBits)
}

func canonicalAuthorities(list []authority) []canonicalAuthority {
	out := make([]canonicalAuthority, 0, len(list))
	for _, a := range list {
		c := canonicalAuthority{Name: a.Name, Permits: "any"}
		for _, root := range a.Roots {
			c.Roots = append(c.Roots, derHash(root.Raw))
		}
		slices.Sort(c.Roots)
		if p := a.permits; p != nil {
			c.Permits = fmt.Sprintf("%q %q %q %q %q", texts(p.spiffe), texts(p.dns), texts(p.uri), texts(p.email), texts(p.ip))
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

// canonicalOf leaves out what canonicalRule has already, and private keys.
func canonicalOf(p *handshake.Params) *canonicalParams {
	if p == nil {
		return nil
	}
	c := &canonicalParams{Profile: p.Profile, MaxChain: p.MaxChain, MaxChainBytes: p.MaxChainBytes}
	for _, cert := range p.Certificates {
		var chain []string
		for _, der := range cert.Certificate {
			chain = append(chain, derHash(der))
		}
		c.Certificates = append(c.Certificates, chain)
	}
	return c
}

func derHash(der []byte) string {
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
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
