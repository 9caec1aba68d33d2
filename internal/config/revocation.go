package config

import (
	"cmp"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/certname"
	"github.com/sslgate/sslgate/internal/revocation"
	"github.com/sslgate/sslgate/internal/times"
)

// checkRevocation looks at what an authority says of revocation, without
// opening any file.
func (f *File) checkRevocation(path string, a *Authority) {
	if a.Revocation != "" {
		f.word(path+".revocation", a.Revocation, revocation.Modes()...)
	}
	seen := map[string]bool{}
	for i, place := range a.CRL {
		p := indexPath(path+".crl", i)
		if revocation.IsURL(place) {
			err := revocation.CheckURL(place)
			f.check(err == nil, p, "%s: %v", quote(place), err)
		}
		f.check(!seen[place], p, "%s is listed twice", quote(place))
		seen[place] = true
	}
	f.check(a.CRLRefresh == 0 || a.CRLRefresh.Std() >= 10*time.Second, path+".crl_refresh", "%s is too often: at least 10s", a.CRLRefresh)
	f.atMost(path+".crl_refresh", a.CRLRefresh, 7*24*time.Hour)
	if o := a.OCSP; o != nil {
		f.check(o.URL != "", path+".ocsp.url", "is missing: the address of the responder")
		if o.URL != "" {
			err := revocation.CheckURL(o.URL)
			f.check(err == nil, path+".ocsp.url", "%s: %v", quote(o.URL), err)
		}
		if o.Nonce != "" {
			f.word(path+".ocsp.nonce", o.Nonce, revocation.NonceWords()...)
		}
		f.check(cmp.Or(o.Timeout.Std(), revocation.DefaultOCSPTimeout) < f.Config.Limits.Handshake.Std(), path+".ocsp.timeout",
			"%s is not less than limits.handshake (%s), within which the answer must be there", Duration(cmp.Or(o.Timeout.Std(), revocation.DefaultOCSPTimeout)), f.Config.Limits.Handshake)
		f.atMost(path+".ocsp.max_age", o.MaxAge, 24*time.Hour)
	}
	f.check(a.CRLRefresh == 0 || slices.ContainsFunc(a.CRL, revocation.IsURL), path+".crl_refresh", "has no effect: crl has no URL, and files are looked at every second")
	if a.Revocation == revocation.Off.String() && (a.CRL != nil || a.OCSP != nil) && !f.echo(path+".revocation") {
		f.findings = append(f.findings, f.Warning(path+".revocation", "off, so crl and ocsp have no effect: revoked certificates are let in"))
	}
}

// revocation loads what an authority says of revocation. Lists in files are
// read here, once, and handed on as they were checked. source has the authority's
// certificates later.
func (b *builder) revocation(anchors *handshake.Authority, source handshake.AuthoritySource) revocation.Authority {
	name, roots := anchors.Name, anchors.Roots
	cfg := b.file.Config.Authorities[name]
	path, before := keyPath("authorities", name), len(b.findings)
	a := revocation.Authority{
		Name: name, Mode: revocation.ParseMode(cfg.Revocation, len(cfg.CRL) > 0 || cfg.OCSP != nil),
		Roots: roots, Intermediates: anchors.Intermediates, CAs: source, Refresh: time.Duration(cfg.CRLRefresh),
		Files: b.file.in.files.Source(),
	}
	if cfg.OCSP != nil {
		a.OCSP = &revocation.OCSP{
			URL: cfg.OCSP.URL, Timeout: time.Duration(cfg.OCSP.Timeout), MaxAge: time.Duration(cfg.OCSP.MaxAge),
			Nonce: revocation.ParseNonce(cfg.OCSP.Nonce),
		}
	}
	if a.Mode == revocation.Hard && len(cfg.CRL) == 0 && cfg.OCSP == nil {
		b.warn(path+".revocation", "hard without crl and ocsp: only clients that staple an OCSP answer get in, over TLS 1.3")
	}
	cas := append(slices.Clone(roots), a.Intermediates...)
	urls := false
	for i, place := range cfg.CRL {
		if revocation.IsURL(place) {
			urls = true
			a.Sources = append(a.Sources, revocation.Source{Location: place})
			continue
		}
		a.Sources = append(a.Sources, b.lists(indexPath(path+".crl", i), place, cas))
	}
	if urls && b.file.Config.State == "" && a.Mode != revocation.Off {
		b.warn(path+".crl", "without state nothing that was fetched outlives a restart: name a directory in `state`")
	}
	if !Failed(b.findings[before:]) {
		b.noListOf(name, &a)
	}
	return a
}

// intermediates reads the CAs below the roots into an authority.
func (b *builder) intermediates(path, name string, a *handshake.Authority) {
	if name == "" {
		return
	}
	file, certs := b.certificates(path, name)
	if certs == nil {
		return
	}
	if len(certs) > handshake.MaxIntermediates {
		b.add(path, fmt.Sprintf("%s: %d certificates, at most %d are possible: name CAs that issue certificates for clients in roots of an authority each, or leave out those that issue none", file, len(certs), handshake.MaxIntermediates))
		return
	}
	a.Intermediates = certs
	unled, before := a.Unled(), len(b.findings) // checks their signatures, once
	for i, c := range certs {
		what := fmt.Sprintf("%s: certificate %d (%s)", file, i+1, certname.Quoted(c))
		switch {
		case !c.BasicConstraintsValid || !c.IsCA:
			b.add(path, what+" is no CA certificate (RFC 5280, section 4.2.1.9)")
		case slices.Contains(unled, i):
			b.add(path, what+" is not signed by a root of this authority, or by one of these that is")
		default:
			b.expiring(path, file, what, c)
		}
	}
	if Failed(b.findings[before:]) {
		a.Intermediates = nil
	}
}

// hugeKey says whether a signature check with a key takes too long: what
// crypto/tls and package handshake refuse too.
func hugeKey(c *x509.Certificate) bool {
	key, ok := c.PublicKey.(*rsa.PublicKey)
	return ok && key.N.BitLen() > 8192
}

// lists reads a file of revocation lists. One that has expired is a warning:
// what happens to its clients is the operator's choice (revocation), and the
// clients of other authorities must not be kept out by it.
func (b *builder) lists(path, name string, cas []*x509.Certificate) revocation.Source {
	file := b.file.abs(name)
	in := b.file.in
	src, err := revocation.ReadFile(in.context(), in.room(), in.files, file, revocation.ListBytes(b.file.Config.Ceiling()), cas)
	switch {
	case in.stop(err):
		return src
	case errors.Is(err, fs.ErrNotExist):
		b.add(path, fmt.Sprintf("%v%s", err, nearFile(in.files.Source(), file)))
		return src
	case errors.Is(err, revocation.ErrIssuer):
		b.add(path, fmt.Sprintf("%s: %v; if it is a CA below the roots, name its certificate in intermediates", file, err))
		return src
	case err != nil:
		b.add(path, fmt.Sprintf("%s: %v", file, b.named(err, file)))
		return src
	}
	for _, l := range src.Lists {
		what := fmt.Sprintf("%s: %s", file, l)
		left := times.Sub(l.NextUpdate, b.now)
		switch {
		case left <= 0:
			b.ending(path, what+" expired on "+times.Stamp(l.NextUpdate), replaced(file), true)
		case !l.Fresh(b.now):
			b.warn(path, what+" is not valid before "+times.Stamp(l.ThisUpdate))
		case l.Late(b.now):
			b.ending(path, fmt.Sprintf("%s expires in %s, on %s: get the next one", what, times.Text(b.now, l.NextUpdate), times.Stamp(l.NextUpdate)), replaced(file), true)
		}
		if l.Number == nil {
			b.warn(path, what+": that a list is older than the one before can only be seen by its date (RFC 5280, section 5.2.3)")
		}
	}
	return src
}

// noListOf warns where lists are named in files, but none of one of the CAs.
func (b *builder) noListOf(name string, a *revocation.Authority) {
	if a.Mode != revocation.Hard || a.OCSP != nil || len(a.Sources) == 0 ||
		slices.ContainsFunc(a.Sources, func(s revocation.Source) bool { return s.Lists == nil }) {
		return
	}
	for _, ca := range append(slices.Clone(a.Roots), a.Intermediates...) {
		if !slices.ContainsFunc(a.Sources, func(s revocation.Source) bool {
			return slices.ContainsFunc(s.Lists, func(l *revocation.List) bool { return l.IssuedBy(ca) })
		}) {
			b.warn(keyPath("authorities", name)+".crl", fmt.Sprintf("no list of %s: what it has issued is refused (revocation: hard)", certname.Quoted(ca)))
		}
	}
}
