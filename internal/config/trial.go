package config

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/goccy/go-yaml/ast"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/acmeclient"
	"github.com/sslgate/sslgate/internal/identity"
	"github.com/sslgate/sslgate/internal/spiffe"
	"github.com/sslgate/sslgate/policy"
)

// StandIns take the place of certificates where a policy is tried out and not
// run: no private key is read, and files may be missing.
type StandIns struct {
	// Identity is shown for every entry of identities; with Own only for those whose
	// certificates cannot be read.
	Identity tls.Certificate
	// Own takes the certificates of the file, without their keys.
	Own bool
	// Authority returns trust anchors that count for an entry of authorities
	// beside those of its file, of which there are none where it cannot be
	// read. Nil adds none, and every file must be there.
	Authority func(name string, loaded []*x509.Certificate) []*x509.Certificate
}

// TryPolicy compiles the policy of a file that parsed, with stand-ins. The Set
// decides like that of Check but for what the stand-ins add; it is nil if any
// finding is more than a warning. made says what a stand-in was needed for; where it
// is empty, the Set has the ID of that of Check.
func TryPolicy(f *File, eng handshake.Engine, stand StandIns) (set *policy.Set, made []string, _ []Finding) {
	f.readable()
	b := &builder{file: f, now: time.Now(), failed: map[string]bool{}}
	env := policy.Environment{
		Authorities: map[string]handshake.AuthoritySource{},
		Permits:     map[string]*policy.PermitsSpec{},
		Identities:  map[string]policy.Identity{},
		Engine:      eng,
		Source:      f.Config.Dial.source(),
		MaxChain:    f.Config.Limits.Chain, MaxChainBytes: int(f.Config.Limits.ChainBytes),
	}
	for _, name := range slices.Sorted(maps.Keys(f.Config.Authorities)) {
		b.standInAuthority(name, &env, stand)
		if stand.Authority != nil {
			made = append(made, keyPath("authorities", name))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(f.Config.Identities)) {
		id, ok := policy.Identity{}, false
		if stand.Own {
			id, ok = b.keyless(name)
		}
		if !ok {
			id = policy.Identity{Name: name, Source: identity.NewFile([]tls.Certificate{stand.Identity}, nil)}
			made = append(made, keyPath("identities", name))
		}
		env.Identities[name] = id
	}
	b.profiles(&env)
	b.sets(&env)
	set = b.policy(env)
	fs := append(slices.Clone(f.findings), b.findings...)
	Sort(fs)
	if Failed(fs) {
		return nil, nil, fs
	}
	return set, made, fs
}

// keyless is an identity with the certificates of its files and without keys;
// false where one cannot be read. What else is wrong with them is for `check`.
func (b *builder) keyless(name string) (policy.Identity, bool) {
	before := len(b.findings)
	defer func() { b.findings = b.findings[:before] }()
	id := b.file.Config.Identities[name]
	out := policy.Identity{Name: name}
	if id.SPIFFE != nil {
		specimen, err := spiffe.Specimen(id.SPIFFE.ID, id.SPIFFE.KeyType)
		if err != nil {
			return out, false
		}
		out.Source = identity.NewAwaited([]tls.Certificate{*specimen}).BySPIFFE()
		return out, true
	}
	if id.ACME != nil { // what will be there is known without any file
		specimen, err := acmeclient.Specimen(id.ACME.Names, b.now)
		if err != nil {
			return out, false
		}
		out.Source = identity.NewAwaited([]tls.Certificate{*specimen}).ForServers()
		return out, true
	}
	pairs, path := id.pairs(), keyPath("identities", name)
	if id.Issuer != "" {
		pairs = []KeyPair{{Certificate: id.Issuer}}
	}
	var certs []tls.Certificate
	for _, pair := range pairs {
		_, chain := b.certificates(path, pair.Certificate)
		if chain == nil {
			return out, false
		}
		cert := tls.Certificate{Leaf: chain[0], PrivateKey: lostKey{chain[0].PublicKey}}
		for _, c := range chain {
			cert.Certificate = append(cert.Certificate, c.Raw)
		}
		certs = append(certs, cert)
	}
	if out.Source = identity.NewFile(certs, nil); id.Issuer != "" {
		out.Source = identity.NewMinted(noMint{}, certs[0], id.Names)
	}
	return out, true
}

// lostKey is a private key that nobody has read: what it can be used for is known
// by its public key, and it does nothing.
type lostKey struct{ public crypto.PublicKey }

var errLostKey = errors.New("the private key was not read")

func (k lostKey) Public() crypto.PublicKey { return k.public }

func (k lostKey) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errLostKey
}

func (k lostKey) Decrypt(io.Reader, []byte, crypto.DecrypterOpts) ([]byte, error) {
	return nil, errLostKey
}

// noMint is a Minter without the CA's key.
type noMint struct{}

func (noMint) For(context.Context, string) (*tls.Certificate, error) { return nil, errLostKey }

func (noMint) Like(context.Context, *x509.Certificate) (*tls.Certificate, error) {
	return nil, errLostKey
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
	if source := env.Authorities[name]; source != nil {
		loaded := source.Current()
		a.Name, a.Roots, a.Intermediates = loaded.Name, slices.Clone(loaded.Roots), loaded.Intermediates
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
