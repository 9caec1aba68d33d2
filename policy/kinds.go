package policy

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/gaissmai/bart"

	"github.com/sslgate/sslgate/internal/ja4"
	"github.com/sslgate/sslgate/policy/pattern"
)

// The lists of rules, by what they hold and what is looked up in them.
type (
	prefixes  = list[netip.Prefix, netip.Addr]
	endpoints = list[endpoint, netip.AddrPort]
	hosts     = list[pattern.Host, pattern.Host]
	prints    = list[ja4.Pattern, string]
)

// The kinds never change; they are variables because they hold functions.
var (
	prefixKind = &kind[netip.Prefix, netip.Addr]{
		name: "prefix", parse: one(parsePrefix), fits: netip.Prefix.Contains,
		build: func(items []netip.Prefix) index[netip.Addr] {
			t := new(bart.Lite)
			for _, p := range items {
				t.Insert(p)
			}
			return prefixIndex{t}
		},
	}
	endpointKind = &kind[endpoint, netip.AddrPort]{
		name: "endpoint", parse: parseEndpoints,
		fits:  func(e endpoint, a netip.AddrPort) bool { return e.contains(a.Addr(), a.Port()) },
		build: newEndpointIndex,
	}
	hostKind  = &kind[pattern.Host, pattern.Host]{name: "host", parse: one(pattern.ParseHost), fits: pattern.Host.Covers, build: newHostIndex}
	sniKind   = &kind[pattern.Host, pattern.Host]{name: "sni", parse: one(pattern.ParseSNI), fits: pattern.Host.Covers, build: newHostIndex}
	ja4Kind   = &kind[ja4.Pattern, string]{name: "ja4", parse: one(ja4.Parse), fits: ja4.Pattern.Fits, build: newJA4Index}
	uriKind   = &kind[pattern.URI, uriClaim]{name: "uri", parse: one(pattern.ParseURI), fits: claimed, build: newURIIndex}
	emailKind = &kind[pattern.Email, string]{name: "email", parse: one(pattern.ParseEmail), fits: pattern.Email.Matches, build: newEmailIndex}
)

// wordKind is a kind whose entries are compared as they are.
func wordKind(name string, parse func(string) (string, error)) *kind[string, string] {
	return &kind[string, string]{name: name, parse: one(parse), fits: equal, build: func(items []string) index[string] {
		m := make(wordIndex, len(items))
		for _, s := range items {
			m[s] = struct{}{}
		}
		return m
	}}
}

var (
	textKind   = wordKind("text", parseText).doubting(doubtText)
	dnKind     = wordKind("dn", parseDN).doubting(doubtDN)
	spkiKind   = wordKind("spki", parseSPKI)
	serialKind = wordKind("serial", parseSerial)
	oidKind    = wordKind("oid", parseOID)
	ekuKind    = wordKind("eku", parseEKU)
	otherKind  = wordKind("other", parseOtherName).doubting(doubtText)
	landKind   = wordKind("country", parseText).doubting(doubtCountry)
	domainKind = wordKind("trust domain", parseDomain)
	keyKind    = wordKind("key", parseKeyType)
)

type wordIndex map[string]struct{}

func (m wordIndex) has(s string) bool { _, ok := m[s]; return ok }

type prefixIndex struct{ t *bart.Lite }

func (i prefixIndex) has(a netip.Addr) bool { return i.t.Lookup(a) }

// endpointIndex has one table a port; 0 is any port.
type endpointIndex map[uint16]*bart.Lite

func newEndpointIndex(items []endpoint) index[netip.AddrPort] {
	m := endpointIndex{}
	for _, e := range items {
		if m[e.port] == nil {
			m[e.port] = new(bart.Lite)
		}
		m[e.port].Insert(e.prefix)
	}
	return m
}

func (m endpointIndex) has(a netip.AddrPort) bool {
	for _, port := range [...]uint16{0, a.Port()} {
		if t := m[port]; t != nil && t.Lookup(a.Addr()) {
			return true
		}
	}
	return false
}

// hostIndex has the names, and what stands behind the "*" of the patterns.
type hostIndex struct{ exact, wild map[string]struct{} }

func newHostIndex(items []pattern.Host) index[pattern.Host] {
	i := hostIndex{map[string]struct{}{}, map[string]struct{}{}}
	for _, p := range items {
		if p.Wild {
			i.wild[p.Name] = struct{}{}
		} else {
			i.exact[p.Name] = struct{}{}
		}
	}
	return i
}

func (i hostIndex) has(q pattern.Host) bool {
	if q.Wild {
		_, ok := i.wild[q.Name]
		return ok
	}
	if _, ok := i.exact[q.Name]; ok {
		return true
	}
	parent, ok := parentOf(q.Name)
	if ok {
		_, ok = i.wild[parent]
	}
	return ok
}

type ja4Index struct{ set ja4.Set }

func newJA4Index(items []ja4.Pattern) index[string] {
	i := ja4Index{make(ja4.Set, len(items))}
	for _, p := range items {
		i.set[p] = struct{}{}
	}
	return i
}

func (i ja4Index) has(fingerprint string) bool { return i.set.Has(fingerprint) }

// parentOf is what a pattern with "*" must have to fit a name: from its first
// dot on.
func parentOf(name string) (string, bool) {
	i := strings.IndexByte(name, '.')
	if i <= 0 {
		return "", false
	}
	return name[i:], true
}

// uriClaim is one URI of a certificate; svid says that it is the certificate's
// SPIFFE id.
type uriClaim struct {
	uri  string
	svid bool
}

// claimed says whether a URI of a certificate fits. A SPIFFE pattern is held
// against the SPIFFE id alone.
func claimed(p pattern.URI, c uriClaim) bool { return (!p.SPIFFE || c.svid) && p.Matches(c.uri) }

// uriIndex finds the patterns that can fit by their base.
type uriIndex struct {
	exact, tail map[string][]pattern.URI
}

func newURIIndex(items []pattern.URI) index[uriClaim] {
	i := uriIndex{map[string][]pattern.URI{}, map[string][]pattern.URI{}}
	for _, p := range items {
		if p.Tail == pattern.TailNone {
			i.exact[p.Base] = append(i.exact[p.Base], p)
		} else {
			i.tail[p.Base] = append(i.tail[p.Base], p)
		}
	}
	return i
}

// has looks at every "/" of the URI: bases of patterns with a tail end there.
func (i uriIndex) has(c uriClaim) bool {
	fits := func(p pattern.URI) bool { return claimed(p, c) }
	if slices.ContainsFunc(i.exact[c.uri], fits) {
		return true
	}
	for end, b := range []byte(c.uri) {
		if b == '/' && slices.ContainsFunc(i.tail[c.uri[:end+1]], fits) {
			return true
		}
	}
	return false
}

type emailIndex map[pattern.Email]struct{}

func newEmailIndex(items []pattern.Email) index[string] {
	m := make(emailIndex, len(items))
	for _, p := range items {
		m[p] = struct{}{}
	}
	return m
}

func (m emailIndex) has(s string) bool {
	local, domain, err := pattern.SplitEmail(s)
	if err != nil {
		return false
	}
	if _, ok := m[pattern.Email{Domain: domain}]; ok {
		return true
	}
	_, ok := m[pattern.Email{Local: local, Domain: domain}]
	return ok
}

// codePoint is a number of TLS with its name: a version, CipherSuite or group.
type codePoint struct {
	id   uint16
	name string
}

// String is the name.
func (c codePoint) String() string { return c.name }

func codeKind(name string, resolve func(string) (uint16, error), word func(uint16) string) *kind[codePoint, uint16] {
	return &kind[codePoint, uint16]{
		name: name, fits: func(c codePoint, id uint16) bool { return c.id == id },
		parse: one(func(s string) (codePoint, error) {
			id, err := resolve(s)
			return codePoint{id, word(id)}, err
		}),
		build: func(items []codePoint) index[uint16] {
			m := codeIndex{}
			for _, c := range items {
				m[c.id] = struct{}{}
			}
			return m
		},
	}
}

type codeIndex map[uint16]struct{}

func (m codeIndex) has(id uint16) bool { _, ok := m[id]; return ok }
