package config

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/certname"
	"github.com/sslgate/sslgate/internal/identity"
	"github.com/sslgate/sslgate/internal/spiffe"
	"github.com/sslgate/sslgate/internal/times"
	"github.com/sslgate/sslgate/policy"
	"github.com/sslgate/sslgate/policy/pattern"
)

// SVID is a certificate that an agent of the SPIFFE Workload API issues to this process.
type SVID struct {
	// Socket is that of the agent, such as unix:///run/spire/agent.sock. Required.
	Socket string `yaml:"socket"`
	// ID is the SPIFFE ID that is shown, such as spiffe://example.org/gateway. The agent may have others for this process: they are not used. Required.
	ID string `yaml:"id"`
	// KeyType is the kind of key that the agent makes, in SPIRE's words (workload_x509_svid_key_type): "ec-p256" (the default), "ec-p384" or "rsa-2048". An SVID with another one is not shown.
	KeyType string `yaml:"key_type"`
}

// SPIFFEBundle is the bundle of a trust domain, from an agent of the SPIFFE Workload API.
type SPIFFEBundle struct {
	// Socket is that of the agent, such as unix:///run/spire/agent.sock. Required.
	Socket string `yaml:"socket"`
	// TrustDomain whose bundle is trusted, such as example.org: that of the agent, or one that it federates with. The authority vouches for SPIFFE IDs of this domain alone: a certificate that is no SVID of it is refused. Required.
	TrustDomain string `yaml:"trust_domain"`
}

func (f *File) checkAgentSocket(path, written string) {
	if f.check(written != "", path, "is missing: the socket of the agent, such as unix:///run/spire/agent.sock"); written != "" {
		_, ok := spiffe.Socket(written)
		f.check(ok, path, "%s: wants unix:///PATH, a socket of this host with an absolute path", quote(written))
	}
}

func (f *File) checkSVID(path string, id *Identity) {
	const alone = "with spiffe the certificate comes from an agent: leave one of them out"
	for _, key := range []string{"certificate", "key", "passphrase", "ocsp", "also", "issuer", "names", "lifetime", "acme"} {
		f.check(!f.has(path+"."+key), path+"."+key, alone)
	}
	s := id.SPIFFE
	path += ".spiffe"
	f.checkAgentSocket(path+".socket", s.Socket)
	if f.check(s.ID != "", path+".id", "is missing: the SPIFFE ID that is shown, such as spiffe://example.org/gateway"); s.ID != "" {
		err := pattern.CheckSPIFFE(s.ID)
		f.check(err == nil, path+".id", "%s: %v", quote(s.ID), err)
		_, name, _ := strings.Cut(strings.TrimPrefix(s.ID, pattern.SPIFFEScheme), "/")
		f.check(err != nil || name != "", path+".id", "%s is a trust domain: the ID of a workload has a path, such as %s", quote(s.ID), quote(s.ID+"/gateway"))
	}
	if s.KeyType != "" {
		f.word(path+".key_type", s.KeyType, spiffe.KeyTypes()...)
	}
}

func (f *File) checkBundle(path string, a *Authority) {
	const alone = "with spiffe the CAs come from an agent: leave one of them out"
	for _, key := range []string{"roots", "intermediates"} {
		f.check(!f.has(path+"."+key), path+"."+key, alone)
	}
	f.check(!f.has(path+".crl"), path+".crl", "has no effect: SVIDs are not revoked by lists, they end soon. Who is to be kept out is taken out of the server's entries, or of the rule's allow")
	f.check(!f.has(path+".permits.spiffe"), path+".permits.spiffe", "has no effect: with spiffe the authority vouches for SPIFFE IDs of its trust_domain alone. List other kinds of names that its SVIDs may have, or leave it out")
	b := a.SPIFFE
	path += ".spiffe"
	f.checkAgentSocket(path+".socket", b.Socket)
	if f.check(b.TrustDomain != "", path+".trust_domain", "is missing: the trust domain whose bundle is trusted, such as example.org"); b.TrustDomain != "" {
		domain, schemed := strings.CutPrefix(b.TrustDomain, pattern.SPIFFEScheme)
		f.check(!schemed, path+".trust_domain", "write the trust domain alone: %s", quote(domain))
		err := pattern.CheckTrustDomain(domain)
		f.check(schemed || err == nil, path+".trust_domain", "%s: %v", quote(b.TrustDomain), err)
	}
}

// svid makes the source of an identity whose agent has not answered yet; false where nothing can
// be made of what is written.
func (b *builder) svid(o *Own, id Identity) bool {
	socket, ok := spiffe.Socket(id.SPIFFE.Socket)
	if !ok || pattern.CheckSPIFFE(id.SPIFFE.ID) != nil {
		return false // Load has said so
	}
	specimen, err := spiffe.Specimen(id.SPIFFE.ID, id.SPIFFE.KeyType)
	if err != nil {
		b.add(keyPath("identities", o.Name)+".spiffe.id", err.Error())
		return false
	}
	o.Socket, o.specimens = socket, []tls.Certificate{*specimen}
	o.source = identity.NewAwaited(o.specimens).BySPIFFE()
	return true
}

// Agents are the sockets of the agents that identities and authorities come from.
func (rt *Runtime) Agents() []string {
	var all []string
	for _, o := range rt.Own {
		all = append(all, o.Socket)
	}
	for _, t := range rt.Trusted {
		all = append(all, t.Socket)
	}
	slices.Sort(all)
	return slices.DeleteFunc(slices.Compact(all), func(s string) bool { return s == "" })
}

// Attach hands over the agents, by socket, before the Runtime is used, and takes what they have
// said.
func (rt *Runtime) Attach(agent func(socket string) *spiffe.Agent, now time.Time) {
	for _, o := range rt.Own {
		if o.Socket != "" {
			o.Agent = agent(o.Socket)
			_, _ = o.Renew(now) // Failed has the error
		}
	}
	for _, t := range rt.Trusted {
		if t.Socket != "" {
			t.Agent = agent(t.Socket)
			_, _ = t.Renew(now) // Failed has the error
		}
	}
}

// FromAgent says that the certificates come from an agent.
func (o *Own) FromAgent() bool { return o.Socket != "" }

// FromAgent says that the CAs come from an agent.
func (t *Trusted) FromAgent() bool { return t.Socket != "" }

// Unanswered says that an agent has never said what the certificates are.
func (o *Own) Unanswered() bool { return o.Socket != "" && o.source.Awaited() }

// Unanswered says that an agent has never said anything.
func (t *Trusted) Unanswered() bool { return t.Socket != "" && t.Answer() == nil }

// Awaited says that there may be no CA at the moment: an agent brings them.
func (t *Trusted) Awaited() bool { return t.Socket != "" }

// take puts the SVID of the agent's last answer in the place of what is shown. One that the agent
// has taken back is shown no longer.
func (o *Own) take(now time.Time) (changed bool, err error) {
	answer := o.Answer()
	if answer == nil {
		return false, nil // Failed says why
	}
	cert, err := answer.SVID(o.file.Config.Identities[o.Name].SPIFFE.ID)
	if err != nil {
		if changed = !o.source.Awaited(); changed {
			o.source.Await(o.specimens)
		}
		return changed, err
	}
	certs := []tls.Certificate{*cert}
	switch {
	case !o.source.Awaited() && slices.EqualFunc(certs, o.source.Certificates(), sameChain):
		return false, nil
	case now.After(cert.Leaf.NotAfter):
		return false, errors.New("the agent has sent an SVID that ended on " + times.Stamp(cert.Leaf.NotAfter))
	}
	b := &builder{file: o.file, now: now, failed: map[string]bool{}, renews: true}
	env := *o.env
	env.Identities = maps.Clone(env.Identities)
	env.Identities[o.Name] = policy.Identity{Name: o.Name, Source: identity.NewFile(certs, nil)}
	b.keysApart(env)
	if err := failure(b.findings); err != nil {
		return false, err
	}
	if err := o.source.Replace(certs, nil); err != nil {
		return false, fmt.Errorf("the agent's SVID: %w (key_type says which key it has)", err)
	}
	return true, nil
}

// late is why an agent that answers is one that fails: it renews an SVID at half of its life.
func (o *Own) late(now time.Time) error {
	if o.Socket == "" || o.source.Awaited() {
		return nil
	}
	leaf := o.Leaf()
	if leaf == nil || now.Before(times.Part(leaf.NotBefore, leaf.NotAfter, 3, 4)) {
		return nil
	}
	return fmt.Errorf("the SPIFFE agent at %s has not renewed the SVID", o.Socket)
}

// take is what an agent trusts now; nil where what was trusted before goes on to be. With an error
// and without CAs the agent has taken them back.
func (t *Trusted) take(b *builder) (*handshake.Authority, error) {
	next, answer := &handshake.Authority{Name: t.Name}, t.Answer()
	if answer == nil {
		return nil, nil // Failed says why
	}
	domain := t.file.Config.Authorities[t.Name].SPIFFE.TrustDomain
	roots, err := answer.Bundle(domain)
	if err != nil {
		return next, err
	}
	for i, c := range roots {
		what := fmt.Sprintf("the agent's bundle of %s: certificate %d (%s)", domain, i+1, certname.Quoted(c))
		if !slices.ContainsFunc(next.Roots, c.Equal) && b.anchor(keyPath("authorities", t.Name)+".spiffe", what, what, c) {
			next.Roots = append(next.Roots, c)
		}
	}
	if err := failure(b.findings); err != nil {
		return nil, err
	}
	return next, nil
}

// bundle begins with an authority without CAs, which trusts nobody.
func (b *builder) bundle(name string) *handshake.Authority {
	s := b.file.Config.Authorities[name].SPIFFE
	if _, ok := spiffe.Socket(s.Socket); !ok || pattern.CheckTrustDomain(s.TrustDomain) != nil {
		return nil // Load has said so
	}
	return &handshake.Authority{Name: name}
}

// sameCAs says whether two authorities trust the same.
func sameCAs(a, b *handshake.Authority) bool {
	return slices.EqualFunc(a.Roots, b.Roots, (*x509.Certificate).Equal) && slices.EqualFunc(a.Intermediates, b.Intermediates, (*x509.Certificate).Equal)
}

// failing is why the source of an identity fails although what was read is in use.
func (o *Own) failing() error {
	return cmp.Or(o.Use.Failing(), o.late(time.Now()))
}
