package config

import (
	"crypto"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/audit"
	"github.com/sslgate/sslgate/internal/certname"
	"github.com/sslgate/sslgate/internal/certread"
	"github.com/sslgate/sslgate/internal/fielderr"
	"github.com/sslgate/sslgate/internal/fileset"
	"github.com/sslgate/sslgate/internal/keyusage"
	"github.com/sslgate/sslgate/internal/pki"
	"github.com/sslgate/sslgate/internal/times"
	"github.com/sslgate/sslgate/policy"
)

// minRSABits is the smallest RSA key shown or trusted: NIST SP 800-131A and
// the CA/Browser Forum's baseline (section 6.1.5) take nothing smaller.
const minRSABits = 2048

// authority loads one entry of authorities into env.
func (b *builder) authority(name string, env *policy.Environment) {
	path := keyPath("authorities", name)
	b.failed[path] = true
	anchors := b.anchors(name)
	if anchors == nil {
		return
	}
	permits := b.file.Config.Authorities[name].Permits
	if permits != nil && slices.ContainsFunc(policy.CheckPermits(permits), func(e *fielderr.Error) bool { return !e.Warning }) {
		return // Load has said so
	}
	delete(b.failed, path)
	source := b.trusted(anchors, env)
	env.Authorities[name], env.Permits[name] = source, permits
	if s := b.file.Config.Authorities[name].SPIFFE; s != nil {
		if env.TrustDomains == nil {
			env.TrustDomains = map[string]string{}
		}
		env.TrustDomains[name] = s.TrustDomain
	}
	b.authorities = append(b.authorities, b.revocation(anchors, source))
}

// anchor says whether a root of a file is fit to be trusted; if not, why was added.
func (b *builder) anchor(path, file, what string, c *x509.Certificate) bool {
	switch {
	case !c.BasicConstraintsValid || !c.IsCA:
		b.add(path, what+" is no CA certificate (RFC 5280, section 4.2.1.9)")
		return false
	case !keyusage.Allows(c, x509.KeyUsageCertSign):
		b.add(path, what+" may not sign certificates (key usage, RFC 5280, section 4.2.1.3)")
		return false
	case hugeKey(c):
		b.add(path, what+" has an RSA key of more than 8192 bits, with which nothing is verified: it takes too long. Use RSA of 2048 to 4096 bits, or ECDSA P-256")
		return false
	case certread.Key(c) != nil:
		b.warn(path, fmt.Sprintf("%s: %s: nobody whose path ends there gets in. %s", file, certread.Key(c).Named()+": "+certread.Key(c).Why, certread.Key(c).Mend))
	case b.now.Before(c.NotBefore):
		b.warn(path, what+" is not valid before "+times.Stamp(c.NotBefore))
	default:
		b.expiring(path, file, what, c)
	}
	return true
}

// identity loads one entry of identities into env.
func (b *builder) identity(name string, env *policy.Environment) {
	path := keyPath("identities", name)
	b.failed[path] = true
	id := b.file.Config.Identities[name]
	before := len(b.findings)
	out := policy.Identity{Name: name}
	if id.Issuer != "" {
		var ok bool
		if out, ok = b.minted(name, path, id); !ok {
			return
		}
	} else if o := b.own(name, id); o != nil {
		o.env, out.Source = env, o.source
		b.owns = append(b.owns, o)
	}
	if Failed(b.findings[before:]) || len(out.Certificates()) == 0 {
		return
	}
	delete(b.failed, path)
	env.Identities[name] = out
}

// pair loads a certificate with its key; nil means that there is none to go on
// with, or that the two do not belong together.
func (b *builder) pair(path, identity string, p KeyPair) (*tls.Certificate, *handshake.Staple) {
	chain := b.chain(path+".certificate", p.Certificate)
	if socket, ok := signerSocket(p.Key); ok {
		return b.remotePair(path, identity, p, socket, chain)
	}
	key := b.privateKey(path, p.Key, p.Passphrase)
	if key == nil || chain == nil {
		return nil, nil
	}
	if err := pki.CheckPair(chain[0], key); err != nil {
		b.add(path+".key", fmt.Sprintf("%s does not belong to %s: %v", b.file.abs(p.Key), b.file.abs(p.Certificate), err))
		return nil, nil
	}
	return certificateOf(chain, key), b.staple(path+".ocsp", identity, p.OCSP, chain)
}

func certificateOf(chain []*x509.Certificate, key crypto.Signer) *tls.Certificate {
	cert := &tls.Certificate{PrivateKey: key, Leaf: chain[0]}
	for _, c := range chain {
		cert.Certificate = append(cert.Certificate, c.Raw)
	}
	return cert
}

// privateKey reads the key of the pair at a path; nil means that there is none, and why
// was added.
func (b *builder) privateKey(path, name, passphrase string) crypto.Signer {
	if name == "" {
		return nil
	}
	secret, ok := b.passphrase(path+".passphrase", passphrase)
	if !ok {
		return nil
	}
	defer clear(secret)
	path += ".key"
	file := b.file.abs(name)
	if b.inBundle(path, file) {
		return nil
	}
	f, err := b.file.in.readPEM(file)
	if err != nil {
		b.add(path, err.Error())
		return nil
	}
	defer b.file.in.files.DoneSecret(file) // the parsed key stays, this copy need not
	key, encrypted, err := pki.DecryptKey(f.Text, secret)
	if err != nil {
		b.add(path, file+": "+b.named(err, file).Error())
		return nil
	}
	b.secret(path, file, f.Mode.Perm())
	if secret != nil && !encrypted {
		b.warn(path, file+" is not encrypted: its passphrase has no effect")
	}
	return key
}

// secret judges the mode of a file with keys.
func (b *builder) secret(path, file string, mode fs.FileMode) {
	switch {
	case mode&0o007 != 0:
		b.add(path, fmt.Sprintf("%s is open to everyone (mode %04o): chmod o= %[1]s", file, mode))
	case mode&0o020 != 0:
		b.warn(path, fmt.Sprintf("%s may be written by its group (mode %04o), which can so put a key there that it knows: chmod g-w %[1]s", file, mode))
	}
}

// certificates reads a file of certificates and returns its resolved name with
// them; nil means that there are none to go on with, and the reason was added.
func (b *builder) certificates(path, name string) (file string, certs []*x509.Certificate) {
	return b.certificatesBy(path, name, func(f fileset.File) ([]*x509.Certificate, error) { return pki.ParseCertificates(f.Text) })
}

// certificatesBy is certificates with the parser given.
func (b *builder) certificatesBy(path, name string, parse func(fileset.File) ([]*x509.Certificate, error)) (file string, certs []*x509.Certificate) {
	file = b.file.abs(name)
	f, err := b.file.in.readPEM(file)
	if err != nil {
		b.add(path, err.Error())
		return file, nil
	}
	defer b.file.in.files.DoneSecret(file) // it may hold a key
	if certs, err = parse(f); err != nil {
		b.add(path, file+": "+b.named(err, file).Error())
		return file, nil
	}
	return file, certs
}

// chain reads the certificates of an identity, leaf first. nil means that
// there is none to go on with; the reason was added.
func (b *builder) chain(path, name string) []*x509.Certificate {
	if name == "" {
		return nil
	}
	file, certs := b.certificatesBy(path, name, func(f fileset.File) ([]*x509.Certificate, error) {
		return pki.ParseChain(f.Text, f.Mode)
	})
	if certs == nil {
		return nil
	}
	leaf := certs[0]
	if leaf.IsCA {
		b.add(path, file+": the first certificate is a CA's: the leaf comes first, its intermediates after it (RFC 8446, section 4.4.2)")
		return nil
	}
	if pub, ok := leaf.PublicKey.(*rsa.PublicKey); ok && pub.N.BitLen() < minRSABits {
		b.add(path, fmt.Sprintf("%s: an RSA key of %d bits: at least %d, or better ECDSA P-256", file, pub.N.BitLen(), minRSABits))
	} else if ok {
		b.warn(path, file+": an RSA key: each handshake costs about three times the CPU of one with ECDSA P-256")
	}
	if !keyusage.Serves(leaf, x509.ExtKeyUsageServerAuth) && b.servesClients(path) {
		b.add(path, file+": not for server authentication (extended key usage, RFC 5280, section 4.2.1.12): every client would refuse it")
	}
	b.usable(path, file, leaf)
	b.chainFits(path, file, certs)
	if len(certname.Alt(leaf.Extensions)) == 0 {
		b.warn(path, file+": no subject alternative name: clients that follow RFC 9525 refuse it")
	}
	for i, c := range certs {
		what := fmt.Sprintf("%s: certificate %d (%s)", file, i+1, certname.Quoted(c))
		switch {
		case b.now.Before(c.NotBefore):
			b.add(path, what+" is not valid before "+times.Stamp(c.NotBefore))
		case !b.now.Before(c.NotAfter):
			b.ending(path, what+" expired on "+times.Stamp(c.NotAfter), renewed(file), false)
		default:
			b.expiring(path, file, what, c)
		}
		if i > 0 && string(certs[i-1].RawIssuer) != string(c.RawSubject) {
			b.warn(path, what+fmt.Sprintf(" did not issue certificate %d: each certifies the one before it (RFC 5246, section 7.4.2)", i))
		}
	}
	return certs
}

// usable finds an own certificate whose key usage does not fit: whoever it is
// shown to must refuse it (RFC 5246, section 7.4.2; RFC 8446, section 4.4.2.2).
func (b *builder) usable(path, file string, leaf *x509.Certificate) {
	_, isRSA := leaf.PublicKey.(*rsa.PublicKey)
	switch {
	case keyusage.Allows(leaf, x509.KeyUsageDigitalSignature):
	case isRSA && keyusage.Allows(leaf, x509.KeyUsageKeyEncipherment) && b.servesClients(path):
		b.warn(path, file+": its key usage lacks digitalSignature: it is good for RSA key transport alone, and clients refuse it with every other CipherSuite. Have it issued with digitalSignature")
	default:
		b.add(path, file+": its key usage lacks digitalSignature (RFC 5280, section 4.2.1.3): whoever it is shown to refuses it. Have it issued with digitalSignature")
	}
}

// expiring warns of a certificate that has expired or will within 30 days; of
// one that lives less than 90 days, in the last third of its life.
func (b *builder) expiring(path, file, what string, c *x509.Certificate) {
	left := times.Sub(c.NotAfter, b.now)
	switch {
	case left <= 0:
		b.ending(path, what+" expired on "+times.Stamp(c.NotAfter), renewed(file), true)
	case left <= min(30*times.Day, times.Sub(c.NotAfter, c.NotBefore)/3):
		b.ending(path, fmt.Sprintf("%s expires in %s, on %s", what, times.Text(b.now, c.NotAfter), times.Stamp(c.NotAfter)), renewed(file), true)
	}
}

// ending reports what no change of the configuration mends.
func (b *builder) ending(path, msg, mend string, warning bool) {
	if b.file.echo(path) {
		return
	}
	f := b.file.Finding(path, msg)
	f.Mend, f.Warning = mend, warning
	b.findings = append(b.findings, f)
}

func renewed(file string) string {
	return "renew it, put the new one into " + file + ", then `sslgate reload`"
}

// replaced is for what the gateway reads again by itself.
func replaced(file string) string {
	return "put the next one into " + file + ", which is read without a reload"
}

// auditSocket checks that somebody may listen there. Whether he does is seen
// at the start.
func (b *builder) auditSocket(path, socket string) {
	var st unix.Stat_t
	if err := unix.Stat(socket, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		b.add(path, "there is no socket "+socket)
	}
}

// audit checks that the record file can be written. It is not created here:
// check changes nothing.
func (b *builder) audit() {
	name := b.file.Config.Audit.File
	if b.file.Config.Audit.Journal {
		b.auditSocket("audit.journal", audit.JournalSocket)
	}
	if s := b.file.Config.Audit.Syslog; s != "" {
		b.auditSocket("audit.syslog", b.file.abs(s))
	}
	if name == "-" || name == "" {
		return
	}
	file := b.file.abs(name)
	var st unix.Stat_t
	switch err := unix.Stat(file, &st); {
	case err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR:
		b.add("audit.file", file+" is a directory")
	case err == nil:
		if err := unix.Access(file, unix.W_OK); err != nil {
			b.add("audit.file", fmt.Sprintf("%s cannot be written: %v", file, err))
		}
	default:
		dir := filepath.Dir(file)
		if err := unix.Access(dir, unix.W_OK|unix.X_OK); err != nil {
			b.add("audit.file", fmt.Sprintf("%s cannot be made in %s: %v", filepath.Base(file), dir, err))
		}
	}
}
