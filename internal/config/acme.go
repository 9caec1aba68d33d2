package config

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io/fs"
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sslgate/sslgate/internal/acmeclient"
	"github.com/sslgate/sslgate/internal/identity"
	"github.com/sslgate/sslgate/internal/spiffe"
	"github.com/sslgate/sslgate/policy/pattern"
)

// ACME is the order of a certificate of a CA (RFC 8555).
type ACME struct {
	// Directory is the https URL of the CA's directory, such as https://acme-v02.api.letsencrypt.org/directory. Required.
	Directory string `yaml:"directory"`
	// Names of the certificate. A "*" as the first label takes dns. Required.
	Names []string `yaml:"names"`
	// AgreeTerms says that you agree to the CA's terms of service. Required: true.
	AgreeTerms bool `yaml:"agree_terms"`
	// Contact are addresses that the CA may write to, such as mailto:pki@example.org. Default: none.
	Contact []string `yaml:"contact"`
	// Account is the identifier of an account that you have with the CA (external account binding, RFC 8555, section 7.3.4). Default: none; the CA makes one.
	Account string `yaml:"account"`
	// AccountKey is where the key of account stands, in base64url: a file, "env:NAME" for an environment variable, or "credential:NAME" for a credential of systemd. Required with account.
	AccountKey string `yaml:"account_key"`
	// Roots is the PEM file of the CAs that the server of the directory is verified by. Default: those of the system.
	Roots string `yaml:"roots"`
	// DNS is the Unix socket of a program that writes records of the DNS, by which the names are proven (dns-01; docs/identities.md). Default: they are proven by a handshake with this gateway (tls-alpn-01), which the CA begins at port 443 of each name.
	DNS string `yaml:"dns"`
}

// validatorPort is where a CA connects to for tls-alpn-01 (RFC 8737, section 3).
const validatorPort = 443

// maxACMENames is how many names one certificate may have: Let's Encrypt issues no more.
const maxACMENames = 100

func (f *File) checkACME(path string, id *Identity) {
	const alone = "with acme the certificate is ordered: leave one of them out"
	for _, key := range []string{"certificate", "key", "passphrase", "ocsp", "also", "issuer", "names", "lifetime"} {
		f.check(!f.has(path+"."+key), path+"."+key, alone)
	}
	a := id.ACME
	path += ".acme"
	f.check(a.Directory != "", path+".directory", "is missing: the https URL of the CA's directory")
	if u, err := url.Parse(a.Directory); a.Directory != "" {
		f.check(err == nil && u.Scheme == "https" && u.Host != "" && u.User == nil && u.Fragment == "", path+".directory", "%s: wants https://HOST/PATH", quote(a.Directory))
	}
	f.check(a.AgreeTerms, path+".agree_terms", "is missing: `agree_terms: true` says that you agree to the CA's terms of service, without which it issues nothing")
	f.check(len(a.Names) > 0, path+".names", `is missing: the DNS names of the certificate, such as ["pay.example.org"]`)
	f.check(len(a.Names) <= maxACMENames, path+".names", "%d names: at most %d", len(a.Names), maxACMENames)
	seen := map[string]bool{}
	for i, name := range a.Names {
		p := indexPath(path+".names", i)
		_, err := pattern.ParseHost(name)
		f.check(err == nil && name == strings.ToLower(name) && !strings.HasPrefix(name, ".") && !pattern.IsAddr(name), p, "%s is no DNS name in lower case", quote(name))
		f.check(!strings.HasPrefix(name, "*") || a.DNS != "", p, "a CA issues %s for a proof in the DNS alone: it takes dns", quote(name))
		f.check(!seen[name], p, "%s is listed twice", quote(name))
		seen[name] = true
	}
	for i, c := range a.Contact {
		f.check(strings.HasPrefix(c, "mailto:"), indexPath(path+".contact", i), "%s: wants mailto:ADDRESS", quote(c))
	}
	f.check((a.Account != "") == (a.AccountKey != ""), path+".account_key", "belongs to account: write both, or none")
	f.check(f.Config.State != "", path, "takes a directory for certificate and key: name one in `state`")
	for i, r := range f.Config.Policy.Rules {
		f.check(r.Destination.Identity == "" || f.Config.Identities[r.Destination.Identity].ACME != id.ACME, indexPath("policy.rules", i)+".destination.identity",
			"%s is ordered by acme: such a certificate is for clients, for CAs issue it for servers", quote(r.Destination.Identity))
	}
}

// placeACME says where the certificates stand that are ordered: as if they had been named.
func (f *File) placeACME() {
	for name, id := range f.Config.Identities {
		if id.ACME != nil && f.Config.State != "" {
			id.Certificate = filepath.Join(f.Config.State, "acme", name+".pem")
			id.Key = id.Certificate
			f.Config.Identities[name] = id
		}
	}
}

// ordered makes the source of an identity that is ordered, of what was found in its file: before
// is the number of findings before that. What cannot be used is no mistake of the configuration:
// it is ordered anew. False: what the order needs cannot be read, and why was added.
func (b *builder) ordered(o *Own, id Identity, certs []tls.Certificate, before int) bool {
	why := failure(b.findings[before:])
	b.findings = slices.DeleteFunc(b.findings, func(f Finding) bool {
		return !f.Warning && strings.HasPrefix(f.Path, keyPath("identities", o.Name)+".")
	})
	path := keyPath("identities", o.Name) + ".acme"
	if id.Certificate == "" {
		return false // without `state`, as Load has said
	}
	specimen, err := acmeclient.Specimen(id.ACME.Names, b.now)
	if err != nil {
		b.add(path, err.Error())
		return false
	}
	switch {
	case len(certs) != 1:
		why = cmp.Or(why, errors.New(b.file.abs(id.Certificate)+" is not usable"))
	case !acmeclient.IsFor(certs[0].Leaf, id.ACME.Names):
		if why == nil && acmeclient.HasOneOf(certs[0].Leaf, id.ACME.Names) {
			o.source = identity.NewStandIn(*specimen, certs[0])
		}
		if why = errors.New("it has other names"); o.source != nil {
			b.warn(path, b.file.abs(id.Certificate)+" has other names: a running gateway orders another one, and until it is there handshakes for names that it lacks fail")
		}
	case why == nil || b.now.After(certs[0].Leaf.NotAfter): // once it has ended nobody is shown it
		o.source = identity.NewFile(certs, nil).ForServers()
		if why != nil {
			b.warn(path, why.Error()+": a running gateway orders another one, and handshakes fail until it is there")
		}
	}
	if o.source == nil {
		o.source = identity.NewAwaited([]tls.Certificate{*specimen}).ForServers()
		b.warn(path, "no certificate can be used yet ("+why.Error()+"): a running gateway orders one, and handshakes fail until it is there")
	}
	o.order = &acmeclient.Order{
		Directory: id.ACME.Directory, Names: id.ACME.Names, Contact: id.ACME.Contact, File: b.file.abs(id.Certificate),
	}
	if id.ACME.DNS != "" {
		o.order.DNS = b.file.abs(id.ACME.DNS)
	} else if p := b.file.Config.Capture.Ports; !p.All && !slices.Contains(p.List, validatorPort) {
		b.warn(path, "a CA proves the names by a handshake at port 443, and capture.ports does not have it: the proof fails unless somebody leads that port here; capture it, or name a program for the DNS in dns")
	}
	if id.ACME.Account != "" {
		text, ok := b.passphrase(path+".account_key", id.ACME.AccountKey)
		defer clear(text)
		key, err := acmeclient.ParseExternalKey(text)
		if ok && err != nil {
			b.add(path+".account_key", b.file.abs(id.ACME.AccountKey)+": "+err.Error())
		}
		if !ok || err != nil {
			return false
		}
		o.order.External = acmeclient.External{ID: id.ACME.Account, Key: key}
	}
	if id.ACME.Roots != "" {
		_, roots := b.certificates(path+".roots", id.ACME.Roots)
		if roots == nil {
			return false
		}
		o.order.Roots = x509.NewCertPool()
		for _, c := range roots {
			o.order.Roots.AddCert(c)
		}
	}
	return true
}

// Order is how the identity is ordered; nil where somebody else writes its files.
func (o *Own) Order() *acmeclient.Order { return o.order }

// Ordered notes what has become of an order: nil, or why it has failed.
func (o *Own) Ordered(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.silent = err
}

var errAwaited = errors.New("there is no certificate yet: it is being ordered")

// awaited is why nothing is shown although nothing has failed; nil where there is a certificate.
func (o *Own) awaited() error {
	if o.source.Awaited() && o.FromAgent() {
		return spiffe.ErrNotYet
	} else if o.source.Awaited() {
		return errAwaited
	}
	return nil
}

// notThere says that a certificate that is ordered has not come yet.
func (o *Own) notThere() bool {
	if o.order == nil || !o.source.Awaited() {
		return false
	}
	_, err := o.from.Stamp(o.order.File)
	return errors.Is(err, fs.ErrNotExist)
}

// Leaf is the first certificate in use; nil where there is none yet, or none of the names that
// are ordered.
func (o *Own) Leaf() *x509.Certificate {
	if c := o.source.Certificates(); !o.source.Awaited() && !o.source.StandsIn() && len(c) > 0 {
		return c[0].Leaf
	}
	return nil
}

var errStandIn = errors.New("the certificate in use has other names than acme.names: another one is being ordered")

// standsIn is why what is shown is not what is ordered; nil where it is.
func (o *Own) standsIn() error {
	if o.source.StandsIn() {
		return errStandIn
	}
	return nil
}
