package native

import (
	"crypto/tls"
	"fmt"
	"os"
	"slices"
	"testing"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/handshake/native/keys"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/reason"
)

// combo is one combination of what a plan and a client can have. The plan allows one
// CipherSuite and one group, the client offers all that it has.
type combo struct {
	version, suite, group uint16
	own                   testpki.KeyKind // of our certificate
	theirs                testpki.KeyKind // of the client's; noKey: it has none
	auth                  handshake.ClientAuth
	again                 bool // it comes back with its ticket
}

// noKey stands for a client without a certificate.
const noKey testpki.KeyKind = 255

func (c combo) String() string {
	return fmt.Sprintf("%s %s, our key %s, theirs %s, certificate %s, again %v",
		handshake.SuiteName(c.suite), handshake.GroupName(c.group), c.own, c.theirs, c.auth, c.again)
}

func isMLDSA(kind testpki.KeyKind) bool {
	return kind == testpki.MLDSA44 || kind == testpki.MLDSA65 || kind == testpki.MLDSA87
}

// combos are all combinations that a configuration can name: a group of TLS 1.3 has no place
// in a plan of TLS 1.2 alone. Without a request it does not matter what the client has.
func combos() []combo {
	kinds := []testpki.KeyKind{testpki.P256, testpki.P384, testpki.P521, testpki.RSA2048, testpki.Ed25519, testpki.MLDSA44, testpki.MLDSA65, testpki.MLDSA87}
	var out []combo
	for _, v := range []struct {
		version        uint16
		suites, groups []uint16
	}{{tls.VersionTLS13, handshake.Suites13(), keys.Groups()}, {tls.VersionTLS12, keys.Suites12(), keys.Groups12()}} {
		for _, suite := range v.suites {
			for _, group := range v.groups {
				for _, own := range kinds {
					for _, theirs := range append(slices.Clone(kinds), noKey) {
						for _, auth := range []handshake.ClientAuth{handshake.ClientAuthRequired, handshake.ClientAuthOptional, handshake.ClientAuthNone} {
							if auth == handshake.ClientAuthNone && theirs != noKey {
								continue
							}
							out = append(out, combo{v.version, suite, group, own, theirs, auth, false}, combo{v.version, suite, group, own, theirs, auth, true})
						}
					}
				}
			}
		}
	}
	return out
}

// want is what the plan has become of a combination.
type want struct {
	refused reason.Code // "": let through
	proven  bool        // with a certificate
}

// expected is computed from the standards alone, and knows nothing of the engine.
func (c combo) expected() want {
	if c.version == tls.VersionTLS12 {
		// RFC 5246, section 7.4.2; RFC 8422, section 2: the suite names the kind of our
		// key; draft-ietf-tls-mldsa: ML-DSA has no place in TLS 1.2.
		if isMLDSA(c.own) || keys.Suite12Of(c.suite).RSA != (c.own == testpki.RSA2048) {
			return want{refused: reason.NoCommonSuite}
		}
	}
	switch {
	case c.auth == handshake.ClientAuthNone:
		return want{}
	case c.theirs == noKey && c.auth == handshake.ClientAuthRequired:
		return want{refused: reason.NoCertificate}
	}
	return want{proven: c.theirs != noKey}
}

// skip says why there is nothing to be expected of any client, "" where there is.
func (c combo) skip() string {
	if c.version == tls.VersionTLS12 && isMLDSA(c.theirs) {
		return "a client signs nothing with ML-DSA in TLS 1.2: some show nothing, some end it"
	}
	return ""
}

// plan allows what the combination has, and nothing else.
func (c combo) plan(own tls.Certificate) *handshake.ServerParams {
	p := ticketed(func(p *handshake.ServerParams) {
		p.Certificates, p.ClientAuth, p.Profile.Groups = []tls.Certificate{own}, c.auth, []uint16{c.group}
	})
	p.Profile.MinVersion, p.Profile.MaxVersion = c.version, c.version
	p.Profile.Suites12, p.Profile.Suites13 = nil, nil
	if c.version == tls.VersionTLS12 {
		p.Profile.Suites12 = []uint16{c.suite}
	} else {
		p.Profile.Suites13 = []uint16{c.suite}
	}
	return p
}

// connections is how many a client makes.
func (c combo) connections() int {
	if c.again && c.expected().refused == "" {
		return 2
	}
	return 1
}

// judge holds what the engine made of connection n against what is expected. A session that
// is gone on with has the group of its key exchange: in TLS 1.2 that of the first one.
func (c combo) judge(o outcome, n int) error {
	w := c.expected()
	switch {
	case w.refused != "":
		if o.err == nil || o.err.Reason != w.refused {
			return fmt.Errorf("not refused for %s: %s", w.refused, fmt.Sprint(o.err))
		}
		return nil
	case o.err != nil:
		return fmt.Errorf("refused: %w", o.err)
	case o.s.Version != c.version || o.s.Suite != c.suite || o.s.Group != c.group:
		return fmt.Errorf("agreed on %s", o.s.Agreed())
	case o.s.Resumed != (n > 0):
		return fmt.Errorf("connection %d: resumed %v", n, o.s.Resumed)
	case (o.s.Peer != nil) != w.proven:
		return fmt.Errorf("the client is %+v", o.s.Peer)
	case o.asked != 1 || o.proven != w.proven:
		return fmt.Errorf("asked %d times, proven %v", o.asked, o.proven)
	case !w.proven:
		return nil
	}
	p := o.s.Peer
	fits := slices.Contains(handshake.SchemesOf(c.version, p.Leaf().PublicKey), tls.SignatureScheme(p.SignatureScheme))
	if !p.Proven || p.Authority != "staff" || p.Leaf().Subject.CommonName != "bob" || !fits {
		return fmt.Errorf("the client is %+v, proven with %s", p, handshake.SchemeName(p.SignatureScheme))
	}
	return nil
}

// pairwise leaves of all combinations as few as have every pair of values.
func pairwise(all []combo) []combo {
	of, names := make([][]int, len(all)), map[[4]any]int{} // the pairs of each, by number
	for i, c := range all {
		values := []any{c.suite, c.group, c.own, c.theirs, c.auth, c.again}
		for a := range values {
			for b := range a {
				pair := [4]any{a, b, values[a], values[b]}
				if _, ok := names[pair]; !ok {
					names[pair] = len(names)
				}
				of[i] = append(of[i], names[pair])
			}
		}
	}
	seen := make([]bool, len(names))
	var out []combo
	for {
		best, most := -1, 0
		for i := range all {
			n := 0
			for _, p := range of[i] {
				if !seen[p] {
					n++
				}
			}
			if n > most {
				best, most = i, n
			}
		}
		if best < 0 {
			return out
		}
		for _, p := range of[best] {
			seen[p] = true
		}
		out = append(out, all[best])
	}
}

// material has one certificate of Staff CA of each kind for us and for clients.
type material struct {
	own, theirs map[testpki.KeyKind]tls.Certificate
}

func newMaterial(t *testing.T) *material {
	t.Helper()
	m := &material{map[testpki.KeyKind]tls.Certificate{}, map[testpki.KeyKind]tls.Certificate{}}
	for _, c := range combos() {
		if _, ok := m.own[c.own]; !ok {
			m.own[c.own], m.theirs[c.own] = issued(t, c.own, "gateway"), issued(t, c.own, "bob")
		}
	}
	return m
}

// The parameters of a plan come out as the plan has them, with crypto/tls as the client: in
// all combinations of the usual keys, and all pairs of values of all keys; in all
// combinations of all keys, 14,592 of them, with SSLGATE_TEST_ALL=1, which takes a minute.
func TestCombinationsWithGo(t *testing.T) {
	m, all := newMaterial(t), pairwise(combos())
	switch {
	case os.Getenv("SSLGATE_TEST_ALL") != "":
		all = combos()
	case !testing.Short():
		usual := []testpki.KeyKind{testpki.P256, testpki.RSA2048, noKey}
		all = append(all, slices.DeleteFunc(combos(), func(c combo) bool { return !slices.Contains(usual, c.own) || !slices.Contains(usual, c.theirs) })...)
	}
	failed := 0
	for _, c := range all {
		if c.skip() != "" {
			continue
		}
		config := clientConfig()
		if c.theirs != noKey {
			config = clientConfig(m.theirs[c.theirs])
		}
		config.MinVersion, config.MaxVersion = c.version, c.version
		config.CipherSuites = keys.Suites12()
		for _, g := range keys.Groups() {
			config.CurvePreferences = append(config.CurvePreferences, tls.CurveID(g))
		}
		config.ClientSessionCache = tls.NewLRUClientSessionCache(1)
		r := newRig(c.plan(m.own[c.own]))
		for n := range c.connections() {
			o, cs, err := r.withGo(t, config)
			bad := c.judge(o, n)
			if bad == nil && o.err == nil && (err != nil || cs.CipherSuite != c.suite || cs.CurveID != tls.CurveID(c.group) || cs.DidResume != (n > 0)) {
				bad = fmt.Errorf("the client has %+v, %w", cs, err)
			}
			if bad != nil {
				if failed++; failed < 20 {
					t.Errorf("%s: %v; the client: %v", c, bad, err)
				}
				break
			}
		}
	}
	t.Logf("%d combinations", len(all))
}
