package config

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/admin"
	"github.com/sslgate/sslgate/internal/fileset"
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
	// Source is where they were read.
	Source fileset.Source
	// Snapshot is the digest of the configuration and all files that it names, those
	// with secrets and revocation lists too, as they were read. See fileset.Snapshot.
	Snapshot string
	// Revocation is what the authorities say of revocation, with the lists that
	// were read from files.
	Revocation []revocation.Authority
	// Own are the identities of files, by name. They are renewed while the Runtime is used.
	Own []*Own
	// Trusted are the authorities, by name, and after them those of the shadow. They are renewed
	// while the Runtime is used.
	Trusted []*Trusted
	// Tickets are nil where there are none.
	Tickets *RuntimeTickets
	// Token is what admin.http asks for; nil where there is no such listener.
	Token *admin.Token
	// Shadow is the compiled policy of the file shadow; nil if there is none.
	Shadow *policy.Set
	// TUNAddresses are tun.addresses; destinations in them are refused.
	TUNAddresses []netip.Prefix
}

// Check reads, loads and compiles a file and says everything that is wrong
// with it at once, also where Load alone fails.
func Check(path string, eng handshake.Engine) (*Runtime, []Finding) {
	f := load(path)
	return build(f.in.bundled(f), eng, time.Now())
}

// build loads the files that f names, of one snapshot, and compiles its policy. The
// Runtime is nil if any finding is more than a warning. The findings hold the
// warnings of Load too.
func build(f *File, eng handshake.Engine, now time.Time) (*Runtime, []Finding) {
	if !f.has("") || f.cut {
		return nil, f.findings // not even a mapping, or only a part: nothing to build on
	}
	f.readable()
	defer f.in.files.Close()
	// Of a file that the configuration and its shadow name, or one of them twice, one
	// text is kept from the first use to the last.
	f.in.expect(f.resolved())
	beside := f.loadShadow()
	if beside != nil && beside.has("") && !beside.cut {
		f.in.expect(beside.resolved())
	}
	return buildBeside(f, beside, eng, now)
}

// readable lets the files that one in memory names be read, of the disk.
func (f *File) readable() {
	if f.in == nil {
		f.in = newLoading(context.Background(), nil, fileset.Disk{})
	}
}

// buildBeside builds on a file, with the file of its shadow, nil if there is none.
func buildBeside(f, beside *File, eng handshake.Engine, now time.Time) (*Runtime, []Finding) {
	if !f.has("") || f.cut {
		return nil, f.findings // as in build
	}
	b := &builder{file: f, now: now, failed: map[string]bool{}}
	rt := &Runtime{File: f, Config: f.resolved(), Source: f.in.files.Source()}
	f.in.name(f.Name, rt.Config)
	env := policy.Environment{
		Authorities: map[string]handshake.AuthoritySource{},
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
	rt.Own, rt.Trusted = b.owns, b.trusts
	for _, t := range b.trusts {
		t.issuers = b.issuers
	}
	rt.Revocation = b.authorities
	rt.TUNAddresses = f.tunAddresses()
	rt.Files = files(f.Name, rt.Config)
	if f.host != nil {
		rt.Files = append(rt.Files, f.host.Name)
	}
	rt.Environment = env
	if !f.in.take(rulesCost(f.Config.Policy.Rules)) {
		return nil, nil
	}
	rt.Set = b.policy(env)
	rt.Metrics = b.metrics(env)
	b.shadow(rt, beside, eng)
	b.keysFit(env)
	b.clearWhileDown()
	b.keysApart(env)
	b.meant(env)
	rt.Token = b.token()
	b.unused()
	fs := f.some(append(slices.Clone(f.findings), b.findings...))
	if Failed(fs) || rt.Set == nil {
		return nil, fs
	}
	rt.Snapshot = f.in.files.Digest(f.Name)
	return rt, fs
}

// loadShadow reads the file of the shadow; nil if there is none.
func (f *File) loadShadow() *File {
	path := f.Config.Shadow
	if path == "" || f.abs(path) == f.Name || f.in.over() {
		return nil
	}
	beside := loadBeside(f.in, f.abs(path), f.host)
	beside.Config.Shadow = "" // one shadow, not a row of them
	return beside
}

// shadow compiles the policy that runs beside the enforced one, of its file. It is
// held to the same rules as a configuration that is to be run.
func (b *builder) shadow(rt *Runtime, f *File, eng handshake.Engine) {
	path := rt.Config.Shadow
	switch {
	case path == "":
		return
	case path == b.file.Name:
		b.add("shadow", "a configuration cannot be its own shadow")
		return
	case f == nil:
		return // the loading is over
	}
	other, found := buildBeside(f, nil, eng, b.now)
	b.findings = append(b.findings, found...)
	if other == nil {
		b.add("shadow", path+" is not usable")
		return
	}
	rt.Shadow = other.Set
	for _, t := range other.Trusted {
		t.Shadow = true
	}
	rt.Trusted = slices.Concat(rt.Trusted, other.Trusted)
	rt.Files = slices.Concat(rt.Files, other.Files)
}

// files lists what a runtime is read from; c has its paths resolved.
func files(name string, c *Config) []string {
	all := append(uses(c), name)
	slices.Sort(all)
	return slices.Compact(all)
}

// uses lists the files that c names, its paths resolved, as often as each is read, but
// for the shadow and the lists.
func uses(c *Config) []string {
	var all []string
	for _, a := range c.Authorities {
		all = append(all, a.Roots, a.Intermediates)
	}
	for _, s := range c.Policy.Sets {
		all = append(all, s.File)
	}
	all = append(all, c.Tickets.Keys, c.Admin.TokenFile)
	for _, id := range c.Identities {
		for _, p := range id.pairs() {
			all = append(all, p.Certificate, p.Passphrase, p.OCSP)
			if _, ok := signerSocket(p.Key); !ok {
				all = append(all, p.Key)
			}
		}
		all = append(all, id.Issuer)
		if id.ACME != nil {
			all = append(all, id.ACME.Roots, id.ACME.AccountKey)
		}
	}
	return slices.DeleteFunc(all, func(name string) bool { return name == "" })
}

// lists are the files of revocation lists that c names, its paths resolved.
func lists(c *Config) []string {
	var all []string
	for _, a := range c.Authorities {
		for _, place := range a.CRL {
			if !revocation.IsURL(place) {
				all = append(all, place)
			}
		}
	}
	return all
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
	// staples are the OCSP responses that were loaded, owns the identities of files.
	staples []*Staple
	owns    []*Own
	// trusts are the authorities that were loaded.
	trusts []*Trusted
	// signers are those that were asked, by socket.
	signers map[string]*asked
	// renews says that an identity is read again while it is used.
	renews bool
	// inUse are its certificates until then.
	inUse []tls.Certificate
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

// resolved is a copy of the file's Config with paths resolved.
func (f *File) resolved() *Config {
	c := f.Config
	c.Authorities = maps.Clone(c.Authorities)
	for name, a := range c.Authorities {
		if a.Roots != "" {
			a.Roots = f.abs(a.Roots)
		}
		if a.Intermediates != "" {
			a.Intermediates = f.abs(a.Intermediates)
		}
		a.CRL = slices.Clone(a.CRL)
		for i, place := range a.CRL {
			if !revocation.IsURL(place) {
				a.CRL[i] = f.abs(place)
			}
		}
		c.Authorities[name] = a
	}
	c.Policy.Sets = maps.Clone(c.Policy.Sets)
	for name, s := range c.Policy.Sets {
		if s.File != "" {
			s.File = f.abs(s.File)
			c.Policy.Sets[name] = s
		}
	}
	c.Identities = maps.Clone(c.Identities)
	for name, id := range c.Identities {
		for _, name := range []*string{&id.Certificate, &id.Key, &id.Passphrase, &id.OCSP, &id.Issuer} {
			if *name != "" {
				*name = f.abs(*name)
			}
		}
		if id.ACME != nil {
			a := *id.ACME
			for _, name := range []*string{&a.Roots, &a.DNS, &a.AccountKey} {
				if *name != "" {
					*name = f.abs(*name)
				}
			}
			id.ACME = &a
		}
		id.Also = slices.Clone(id.Also)
		for i := range id.Also {
			p := &id.Also[i]
			p.Certificate, p.Key = f.abs(p.Certificate), f.abs(p.Key)
			for _, name := range []*string{&p.Passphrase, &p.OCSP} {
				if *name != "" {
					*name = f.abs(*name)
				}
			}
		}
		c.Identities[name] = id
	}
	if c.State != "" {
		c.State = f.abs(c.State)
	}
	if c.Tickets.Keys != "" {
		c.Tickets.Keys = f.abs(c.Tickets.Keys)
	}
	if c.Audit.Syslog != "" {
		c.Audit.Syslog = f.abs(c.Audit.Syslog)
	}
	if c.Audit.File != "-" {
		c.Audit.File = f.abs(c.Audit.File)
	}
	if c.Shadow != "" {
		c.Shadow = f.abs(c.Shadow)
	}
	if c.Admin.Socket != AdminOff {
		c.Admin.Socket = f.abs(c.Admin.Socket)
	}
	if c.Admin.TokenFile != "" {
		c.Admin.TokenFile = f.abs(c.Admin.TokenFile)
	}
	return &c
}
