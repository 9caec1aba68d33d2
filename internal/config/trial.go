package config

import (
	"crypto/tls"
	"crypto/x509"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/goccy/go-yaml/ast"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/policy"
)

// StandIns take the place of certificates where a policy is tried out and not
// run: no private key is read, and files may be missing.
type StandIns struct {
	// Identity is shown for every entry of identities.
	Identity tls.Certificate
	// Authority returns trust anchors that count for an entry of authorities
	// beside those of its file, of which there are none where it cannot be
	// read. Nil adds none, and every file must be there.
	Authority func(name string, loaded []*x509.Certificate) []*x509.Certificate
}

// TryPolicy compiles the policy of a file that parsed, with stand-ins. The Set
// decides like that of Build but for what the stand-ins add; it is nil if any
// finding is more than a warning.
func TryPolicy(f *File, eng handshake.Engine, stand StandIns) (*policy.Set, []Finding) {
	b := &builder{file: f, now: time.Now(), failed: map[string]bool{}}
	env := policy.Environment{
		Authorities: map[string]*handshake.Authority{},
		Permits:     map[string]*policy.PermitsSpec{},
		Identities:  map[string]policy.Identity{},
		Cannot:      eng.Cannot,
		MaxChain:    f.Config.Limits.Chain, MaxChainBytes: int(f.Config.Limits.ChainBytes),
	}
	for _, name := range slices.Sorted(maps.Keys(f.Config.Authorities)) {
		b.standInAuthority(name, &env, stand)
	}
	for name := range f.Config.Identities {
		env.Identities[name] = policy.Identity{Name: name, Certificates: []tls.Certificate{stand.Identity}}
	}
	b.profiles(&env)
	b.sets(&env)
	set := b.policy(env)
	fs := append(slices.Clone(f.findings), b.findings...)
	Sort(fs)
	if Failed(fs) {
		return nil, fs
	}
	return set, fs
}

func (b *builder) standInAuthority(name string, env *policy.Environment, stand StandIns) {
	before := len(b.findings)
	b.authority(name, env)
	if stand.Authority == nil {
		return
	}
	// What is wrong with a file is for `check`: here the stand-in will do.
	b.findings = b.findings[:before]
	delete(b.failed, keyPath("authorities", name))
	a := &handshake.Authority{Name: name}
	if loaded := env.Authorities[name]; loaded != nil {
		a.Name, a.Roots = loaded.Name, slices.Clone(loaded.Roots)
	}
	a.Roots = append(a.Roots, stand.Authority(name, a.Roots)...)
	env.Authorities[name], env.Permits[name] = a, b.file.Config.Authorities[name].Permits
}

// Decode reads a YAML file of another form as strictly as the configuration:
// v points to a struct with yaml tags, of the kinds of fields that Config has.
// The File locates mistakes by path. It is nil with an error, which is Findings.
func Decode(name string, text []byte, v any) (*File, error) {
	f := &File{Name: name, places: places{}}
	text = normalize(text)
	f.src = newSource(name, text)
	if len(text) > maxFile {
		return nil, Findings{f.src.finding(place{}, "", "the file is too large")}
	}
	body, bad := f.readTree(text)
	if bad != nil {
		return nil, Findings{*bad}
	}
	d := &decoder{src: f.src, places: f.places, aliases: map[*ast.AliasNode]ast.Node{}, texts: map[string]scalarAt{}}
	bindAliases(d, body)
	if !isMapping(body) {
		d.addf(d.placeOf(body), "", "the file wants keys and values, not %s", describe(body))
	} else {
		d.places[""] = d.placeOf(body)
		d.structure(mappingEntries(body), reflect.ValueOf(v).Elem(), "")
	}
	f.findings, f.tainted, f.texts = d.findings, d.tainted, d.texts
	if len(f.findings) > 0 {
		Sort(f.findings)
		return nil, Findings(f.findings[:min(len(f.findings), maxFindings)])
	}
	return f, nil
}

// Abs resolves a path as it is written in the file.
func (f *File) Abs(path string) string { return f.abs(path) }

// Has says whether a path stands in the file; a default does not.
func (f *File) Has(path string) bool { return f.has(path) }
