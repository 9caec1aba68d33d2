package suggest

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"

	"github.com/sslgate/sslgate/internal/escape"
	"github.com/sslgate/sslgate/internal/policytest"
	"github.com/sslgate/sslgate/policy"
)

// Policy writes the section "policy" of a configuration, with the evidence at each rule and
// the questions at the end.
func Policy(rules []Rule, questions []string) ([]byte, error) {
	var b bytes.Buffer
	b.WriteString("policy:\n")
	sets := false
	for _, r := range rules {
		if len(r.Clients) == 0 {
			continue
		}
		if !sets {
			b.WriteString("  sets:\n")
			sets = true
		}
		text, err := flow(r.Clients)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&b, "    %s: %s\n", r.set(), text)
	}
	if len(rules) == 0 {
		b.WriteString("  rules: []\n")
	} else {
		b.WriteString("  rules:\n")
	}
	for _, r := range rules {
		fmt.Fprintf(&b, "    # %s\n", r.Evidence)
		text, err := yaml.MarshalWithOptions(r.Spec, yaml.OmitZero())
		if err != nil {
			return nil, fmt.Errorf("rule %s: %w", r.Spec.Name, err)
		}
		first := "    - "
		for line := range strings.Lines(string(text)) {
			b.WriteString(first + line)
			first = "      "
		}
	}
	if len(questions) > 0 {
		b.WriteString("\n# Questions that the records cannot answer:\n")
		for _, q := range questions {
			fmt.Fprintf(&b, "# - %s\n", escape.Shown(q, 4096))
		}
	}
	return b.Bytes(), nil
}

// flow is a value on one line.
func flow(v any) ([]byte, error) {
	text, err := yaml.MarshalWithOptions(v, yaml.Flow(true))
	return bytes.TrimSpace(text), err
}

// Config is a configuration whose section "policy" is replaced. It fails if there is not one
// such section in it.
func Config(base, section []byte) ([]byte, error) {
	var out bytes.Buffer
	found, inside := 0, false
	for line := range bytes.Lines(base) {
		top := len(line) > 0 && (line[0] >= 'a' && line[0] <= 'z' || line[0] == '"')
		if top {
			if inside = bytes.HasPrefix(line, []byte("policy:")); inside {
				found++
				out.Write(section)
				out.WriteByte('\n')
			}
		}
		if !inside {
			out.Write(line)
		}
	}
	if found != 1 {
		return nil, fmt.Errorf("the configuration has %s at the beginning of a line, and one is replaced", plural(found, "section")+" \"policy:\"")
	}
	return out.Bytes(), nil
}

// Tests writes the unit tests of the rules, for a configuration of that name. now is the
// time of their flows, RFC 3339.
func Tests(rules []Rule, config, now string) ([]byte, error) {
	spec := policytest.Spec{Policy: config, Now: now}
	for i := range rules {
		if rules[i].kept {
			continue
		}
		spec.Tests = append(spec.Tests, tests(&rules[i], rules)...)
	}
	if len(spec.Tests) == 0 {
		return nil, nil
	}
	text, err := yaml.MarshalWithOptions(spec, yaml.OmitZero())
	if err != nil {
		return nil, err
	}
	return append([]byte("# Made of what was seen: each rule lets through what it was made of, and nobody else.\n"), text...), nil
}

func tests(r *Rule, all []Rule) []policytest.Case {
	seen := r.draft.sample
	c := policytest.Case{
		Name: r.Spec.Name + ": as it was seen", Local: r.Spec.Local, From: seen.at.client.String(), To: seen.at.dst.String(), ALPN: seen.alpn, Upgrade: seen.upgrade,
		Plaintext: r.Spec.Action == policy.Originate.String(), Want: policytest.Want{Verdict: verdict(r), Rule: r.Spec.Name},
	}
	if seen.at.sni != noName {
		c.SNI = seen.at.sni
	}
	if slices.ContainsFunc(all, func(o Rule) bool { return o.Spec.Time != nil }) {
		c.At = seen.time
	}
	var out []policytest.Case
	if cert, ok := certificate(r); ok {
		c.Certificate = cert
		out = append(out, c)
	}
	deny := policytest.Want{Verdict: "deny"} // by the default, or by a rule that denies
	stranger := c
	stranger.Name, stranger.Want = r.Spec.Name+": not from elsewhere", deny
	if stranger.From = elsewhere(r, all); stranger.From != "" {
		out = append(out, stranger)
	}
	if len(r.Spec.SNI) > 0 && !anyName(r, all) {
		other := c
		other.Name, other.SNI, other.Want = r.Spec.Name+": by no other name", "not-seen.invalid", deny
		out = append(out, other)
	}
	return out
}

func verdict(r *Rule) string {
	if a := r.Spec.Action; a != "" && a != policy.Terminate.String() {
		return a
	}
	return "allow"
}

func members(r *Rule) []string {
	if len(r.Clients) > 0 {
		return r.Clients
	}
	return r.Spec.From
}

func client(r *Rule) string { return members(r)[0] }

// certificate is one that has proven what the first alternative asks for; false where none
// can be made up.
func certificate(r *Rule) (*policytest.Certificate, bool) {
	if len(r.ids) == 0 {
		return nil, true
	}
	id := r.ids[0]
	c := &policytest.Certificate{Authority: id.authority}
	switch id.field {
	case "san_uri":
		c.URI = []string{id.value}
	case "san_dns":
		c.DNS = []string{id.value}
	case "san_email":
		c.Email = []string{id.value}
	default:
		return nil, false
	}
	// Stand-ins have no other demands than names.
	return c, fmt.Sprint(r.Spec.Client.Allow[0]) == fmt.Sprint(id.allow(policy.AllowSpec{})) && !r.conditioned
}

// elsewhere is an address of the family that no rule has for this destination; of the
// networks for documentation (RFC 5737, RFC 3849).
func elsewhere(r *Rule, all []Rule) string {
	for _, a := range []string{"192.0.2.77", "198.51.100.77", "2001:db8::77"} {
		same := netip.MustParseAddr(a).Is4() == netip.MustParseAddr(client(r)).Is4()
		if same && !slices.ContainsFunc(all, func(o Rule) bool { return !o.kept && slices.Contains(members(&o), a) }) {
			return a
		}
	}
	return ""
}

// anyName says whether another rule takes the same path by any name.
func anyName(r *Rule, all []Rule) bool {
	return slices.ContainsFunc(all, func(o Rule) bool {
		return len(o.Spec.SNI) == 0 && slices.Contains(members(&o), client(r)) && slices.Contains(o.Spec.To, r.Spec.To[0])
	})
}
