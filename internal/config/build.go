package config

import (
	"crypto/x509"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/revocation"
	"github.com/sslgate/sslgate/policy"
)

// Runtime is a configuration with everything it names loaded: what the
// gateway runs on. It is immutable and shared.
type Runtime struct {
	// File that it was built from.
	File *File
	// Config has the defaults filled in and every file's path made absolute or
	// relative to the working directory.
	Config *Config
	// Set is the compiled policy.
	Set *policy.Set
	// Metrics are the terms of admin.metrics as a policy of one rule; nil where
	// there is no such listener.
	Metrics *policy.Set
	// Environment is what the rules of Set refer to by name.
	Environment policy.Environment
	// Files are all files that were read: a change of one asks for a reload.
	Files []string
	// Revocation is what the authorities say of revocation, with the lists that
	// were read from files.
	Revocation []revocation.Authority
	// Staples are the OCSP responses shown with identities.
	Staples []*Staple
	// Tickets are nil where there are none.
	Tickets *RuntimeTickets
	// Shadow is the compiled policy of the file shadow; nil if there is none.
	Shadow *policy.Set
	// TUNAddresses are tun.addresses; destinations in them are refused.
	TUNAddresses []netip.Prefix
}

// Build loads the files that f names and compiles its policy. Each file is
// read once. The Runtime is nil if any finding is more than a warning. The
// findings hold the warnings of Load too.
func Build(f *File, eng handshake.Engine) (*Runtime, []Finding) {
	return build(f, eng, time.Now())
}

// Check reads, loads and compiles a file and says everything that is wrong
// with it at once, also where Load alone fails.
func Check(path string, eng handshake.Engine) (*Runtime, []Finding) {
	return build(load(path), eng, time.Now())
}

func build(f *File, eng handshake.Engine, now time.Time) (*Runtime, []Finding) {
	if !f.has("") || f.cut {
		return nil, f.findings // not even a mapping, or only a part: nothing to build on
	}
	b := &builder{file: f, now: now, failed: map[string]bool{}}
	rt := &Runtime{File: f, Config: b.config()}
	f.in.name(f.Name, rt.Config)
	env := policy.Environment{
		Authorities: map[string]*handshake.Authority{},
		Permits:     map[string]*policy.PermitsSpec{},
		Identities:  map[string]policy.Identity{},
		Engine:      eng,
		Over:        f.in.over,
		Source:      f.Config.Dial.source(),
		MaxChain:    f.Config.Limits.Chain, MaxChainBytes: int(f.Config.Limits.ChainBytes),
	}
	for _, name := range slices.Sorted(maps.Keys(f.Config.Authorities)) {
		if f.in.over() {
			return nil, nil
		}
		b.authority(name, &env)
	}
	for _, name := range slices.Sorted(maps.Keys(f.Config.Identities)) {
		if f.in.over() {
			return nil, nil
		}
		b.identity(name, &env)
	}
	b.profiles(&env)
	b.sets(&env)
	b.audit()
	rt.Tickets = b.tickets()
	rt.Staples = b.staples
	rt.Revocation = b.authorities
	rt.TUNAddresses = f.tunAddresses()
	rt.Files = files(f.Name, rt.Config)
	rt.Environment = env
	if !f.in.take(rulesCost(f.Config.Policy.Rules)) {
		return nil, nil
	}
	rt.Set = b.policy(env)
	rt.Metrics = b.metrics(env)
	b.shadow(rt, eng)
	b.keysFit(env)
	b.keysApart(env)
	b.meant(env)
	b.token()
	b.unused()
	fs := f.some(append(slices.Clone(f.findings), b.findings...))
	if Failed(fs) || rt.Set == nil {
		return nil, fs
	}
	return rt, fs
}

// shadow compiles the policy that runs beside the enforced one. Its file is
// held to the same rules as a configuration that is to be run.
func (b *builder) shadow(rt *Runtime, eng handshake.Engine) {
	path := rt.Config.Shadow
	if path == "" {
		return
	}
	if path == b.file.Name {
		b.add("shadow", "a configuration cannot be its own shadow")
		return
	}
	f := loadIn(b.file.in, path)
	f.Config.Shadow = "" // one shadow, not a row of them
	other, found := build(f, eng, b.now)
	b.findings = append(b.findings, found...)
	if other == nil {
		b.add("shadow", path+" is not usable")
		return
	}
	rt.Shadow = other.Set
	rt.Files = slices.Concat(rt.Files, other.Files)
}

// files lists what a runtime is read from; c has its paths resolved.
func files(name string, c *Config) []string {
	all := []string{name}
	for _, a := range c.Authorities {
		all = append(all, a.Roots, a.Intermediates)
	}
	for _, s := range c.Policy.Sets {
		if s.File != "" {
			all = append(all, s.File)
		}
	}
	all = append(all, c.Tickets.Keys, c.Admin.TokenFile)
	for _, id := range c.Identities {
		for _, p := range id.pairs() {
			all = append(all, p.Certificate, p.Key, p.OCSP)
		}
		all = append(all, id.Issuer)
	}
	all = slices.DeleteFunc(all, func(name string) bool { return name == "" })
	slices.Sort(all)
	return slices.Compact(all)
}

// builder collects what Build finds.
type builder struct {
	file     *File
	now      time.Time
	findings []Finding
	setFiles map[string]setFile // by name of the set
	// failed has the paths of entries that could not be loaded, such as
	// "authorities.staff": that a rule names them is no second mistake.
	failed map[string]bool
	// refs is what rules refer to, see references; made when first asked for.
	refs map[string]string
	// issuers are the CAs that make certificates on demand, by identity.
	issuers map[string]*x509.Certificate
	// staples are the OCSP responses that were loaded.
	staples []*Staple
	// authorities is what was loaded of their revocation.
	authorities []revocation.Authority
}

// add reports a mistake unless it is an echo of one that Load reported.
func (b *builder) add(path, msg string) {
	if !b.file.echo(path) {
		b.findings = append(b.findings, b.file.Finding(path, msg))
	}
}

func (b *builder) warn(path, msg string) {
	if !b.file.echo(path) {
		b.findings = append(b.findings, b.file.Warning(path, msg))
	}
}

// config is a copy of the file's Config with paths resolved.
func (b *builder) config() *Config {
	c := b.file.Config
	c.Authorities = maps.Clone(c.Authorities)
	for name, a := range c.Authorities {
		a.Roots = b.file.abs(a.Roots)
		if a.Intermediates != "" {
			a.Intermediates = b.file.abs(a.Intermediates)
		}
		a.CRL = slices.Clone(a.CRL)
		for i, place := range a.CRL {
			if !revocation.IsURL(place) {
				a.CRL[i] = b.file.abs(place)
			}
		}
		c.Authorities[name] = a
	}
	c.Policy.Sets = maps.Clone(c.Policy.Sets)
	for name, s := range c.Policy.Sets {
		if s.File != "" {
			s.File = b.file.abs(s.File)
			c.Policy.Sets[name] = s
		}
	}
	c.Identities = maps.Clone(c.Identities)
	for name, id := range c.Identities {
		for _, name := range []*string{&id.Certificate, &id.Key, &id.OCSP, &id.Issuer} {
			if *name != "" {
				*name = b.file.abs(*name)
			}
		}
		id.Also = slices.Clone(id.Also)
		for i := range id.Also {
			p := &id.Also[i]
			p.Certificate, p.Key = b.file.abs(p.Certificate), b.file.abs(p.Key)
			if p.OCSP != "" {
				p.OCSP = b.file.abs(p.OCSP)
			}
		}
		c.Identities[name] = id
	}
	if c.State != "" {
		c.State = b.file.abs(c.State)
	}
	if c.Tickets.Keys != "" {
		c.Tickets.Keys = b.file.abs(c.Tickets.Keys)
	}
	if c.Audit.Syslog != "" {
		c.Audit.Syslog = b.file.abs(c.Audit.Syslog)
	}
	if c.Audit.File != "-" {
		c.Audit.File = b.file.abs(c.Audit.File)
	}
	if c.Shadow != "" {
		c.Shadow = b.file.abs(c.Shadow)
	}
	if c.Admin.Socket != AdminOff {
		c.Admin.Socket = b.file.abs(c.Admin.Socket)
	}
	if c.Admin.TokenFile != "" {
		c.Admin.TokenFile = b.file.abs(c.Admin.TokenFile)
	}
	return &c
}
