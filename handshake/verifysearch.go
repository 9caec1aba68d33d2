package handshake

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"slices"

	"github.com/sslgate/sslgate/internal/certname"
	"github.com/sslgate/sslgate/internal/reason"
	"github.com/sslgate/sslgate/internal/work"
)

// How a path from the leaf to an authority is found (RFC 5280, section 6, says
// what a path is and RFC 4158 how one looks for it):
//
//  1. Names alone say which certificates can be on a path: those that a root's
//     name leads to and that lead to the leaf.
//  2. One such path after the other is looked at, the best first: by key
//     identifiers, one that may be used now before one that has ended or is for
//     another usage (RFC 4158, section 3.5), a root before an intermediate, the
//     shorter before the longer. Once the cause of a refusal is known, no path
//     through a CA that cannot be used is looked at any more.
//  3. Its signatures are checked from the root downwards. So the first key that
//     is used is the authority's, then one that the authority has signed: who
//     has no certificate of the authority never chooses the key of a check.
//  4. A signature is checked once for all paths and all authorities. A path
//     with a link that does not hold ends there, and every other path with it.
//  5. CAs of the configuration (Authority.Intermediates) are looked up by the
//     names that those shown call their issuer, and never need one that was
//     shown. Their signatures were checked when the configuration was loaded, so
//     that they make no stranger's chain dearer (authority.go).
//  6. Only a path whose signatures all hold is judged by crypto/x509: time,
//     basic constraints, usage, names, policies (verifyjudge.go).
//
// crypto/x509 itself searches the other way round, from the leaf, and checks a
// signature for each way it tries: up to 100 for each authority.

// The bounds of one search. All are for one handshake, over all authorities.
const (
	// spareChecks is how many signature checks there may be besides two for
	// each certificate shown and one for each root that shares a name with
	// others: cross-signed CAs, CAs of one name, keys that were rolled over.
	spareChecks = 8
	// maxSteps bounds the comparisons of names while paths are tried: each is
	// less than a microsecond. A chain of ten with one issuer each takes ten.
	maxSteps = 1024
	// maxJudged bounds the paths whose signatures hold and that are judged.
	maxJudged = 16
	// maxPath bounds a path, in certificates without the root: what byX509 can
	// judge. Shown are 100 of them at most (limits.chain).
	maxPath = 250
)

// search is the state of one verification, over all authorities.
type search struct {
	v       *verifier
	nodes   []*x509.Certificate // shown, each once, the leaf first
	checked map[link]error
	keys    map[string]int            // numbers of SubjectPublicKeyInfos
	keyOf   map[*x509.Certificate]int // the same by certificate
	checks  int                       // signatures that may still be checked
	steps   int
	judged  int
	spent   work.Units
	made    int // signatures that were checked
}

// link is a certificate and the key that may have signed it.
type link struct {
	child *x509.Certificate
	key   int // of the issuer
}

// link of a certificate and who may have issued it.
func (s *search) link(c, parent *x509.Certificate) link {
	n, ok := s.keyOf[parent]
	if !ok {
		if n, ok = s.keys[string(parent.RawSubjectPublicKeyInfo)]; !ok {
			n = len(s.keys)
			s.keys[string(parent.RawSubjectPublicKeyInfo)] = n
		}
		s.keyOf[parent] = n
	}
	return link{c, n}
}

func (v *verifier) search(authorities []*Authority) *search {
	s := &search{v: v, checked: map[link]error{}, keys: map[string]int{}, keyOf: map[*x509.Certificate]int{}, steps: maxSteps, judged: maxJudged}
	for _, c := range v.shown {
		if !contains(s.nodes, c) {
			s.nodes = append(s.nodes, c)
		}
	}
	s.checks = 2*len(s.nodes) + spareChecks + s.sharedNames(authorities)
	return s
}

// sharedNames is how many roots, and CAs that complete paths, in all authorities together, have one of the
// names that those shown call their issuer, besides the one that is meant.
func (s *search) sharedNames(authorities []*Authority) int {
	most := 1
	for _, c := range s.nodes {
		n := 0
		for _, a := range authorities {
			a.prepare()
			n += len(a.byName[string(c.RawIssuer)]) + len(a.known.byName[string(c.RawIssuer)])
		}
		most = max(most, n)
	}
	return most - 1
}

// under looks for a path to one authority.
func (s *search) under(a *Authority) ([]*x509.Certificate, *fault) {
	a.prepare()
	leaf := s.nodes[0]
	if a.trusts(leaf) {
		path := []*x509.Certificate{leaf}
		if f := s.v.judge(path); f != nil {
			return nil, f
		}
		return path, nil
	}
	w := &walk{s: s, a: a}
	w.measure()
	if w.up([]*x509.Certificate{leaf}) {
		return w.found, nil
	}
	switch {
	case w.refused != nil:
		return nil, w.refused
	case w.broken != nil:
		return nil, w.broken
	}
	return nil, &fault{
		code:   reason.UnknownCA,
		detail: fmt.Sprintf("the chain ends at issuer \"%s\", which is not a CA of authority %q", certname.Shown(w.end().RawIssuer, MaxNameLength), a.Name),
	}
}

// walk is the search under one authority.
type walk struct {
	s *search
	a *Authority
	// far is how many steps of issuers lie between a certificate and a root, by
	// names and the links known not to hold; absent where no root is reached.
	far     map[*x509.Certificate]int
	found   []*x509.Certificate
	broken  *fault // the first link, of the first path, that does not hold
	refused *fault // why the first path whose links all hold is refused
	// named are the CAs of the configuration that have the name of a shown one's
	// issuer, in the order of issuers: the same for each path.
	named map[*x509.Certificate][]candidate
}

// measure works out far, from the roots downwards.
func (w *walk) measure() {
	w.far = map[*x509.Certificate]int{}
	for more := true; more; {
		more = false
		for _, c := range w.s.nodes {
			n, ok := w.reach(c)
			if had, is := w.far[c]; ok && (!is || n < had) {
				w.far[c], more = n, true
			}
		}
	}
}

// reach is how many steps of issuers lie between c and a root by what is known
// now of those above it.
func (w *walk) reach(c *x509.Certificate) (steps int, ok bool) {
	mayBe := func(p *x509.Certificate) bool { return w.may(c, p) }
	if slices.ContainsFunc(w.a.byName[string(c.RawIssuer)], mayBe) {
		return 0, true
	}
	nearest := w.a.known.byName[string(c.RawIssuer)] // the nearest to a root first
	if i := slices.IndexFunc(nearest, mayBe); i >= 0 {
		steps, ok = w.a.known.far[nearest[i]]+1, true
	}
	for _, p := range w.s.nodes {
		if n, led := w.far[p]; led && (!ok || n+1 < steps) && w.may(c, p) {
			steps, ok = n+1, true
		}
	}
	return steps, ok
}

// broke is for a link of c that turned out not to hold. Where c reaches a root in as
// many steps by another one nothing changes, and it is not measured anew: so
// many CAs of one name cost little more than their signatures.
func (w *walk) broke(c *x509.Certificate) {
	if n, ok := w.reach(c); !ok || n != w.far[c] {
		w.measure()
	}
}

// may says whether p may have issued c: it has the name, and nothing is known
// against it.
func (w *walk) may(c, p *x509.Certificate) bool {
	return c != p && bytes.Equal(c.RawIssuer, p.RawSubject) && w.s.checked[w.s.link(c, p)] == nil
}

// up goes on from the last of path, which leads to a root by names. It is true
// once found is set, and false where nothing is left to try.
func (w *walk) up(path []*x509.Certificate) bool {
	if len(path) >= maxPath {
		return false
	}
	for _, one := range w.issuers(path[len(path)-1]) {
		p := one.cert
		if w.s.steps--; w.s.steps < 0 || w.s.judged <= 0 {
			return false
		}
		if !w.may(path[len(path)-1], p) || again(path, p) || one.unfit > 0 && w.refused != nil {
			continue
		}
		next := append(path[:len(path):len(path)], p)
		if !w.a.trusts(p) {
			if w.leads(p) && w.up(next) {
				return true
			}
			continue
		}
		if w.try(next) {
			return true
		}
		// A link further down may have turned out not to hold.
		if !w.holds(path) {
			return false
		}
	}
	return false
}

// leads says whether a root is reached from p: always from a CA of the configuration.
func (w *walk) leads(p *x509.Certificate) bool {
	_, shown := w.far[p]
	_, configured := w.a.known.far[p]
	return shown || configured
}

// again says whether an issuer of this name and key is in the path already. A
// path with it twice has a shorter one inside it, to which the same signatures
// lead, so nothing is lost.
func again(path []*x509.Certificate, p *x509.Certificate) bool {
	return slices.ContainsFunc(path, func(c *x509.Certificate) bool {
		return bytes.Equal(c.RawSubject, p.RawSubject) && bytes.Equal(c.RawSubjectPublicKeyInfo, p.RawSubjectPublicKeyInfo)
	})
}

// holds says whether no link of a path is known not to hold.
func (w *walk) holds(path []*x509.Certificate) bool {
	for i := range path[:len(path)-1] {
		if !w.may(path[i], path[i+1]) {
			return false
		}
	}
	return true
}

// try judges one whole path.
func (w *walk) try(path []*x509.Certificate) bool {
	for i := range path[:len(path)-1] { // what costs nothing comes first
		if f := w.s.v.fits(path[i], path[i+1]); f != nil {
			w.breaks(f)
			return false
		}
	}
	for i := len(path) - 2; i >= 0; i-- {
		if w.a.signedOnce(path[i], path[i+1]) {
			continue
		}
		if f := w.s.signed(path[i], path[i+1]); f != nil {
			w.breaks(f)
			w.broke(path[i])
			return false
		}
	}
	w.s.judged--
	f := w.s.v.judge(path)
	if f == nil {
		w.found = path
		return true
	}
	if w.refused == nil {
		w.refused = f
	}
	return false
}

func (w *walk) breaks(f *fault) {
	if w.broken == nil {
		w.broken = f
	}
}

// signed checks one signature, if it was not checked before.
func (s *search) signed(c, parent *x509.Certificate) *fault {
	key := s.link(c, parent)
	err, known := s.checked[key]
	if !known {
		if s.checks <= 0 {
			s.steps = 0 // the end of it
			return &fault{code: reason.BadCertificate, detail: fmt.Sprintf("no path to the authority was found within %d signature checks", s.made)}
		}
		s.checks--
		s.made++
		s.spent += work.Verify(parent.PublicKey)
		err = c.CheckSignatureFrom(parent)
		s.checked[key] = err
	}
	if err == nil {
		return nil
	}
	// Without matching key identifiers (RFC 5280, section 4.2.1.1) this is
	// another CA that bears the same name.
	if len(c.AuthorityKeyId) > 0 && bytes.Equal(c.AuthorityKeyId, parent.SubjectKeyId) {
		return &fault{code: reason.BadCertificate, detail: s.v.about(c) + ": its signature is wrong", err: err}
	}
	return &fault{code: reason.UnknownCA, named: true, detail: s.v.about(c) + ": issued by another CA of the same name as the authority's", err: err}
}

// end is where the way up from the leaf ends, by names: the first certificate
// without an issuer among those shown.
func (w *walk) end() *x509.Certificate {
	c := w.s.nodes[0]
	for range w.s.nodes {
		i := slices.IndexFunc(w.s.nodes[1:], func(p *x509.Certificate) bool {
			return c != p && bytes.Equal(c.RawIssuer, p.RawSubject) && !bytes.Equal(p.RawSubject, p.RawIssuer)
		})
		if i < 0 {
			break
		}
		c = w.s.nodes[1+i]
	}
	return c
}

func contains(list []*x509.Certificate, c *x509.Certificate) bool {
	return slices.ContainsFunc(list, c.Equal)
}
