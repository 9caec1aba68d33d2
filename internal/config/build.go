package config

import (
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/sslgate/sslgate/handshake"
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
	// Environment is what the rules of Set refer to by name.
	Environment policy.Environment
	// Files are all files that were read: a change of one asks for a reload.
	Files []string
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
	if !f.has("") {
		return nil, f.findings // not even a mapping: nothing to build on
	}
	b := &builder{file: f, now: now, failed: map[string]bool{}}
	rt := &Runtime{File: f, Config: b.config()}
	env := policy.Environment{
		Authorities: map[string]*handshake.Authority{},
		Permits:     map[string]*policy.PermitsSpec{},
		Identities:  map[string]policy.Identity{},
		Cannot:      eng.Cannot,
	}
	for _, name := range slices.Sorted(maps.Keys(f.Config.Authorities)) {
		b.authority(name, &env)
	}
	for _, name := range slices.Sorted(maps.Keys(f.Config.Identities)) {
		b.identity(name, &env)
	}
	b.profiles(&env)
	b.audit()
	rt.TUNAddresses = f.tunAddresses()
	rt.Files = files(f.Name, rt.Config)
	rt.Environment = env
	rt.Set = b.policy(env)
	b.keysFit(env)
	b.unused()
	fs := append(slices.Clone(f.findings), b.findings...)
	Sort(fs)
	if Failed(fs) || rt.Set == nil {
		return nil, fs
	}
	return rt, fs
}

// files lists what a runtime is read from; c has its paths resolved.
func files(name string, c *Config) []string {
	all := []string{name}
	for _, a := range c.Authorities {
		all = append(all, a.Roots)
	}
	for _, id := range c.Identities {
		all = append(all, id.Certificate, id.Key)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// builder collects what Build finds.
type builder struct {
	file     *File
	now      time.Time
	findings []Finding
	// failed has the paths of entries that could not be loaded, such as
	// "authorities.staff": that a rule names them is no second mistake.
	failed map[string]bool
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
		c.Authorities[name] = a
	}
	c.Identities = maps.Clone(c.Identities)
	for name, id := range c.Identities {
		id.Certificate, id.Key = b.file.abs(id.Certificate), b.file.abs(id.Key)
		c.Identities[name] = id
	}
	if c.Audit.File != "-" {
		c.Audit.File = b.file.abs(c.Audit.File)
	}
	if c.Admin.Socket != AdminOff {
		c.Admin.Socket = b.file.abs(c.Admin.Socket)
	}
	return &c
}
