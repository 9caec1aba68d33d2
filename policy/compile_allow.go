package policy

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/certname"
	"github.com/sslgate/sslgate/internal/keykind"
	"github.com/sslgate/sslgate/internal/times"
)

// compileAllow compiles the alternatives of a rule.
func compileAllow(at scope, list []AllowSpec) []alternative {
	if list != nil && len(list) == 0 {
		at.errorf("allow", "the list is empty; leave it out to allow every certificate of the authorities")
	}
	var out []alternative
	seen := map[string]int{}
	for i := range list {
		field := fmt.Sprintf("allow[%d]", i)
		here := at.in(field)
		a := compileAlternative(here, &list[i])
		if reflect.ValueOf(list[i]).IsZero() {
			here.errorf("", "this entry demands nothing, so it would allow every certificate of the authorities; leave allow out if that is meant")
			continue
		}
		canonical := a.canonical()
		if first, twice := seen[canonical]; twice {
			here.warnf("", "this says the same as allow[%d]", first)
			continue
		}
		seen[canonical] = i
		out = append(out, a)
	}
	return out
}

// bySubject says whether a demand is made of the subject or the serial number,
// which any authority may set as it likes.
func (a *alternative) bySubject() bool {
	return slices.ContainsFunc(a.demands, func(d demand) bool { return strings.HasPrefix(d.field, "subject") || d.field == "serial" })
}

// maker puts the demands of one alternative together.
type maker struct {
	at scope
	a  alternative
}

func compileAlternative(at scope, spec *AllowSpec) alternative {
	m := &maker{at: at}
	need(m, "san_dns", spec.SANDNS, hostKind, true, (*claims).dns, func(c *claims) []string { return c.names.DNS })
	need(m, "san_uri", spec.SANURI, uriKind, true, (*claims).uris, func(c *claims) []string { return c.names.URI })
	m.words("spiffe_domain", spec.SPIFFEDomain, domainKind, false, func(c *claims) []string { return []string{c.trustDomain()} })
	need(m, "san_email", spec.SANEmail, emailKind, true, emailsOf, emailsOf)
	need(m, "san_ip", spec.SANIP, prefixKind, true, func(c *claims) addrs { return c.names.IP }, func(c *claims) []string { return texts(c.names.IP) })
	m.words("san_dirname", spec.SANDirName, dnKind, true, func(c *claims) []string { return c.names.Dir })
	m.words("san_rid", spec.SANRID, oidKind, true, func(c *claims) []string { return c.names.RID })
	m.words("san_other", spec.SANOther, otherKind, true, func(c *claims) []string { return c.names.Other })

	m.words("subject", spec.Subject, dnKind, false, func(c *claims) []string { return []string{c.subject()} })
	m.words("subject_cn", spec.SubjectCN, textKind, false, func(c *claims) []string { return []string{c.subjectName().Only(certname.CommonName)} })
	m.words("subject_o", spec.SubjectO, textKind, false, func(c *claims) []string { return c.subjectName().All(certname.Organization) })
	m.words("subject_ou", spec.SubjectOU, textKind, false, func(c *claims) []string { return c.subjectName().All(certname.OrganizationalUnit) })
	m.words("subject_c", spec.SubjectC, landKind, false, func(c *claims) []string { return c.subjectName().All(certname.Country) })
	m.words("subject_serial", spec.SubjectSerial, textKind, false, func(c *claims) []string { return []string{c.subjectName().Only(certname.SerialNumber)} })

	m.words("issuer", spec.Issuer, dnKind, true, func(c *claims) []string { return []string{c.issuer()} })
	m.words("issuer_cn", spec.IssuerCN, textKind, true, func(c *claims) []string { return []string{c.issuerName().Only(certname.CommonName)} })
	m.words("issuer_o", spec.IssuerO, textKind, true, func(c *claims) []string { return c.issuerName().All(certname.Organization) })
	m.words("issuer_ou", spec.IssuerOU, textKind, true, func(c *claims) []string { return c.issuerName().All(certname.OrganizationalUnit) })
	m.words("chain_subject", spec.ChainSubject, dnKind, true, (*claims).chainSubjects)
	m.words("chain_spki", spec.ChainSPKI, spkiKind, true, (*claims).chainSPKI)
	m.words("serial", spec.Serial, serialKind, false, func(c *claims) []string { return []string{c.serial} })
	m.words("spki", spec.SPKI, spkiKind, true, func(c *claims) []string { return []string{c.peer.SPKI()} })
	m.words("eku", spec.EKU, ekuKind, false, (*claims).usages)
	m.words("policies", spec.Policies, oidKind, false, (*claims).policies)

	m.words("key_type", spec.KeyType, keyKind, false, func(c *claims) []string { return []string{c.keyType} })
	m.keyBits(spec)
	m.span("valid_left", spec.ValidLeft, "at least ", func(c *claims, d time.Duration) (time.Duration, bool) {
		left := times.Sub(c.leaf.NotAfter, c.now)
		return left, left >= d
	})
	m.span("max_age", spec.MaxAge, "at most ", func(c *claims, d time.Duration) (time.Duration, bool) {
		age := times.Sub(c.now, c.leaf.NotBefore)
		return age, age <= d
	})
	m.codes("tls_version", spec.TLSVersion, at.able.VersionByName, handshake.VersionName, func(s *handshake.State) uint16 { return s.Version })
	m.codes("tls_suite", spec.TLSSuite, at.able.SuiteByName, handshake.SuiteName, func(s *handshake.State) uint16 { return s.Suite })
	m.codes("tls_group", spec.TLSGroup, at.able.GroupByName, handshake.GroupName, func(s *handshake.State) uint16 { return s.Group })
	return m.a
}

// need adds a demand: the certificate must have one of a list of values. named says that such
// a value tells one owner from another and does not come from the subject.
func need[T, V any, L ~[]V](m *maker, field string, entries []string, k *kind[T, V], named bool, have func(*claims) L, seen func(*claims) []string) {
	if entries == nil {
		return
	}
	l := parseList(m.at, field, entries, k)
	m.a.named = m.a.named || named
	m.a.demands = append(m.a.demands, demand{
		field: field, wanted: l.words(), seen: seen, canonical: fmt.Sprintf("%q", l.canonical()), entries: l.canonical(),
		met: func(c *claims) bool { return l.hasAny(have(c)) },
	})
}

// words is need for what is compared as it is. An empty value is none.
func (m *maker) words(field string, entries []string, k *kind[string, string], named bool, have func(*claims) []string) {
	need(m, field, entries, k, named, func(c *claims) []string {
		return slices.DeleteFunc(slices.Clone(have(c)), func(s string) bool { return s == "" })
	}, have)
}

func emailsOf(c *claims) []string { return c.names.Email }

func (m *maker) codes(field string, entries []string, resolve func(string) (uint16, error), word func(uint16) string, of func(*handshake.State) uint16) {
	have := func(c *claims) []uint16 {
		if c.state == nil {
			return nil
		}
		return []uint16{of(c.state)}
	}
	need(m, field, entries, codeKind(field, resolve, word), false, have, func(c *claims) []string {
		var out []string
		for _, id := range have(c) {
			out = append(out, word(id))
		}
		return out
	})
}

func (m *maker) keyBits(spec *AllowSpec) {
	bits, most := spec.KeyBits, mostBits(spec.KeyType)
	switch {
	case bits == 0:
		return
	case bits < 0:
		m.at.errorf("key_bits", "%d is no size of a key", bits)
	case bits > most:
		m.at.errorf("key_bits", "no key that this entry accepts has %d bits; the largest has %d", bits, most)
	}
	m.a.demands = append(m.a.demands, demand{
		field: "key_bits", wanted: fmt.Sprintf("at least %d", bits), canonical: strconv.Itoa(bits), least: int64(bits),
		met:  func(c *claims) bool { return c.keyBits >= bits },
		seen: func(c *claims) []string { return []string{strconv.Itoa(c.keyBits)} },
	})
}

// mostBits is the size of the largest key that can fit the key types.
func mostBits(types []string) int {
	most := 0
	for _, t := range types {
		most = max(most, keykind.MostBits(t))
	}
	if most == 0 {
		return keykind.MaxRSABits
	}
	return most
}

// span adds a demand on a length of time. A decision whose time is not known does not meet it.
func (m *maker) span(field, text, word string, ask func(*claims, time.Duration) (time.Duration, bool)) {
	if text == "" {
		return
	}
	d, err := parseSpan(text)
	if err != nil {
		m.at.errorf(field, "%q: %v", text, err)
		return
	}
	least, most := int64(d), int64(0)
	if field == "max_age" {
		least, most = 0, int64(d)
	}
	m.a.demands = append(m.a.demands, demand{
		field: field, wanted: word + spanText(d), canonical: d.String(), least: least, most: most,
		met: func(c *claims) bool {
			_, ok := ask(c, d)
			return ok && !c.now.IsZero()
		},
		seen: func(c *claims) []string {
			has, _ := ask(c, d)
			return []string{spanText(has)}
		},
	})
}
