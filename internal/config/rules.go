package config

import (
	"cmp"
	"crypto/tls"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/fielderr"
	"github.com/sslgate/sslgate/internal/keykind"
	"github.com/sslgate/sslgate/policy"
)

// located adds what another package found in a section.
func (b *builder) located(errs []*fielderr.Error, section string) {
	for _, e := range errs {
		path := fielderr.Join(section, e.Path)
		msg := e.Msg + b.file.others(section, e)
		member, inFile := b.member(path, msg)
		switch {
		case b.namesFailed(path), b.seen(path, msg), strings.HasPrefix(path, "policy.sets") && b.failed[path]:
		case inFile:
			member.Warning = e.Warning
			b.findings = append(b.findings, member)
		case e.Warning:
			b.warn(path, msg)
		case !b.file.echo(path):
			b.findings = append(b.findings, b.file.FindingAt(path, e.Offset, msg))
		}
	}
}

// policy compiles the rules. A rule in which Load found a mistake would, half
// read, seem to hide others: such rules are compiled apart, each alone, only
// to find what else is wrong in them.
func (b *builder) policy(env policy.Environment) *policy.Set {
	if !b.file.has("policy") {
		return nil // Load has said so
	}
	spec := b.file.Config.Policy
	sound := policy.Spec{Default: spec.Default, Mode: spec.Mode, Sets: spec.Sets}
	var index []int // of sound.Rules in the file
	for i, r := range spec.Rules {
		root := indexPath("policy.rules", i)
		if !slices.ContainsFunc(b.file.tainted, func(t string) bool { return within(root, t) || within(t, root) }) {
			sound.Rules, index = append(sound.Rules, r), append(index, i)
			continue
		}
		alone := policy.Spec{Default: spec.Default, Mode: spec.Mode, Sets: spec.Sets, Rules: []policy.RuleSpec{r}}
		_, errs := policy.Compile(alone, env)
		errs = slices.DeleteFunc(errs, func(e *fielderr.Error) bool { // its alpn may be what could not be read
			return e.Warning && e.Path == "rules[0].alpn" && r.ALPN == nil
		})
		b.compiled(errs, []int{i})
	}
	if len(sound.Rules) == 0 && len(spec.Rules) > 0 {
		return nil
	}
	set, errs := policy.Compile(sound, env)
	b.compiled(errs, index)
	return set
}

// compiled locates what policy.Compile found. index tells which rule of the
// file each compiled one is.
func (b *builder) compiled(errs []*fielderr.Error, index []int) {
	for _, e := range errs {
		if e.Warning && strings.HasPrefix(e.Path, "sets") && len(index) != len(b.file.Config.Policy.Rules) {
			continue // a rule that could not be read may use the set
		}
		if strings.Contains(e.Path, "].same_service[") && len(index) != len(b.file.Config.Policy.Rules) {
			continue // it may name a rule that could not be read
		}
		moved := *e
		moved.Path, moved.Also = renumber(e.Path, index), slices.Clone(e.Also)
		for i, path := range moved.Also {
			moved.Also[i] = renumber(path, index)
		}
		b.located([]*fielderr.Error{&moved}, "policy")
	}
}

var rulePath = regexp.MustCompile(`^rules\[(\d+)\]`)

func renumber(path string, index []int) string {
	m := rulePath.FindStringSubmatchIndex(path)
	if m == nil {
		return path
	}
	i, err := strconv.Atoi(path[m[2]:m[3]])
	if err != nil || i >= len(index) {
		return path
	}
	return indexPath("rules", index[i]) + path[m[1]:]
}

// seen says whether this was found already: what is wrong outside of the
// rules is found once a Compile.
func (b *builder) seen(path, msg string) bool {
	return slices.ContainsFunc(b.findings, func(f Finding) bool { return f.Path == path && f.Msg == msg })
}

// references lists what rule i refers to: the path of the reference and the
// path of what it names.
func references(i int, r policy.RuleSpec) map[string]string {
	root, refs := indexPath("policy.rules", i), map[string]string{}
	add := func(path, section, name string) {
		if name != "" {
			refs[root+path] = keyPath(section, name)
		}
	}
	add(".identity", "identities", r.Identity)
	add(".destination.identity", "identities", r.Destination.Identity)
	add(".profile", "profiles", r.Profile)
	add(".destination.profile", "profiles", r.Destination.Profile)
	for j, name := range r.Client.Authorities {
		add(indexPath(".client.authorities", j), "authorities", name)
	}
	for j, name := range r.Destination.Authorities {
		add(indexPath(".destination.authorities", j), "authorities", name)
	}
	return refs
}

// namesFailed says whether path refers to something that is there but could
// not be loaded, which was said where it stands.
func (b *builder) namesFailed(path string) bool {
	if b.refs == nil {
		b.refs = map[string]string{}
		for i, r := range b.file.Config.Policy.Rules {
			maps.Copy(b.refs, references(i, r))
		}
	}
	target, ok := b.refs[path]
	return ok && (b.failed[target] || b.file.echo(target))
}

// keysFit warns where the key of an identity fits none of the TLS 1.2
// CipherSuites that its rule allows: each names the kind of key that signs
// (RFC 5289, section 3), and every TLS 1.2 client would be refused.
func (b *builder) keysFit(env policy.Environment) {
	for i, r := range b.file.Config.Policy.Rules {
		name := cmp.Or(r.Profile, policy.DefaultProfile)
		profile, known := env.Profiles[name]
		id := env.Identities[r.Identity]
		if !known || len(id.Certificates()) == 0 || profile.MinVersion > tls.VersionTLS12 {
			continue
		}
		fits := func(s uint16) bool {
			return slices.ContainsFunc(id.Certificates(), func(c tls.Certificate) bool {
				kind := keykind.Of(c.Leaf.PublicKey)
				// Ed25519 keys go by ECDSA too (RFC 8422, section 5.10), ML-DSA keys by none.
				return !kind.IsMLDSA() && strings.Contains(handshake.SuiteName(s), map[bool]string{true: "_RSA_", false: "_ECDSA_"}[kind.Type == keykind.RSA])
			})
		}
		if !slices.ContainsFunc(profile.Suites12, fits) {
			b.warn(indexPath("policy.rules", i)+".identity", fmt.Sprintf("no TLS 1.2 CipherSuite of profile %q fits the key of %q: every TLS 1.2 client would be refused", name, r.Identity))
		}
	}
}

// clearWhileDown warns of fail: open where clients speak in the clear: while the gateway is
// down nobody makes TLS for them.
func (b *builder) clearWhileDown() {
	for i, r := range b.file.Config.Policy.Rules {
		if b.file.Config.Fail == "open" && r.Action == policy.Originate.String() {
			b.warn("fail", fmt.Sprintf("open: what the clients of rule %q say (%s, action originate) goes out in the clear while the gateway is down; with fail: closed it goes nowhere", r.Name, indexPath("policy.rules", i)))
			return
		}
	}
}

// unused warns of what no rule refers to. Where anything is wrong a reference
// may be, and nothing is said.
func (b *builder) unused() {
	if Failed(b.file.findings) || Failed(b.findings) {
		return
	}
	used := map[string]bool{}
	for i, r := range b.file.Config.Policy.Rules {
		for _, target := range references(i, r) {
			used[target] = true
		}
	}
	c := &b.file.Config
	m := &c.Admin.Metrics
	used[keyPath("identities", m.Identity)], used[keyPath("profiles", m.Profile)] = true, true
	for _, name := range m.Client.Authorities {
		used[keyPath("authorities", name)] = true
	}
	for section, names := range map[string][]string{
		"authorities": slices.Sorted(maps.Keys(c.Authorities)),
		"identities":  slices.Sorted(maps.Keys(c.Identities)),
		"profiles":    slices.Sorted(maps.Keys(c.Profiles)),
	} {
		for _, name := range names {
			if path := keyPath(section, name); !used[path] {
				b.warn(path, "no rule uses it")
			}
		}
	}
}
