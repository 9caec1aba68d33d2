package config

import (
	"crypto/tls"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/sslgate/sslgate/internal/admin"
	"github.com/sslgate/sslgate/internal/certname"
	"github.com/sslgate/sslgate/policy"
)

// This file warns of what is right by itself, but hardly what was meant: parts of a
// configuration that contradict each other.

func (b *builder) meant(env policy.Environment) {
	for i, r := range b.file.Config.Policy.Rules {
		path := indexPath("policy.rules", i)
		b.namesShown(path+".sni", &r, env)
		b.portsCaptured(path+".to", &r, env)
	}
	b.limitsReached()
}

// entries goes through a list of a rule; a set counts at the place that names it,
// with the first of its members that say finds fault with.
func (b *builder) entries(path string, list []string, env policy.Environment, say func(entry string) string) {
	for j, s := range list {
		if b.faulty(indexPath(path, j)) {
			continue
		}
		members, set := []string{s}, false
		if name, ok := strings.CutPrefix(s, "@"); ok {
			members, set = env.Sets[name], true
			if members == nil {
				members = b.file.Config.Policy.Sets[name].Members
			}
		}
		for _, m := range members {
			why := say(m)
			if why == "" {
				continue
			}
			if set {
				why = fmt.Sprintf("the set has %s: %s", quote(m), why)
			}
			b.warn(indexPath(path, j), why)
			break
		}
	}
}

// faulty says whether a mistake was found at a path.
func (b *builder) faulty(path string) bool {
	at := func(f Finding) bool { return f.Path == path && !f.Warning }
	return b.file.echo(path) || slices.ContainsFunc(b.findings, at) || slices.ContainsFunc(b.file.findings, at)
}

// namesShown warns where a rule is for a server name that its identity cannot show a
// certificate for: every client that verifies it goes away (RFC 9525, section 6).
func (b *builder) namesShown(path string, r *policy.RuleSpec, env policy.Environment) {
	names, known := b.shown(r.Identity, env)
	if !known || len(names) == 0 {
		return // a certificate without any name was warned of
	}
	b.entries(path, r.SNI, env, func(name string) string {
		if name == "-" || namedBy(names, name) {
			return "" // without a name the client looks for another, or for none
		}
		advice := "have one issued that is, or take the name out"
		for _, other := range slices.Sorted(maps.Keys(env.Identities)) {
			if has, ok := b.shown(other, env); ok && namedBy(has, name) {
				advice = "write `identity: " + other + "`"
				break
			}
		}
		return fmt.Sprintf("no certificate of identity %s is for %s (only for %s), so clients that verify it go away: %s",
			quote(r.Identity), quote(name), shortList(names), advice)
	})
}

// shown are the DNS names that an identity has certificates for.
func (b *builder) shown(identity string, env policy.Environment) (names []string, known bool) {
	id, ok := env.Identities[identity]
	if !ok || len(id.Certificates()) == 0 {
		return nil, false
	}
	if id.Minted() {
		return b.file.Config.Identities[identity].Names, true
	}
	for _, c := range id.Certificates() {
		names = append(names, namesOf(c)...)
	}
	slices.Sort(names)
	return slices.Compact(names), true
}

func namesOf(c tls.Certificate) []string {
	if c.Leaf == nil {
		return nil
	}
	names, err := certname.ReadAltNames(c.Leaf.Extensions)
	if err != nil {
		return nil
	}
	return names.DNS
}

// namedBy says whether every host that fits name, which may begin with "*.", is
// named by a certificate's names; a "*" there is one label (RFC 9525, section 6.3).
func namedBy(names []string, name string) bool {
	name = strings.ToLower(name)
	_, parent, _ := strings.Cut(name, ".")
	return slices.ContainsFunc(names, func(n string) bool {
		n = strings.ToLower(strings.TrimSuffix(n, "."))
		return n == name || n == "*."+parent && parent != ""
	})
}

// shortList is a list for a person, of at most four.
func shortList(names []string) string {
	const most = 4
	more := ""
	if n := len(names) - most; n > 0 {
		names, more = names[:most], fmt.Sprintf(" and %d more", n)
	}
	return strings.Join(names, ", ") + more
}

// portsCaptured warns of destinations that no flow can have: only captured ports
// come so far.
func (b *builder) portsCaptured(path string, r *policy.RuleSpec, env policy.Environment) {
	ports := b.file.Config.Capture.Ports
	if ports.All || len(ports.List) == 0 || b.file.echo("capture.ports") {
		return
	}
	b.entries(path, r.To, env, func(to string) string {
		port, err := strconv.ParseUint(to[strings.LastIndexByte(to, ':')+1:], 10, 16)
		if err != nil || slices.Contains(ports.List, uint16(port)) { // what cannot be read was said
			return ""
		}
		with := slices.Sorted(slices.Values(append(slices.Clone(ports.List), uint16(port))))
		words := make([]string, len(with))
		for i, p := range with {
			words[i] = strconv.Itoa(int(p))
		}
		return fmt.Sprintf("port %d is not captured, so %s never fits: write `ports: [%s]` in capture, or take it out", port, quote(to), strings.Join(words, ", "))
	})
}

// limitsReached warns of limits that another one is always before.
func (b *builder) limitsReached() {
	l := &b.file.Config.Limits
	never := func(key string, past bool, format string, args ...any) {
		if path := "limits." + key; past && b.file.has(path) && !b.faulty(path) {
			b.warn(path, "is never reached: "+fmt.Sprintf(format, args...)+"; take it out, or choose less")
		}
	}
	never("half_closed", l.HalfClosed > l.Idle, "a flow without any data ends after limits.idle (%s)", l.Idle)
	never("handshakes", l.Handshakes > l.Flows, "no more than limits.flows (%d) have a handshake at once", l.Flows)
	never("dials_per_destination", l.DialsPerDestination > l.Flows, "no more than limits.flows (%d) wait for anything at once", l.Flows)
}

// maxToken is the size of a token's file in bytes.
const maxToken = 4 << 10

// token reads what admin.http asks for; nil where there is no such listener, or a
// mistake was added.
func (b *builder) token() *admin.Token {
	a := &b.file.Config.Admin
	if a.HTTP == "" || a.TokenFile == "" {
		return nil
	}
	file := b.file.abs(a.TokenFile)
	f, err := b.file.in.readNear(file, maxToken, 1)
	if err != nil {
		b.add("admin.token_file", err.Error())
		return nil
	}
	defer b.file.in.files.DoneSecret(file) // the token's hash stays
	token, err := admin.ParseToken(file, f.Mode, f.Text)
	if err != nil {
		b.add("admin.token_file", err.Error())
		return nil
	}
	return token
}
