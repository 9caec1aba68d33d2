package policy

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/gaissmai/bart"
)

// The lists of rules, by what they hold and what is looked up in them.
type (
	prefixes  = list[netip.Prefix, netip.Addr]
	endpoints = list[endpoint, netip.AddrPort]
	hosts     = list[hostPattern, hostPattern]
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
	hostKind  = &kind[hostPattern, hostPattern]{name: "host", parse: one(parseHostPattern), fits: hostPattern.covers, build: newHostIndex}
	uriKind   = &kind[uriPattern, uriClaim]{name: "uri", parse: one(parseURIPattern), fits: uriPattern.claimed, build: newURIIndex}
	emailKind = &kind[emailPattern, string]{name: "email", parse: one(parseEmailPattern), fits: emailPattern.matches, build: newEmailIndex}
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

func newHostIndex(items []hostPattern) index[hostPattern] {
	i := hostIndex{map[string]struct{}{}, map[string]struct{}{}}
	for _, p := range items {
		if p.wild {
			i.wild[p.name] = struct{}{}
		} else {
			i.exact[p.name] = struct{}{}
		}
	}
	return i
}

func (i hostIndex) has(q hostPattern) bool {
	if q.wild {
		_, ok := i.wild[q.name]
		return ok
	}
	if q.name == "" {
		return false
	}
	if _, ok := i.exact[q.name]; ok {
		return true
	}
	parent, ok := parentOf(q.name)
	if ok {
		_, ok = i.wild[parent]
	}
	return ok
}

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
func (p uriPattern) claimed(c uriClaim) bool { return (!p.spiffe || c.svid) && p.matches(c.uri) }

// uriIndex finds the patterns that can fit by their base.
type uriIndex struct {
	exact, tail map[string][]uriPattern
}

func newURIIndex(items []uriPattern) index[uriClaim] {
	i := uriIndex{map[string][]uriPattern{}, map[string][]uriPattern{}}
	for _, p := range items {
		if p.tail == tailNone {
			i.exact[p.base] = append(i.exact[p.base], p)
		} else {
			i.tail[p.base] = append(i.tail[p.base], p)
		}
	}
	return i
}

// has looks at every "/" of the URI: bases of patterns with a tail end there.
func (i uriIndex) has(c uriClaim) bool {
	fits := func(p uriPattern) bool { return p.claimed(c) }
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

type emailIndex map[emailPattern]struct{}

func newEmailIndex(items []emailPattern) index[string] {
	m := make(emailIndex, len(items))
	for _, p := range items {
		m[p] = struct{}{}
	}
	return m
}

func (m emailIndex) has(s string) bool {
	local, domain, err := splitEmail(s)
	if err != nil {
		return false
	}
	if _, ok := m[emailPattern{domain: domain}]; ok {
		return true
	}
	_, ok := m[emailPattern{local: local, domain: domain}]
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
