package pki

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sslgate/sslgate/internal/certname"
)

// IssueOptions of a certificate.
type IssueOptions struct {
	// Names for ParseNames; at least one, unless CN is set for a client.
	Names []string
	// Client and Server choose the extended key usage. Neither: server if all
	// names are DNS names or addresses, else client.
	Client, Server bool

	CN      string   // default the first DNS name, address or e-mail address of at most 64 bytes
	Org, OU []string // default none

	Key  string        // one of KeyKinds; default ecdsa-p256
	Life time.Duration // default 90 days; never longer than the CA's own

	Out  string    // directory the files go to; default the CA's
	File string    // name of the files without extension; default made from the first name
	Now  time.Time // default the system's clock
}

// IssueResult says what Issue made and where it is.
type IssueResult struct {
	CertFile    string `json:"certificate_file"`
	KeyFile     string `json:"key_file"`
	Certificate Item   `json:"certificate"`
	// Notes are sentences about what the caller may not expect.
	Notes []string `json:"notes,omitempty"`
}

// Issue makes a key and a certificate. It never overwrites a file (ErrExists). It enters
// the certificate in the index before it writes it, so that every certificate that exists
// can be revoked.
func Issue(dir string, o IssueOptions) (*IssueResult, error) {
	names, err := ParseNames(o.Names)
	if err != nil {
		return nil, err
	}
	if names.Empty() && (o.CN == "" || o.Server) {
		return nil, usagef("a certificate needs a name, for example `%s` or `%s`",
			Command(dir, "issue app.example.org"), Command(dir, "issue spiffe://example.org/app"))
	}
	if o.Life < 0 {
		return nil, usagef("the validity must be positive")
	}
	base, err := fileBase(o, names)
	if err != nil {
		return nil, err
	}
	a, unlock, err := open(dir)
	if err != nil {
		return nil, err
	}
	defer unlock()

	if o.Out == "" {
		o.Out = dir
	}
	// Checked before the index is written: a certificate that cannot be stored need not
	// be entered.
	if st, err := os.Stat(o.Out); err != nil || !st.IsDir() {
		return nil, usagef("--out %q is no directory: make it first", o.Out)
	}
	res := &IssueResult{CertFile: filepath.Join(o.Out, base+".pem"), KeyFile: filepath.Join(o.Out, base+".key")}
	for _, f := range []string{res.CertFile, res.KeyFile} {
		if exists(f) {
			return nil, fmt.Errorf("%s %w: give the new certificate another name with --file NAME, or move the old one away", f, ErrExists)
		}
	}
	key, err := NewKey(o.Key)
	if err != nil {
		return nil, err
	}
	cert, err := a.sign(o, names, key, res)
	if err != nil {
		return nil, err
	}
	kp, err := keyPEM(key)
	if err != nil {
		return nil, err
	}
	if err := a.enter(cert, res.CertFile); err != nil {
		return nil, err
	}
	if err := createFile(res.KeyFile, kp, 0o600); err != nil {
		return nil, err
	}
	if err := createFile(res.CertFile, certPEM(cert), 0o644); err != nil {
		_ = os.Remove(res.KeyFile) // a key without certificate is of no use
		return nil, err
	}
	return res, nil
}

// sign makes the certificate, and describes it in res.
func (a *authority) sign(o IssueOptions, names Names, key crypto.Signer, res *IssueResult) (*x509.Certificate, error) {
	now := orNow(o.Now).Truncate(time.Second) // certificates know no less than seconds
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: o.CN, Organization: o.Org, OrganizationalUnit: o.OU},
		DNSNames:     names.DNS, EmailAddresses: names.Emails, URIs: names.URIs,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature,
	}
	for _, ip := range names.IPs {
		t.IPAddresses = append(t.IPAddresses, net.IP(ip.AsSlice()))
	}
	if _, ok := key.Public().(*rsa.PublicKey); ok {
		t.KeyUsage |= x509.KeyUsageKeyEncipherment // RSA key transport: step 4 in the classic handshake
	}
	if o.CN == "" {
		t.Subject.CommonName = defaultCN(names)
	}
	if err := checkSubject(t.Subject); err != nil {
		return nil, err
	}
	if !o.Client && !o.Server {
		o.Server = len(names.URIs)+len(names.Emails) == 0 && !names.Empty()
		o.Client = !o.Server
		res.Notes = append(res.Notes, usageNote(o.Server))
	}
	if o.Server {
		t.ExtKeyUsage = append(t.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	}
	if o.Client {
		t.ExtKeyUsage = append(t.ExtKeyUsage, x509.ExtKeyUsageClientAuth)
	}
	if o.Life == 0 {
		o.Life = 90 * day
	}
	t.NotBefore, t.NotAfter = now.Add(-backdate), now.Add(o.Life)
	if t.NotBefore.Before(a.cert.NotBefore) {
		t.NotBefore = a.cert.NotBefore
	}
	switch {
	case !now.Before(a.cert.NotAfter):
		return nil, fmt.Errorf("this CA's own certificate ran out on %s: make a new CA with `sslgate pki init --dir OTHER`", date(a.cert.NotAfter))
	case t.NotAfter.After(a.cert.NotAfter):
		t.NotAfter = a.cert.NotAfter
		res.Notes = append(res.Notes, "It ends with the CA's own certificate, on "+date(t.NotAfter)+": earlier than asked for.")
	}
	der, err := x509.CreateCertificate(rand.Reader, t, a.cert, key.Public(), a.key)
	if err != nil {
		return nil, fmt.Errorf("sign the certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	res.Certificate = certItem(cert, now)
	return cert, nil
}

// enter adds a certificate to the index.
func (a *authority) enter(c *x509.Certificate, file string) error {
	recs, err := a.readIndex()
	if err != nil {
		return err
	}
	return a.writeIndex(append(recs, Record{
		Serial: serialHex(c.SerialNumber), Subject: certname.Of(c.RawSubject), Names: sans(c.Extensions),
		NotBefore: c.NotBefore, NotAfter: c.NotAfter, SPKI: spkiHex(c.RawSubjectPublicKeyInfo), File: file,
	}))
}

func usageNote(server bool) string {
	if server {
		return "It is for servers, because all its names are host names or addresses; --client makes one for clients."
	}
	return "It is for clients, because it has a name that is no host name or address; --server makes one for servers."
}

// defaultCN is the first name that is suitable as a common name, or "".
func defaultCN(n Names) string {
	for _, s := range append(append(append([]string(nil), n.DNS...), stringsOf(n.IPs)...), n.Emails...) {
		if len(s) <= 64 {
			return s
		}
	}
	return ""
}

// checkSubject enforces the upper bounds of RFC 5280, appendix A.1, and refuses control
// characters, because people will read the subject.
func checkSubject(n pkix.Name) error {
	for _, s := range append(append([]string{n.CommonName}, n.Organization...), n.OrganizationalUnit...) {
		if len(s) > 64 {
			return usagef("%q is %d bytes long; a name in a certificate's subject has at most 64 (RFC 5280, appendix A.1)", s, len(s))
		}
		if quote(s) != s {
			return usagef("%q has characters that cannot be shown", s)
		}
	}
	return nil
}

// fileBase is the name of the files without extension: the first name, with every
// character but letters, digits, dots, dashes and @ replaced by an underscore.
func fileBase(o IssueOptions, n Names) (string, error) {
	if o.File != "" {
		if slug(o.File) != o.File || reserved(o.File) {
			return "", usagef("--file %q: the name of the files is of lower-case letters, digits, and . - _ @ +, begins with a letter or digit, and is not ca, crl or index", o.File)
		}
		return o.File, nil
	}
	all := n.Strings()
	first := o.CN
	if len(all) > 0 {
		first = all[0][strings.Index(all[0], ":")+1:] // without "DNS:"
	}
	if _, rest, ok := strings.Cut(first, "://"); ok {
		first = rest // "corp/pay" of spiffe://corp/pay
	}
	base := slug(strings.Replace(first, "*", "wildcard", 1))
	if len(all) > 1 {
		base = fmt.Sprintf("%s+%d", base, len(all)-1)
	}
	if base == "" || reserved(base) {
		return "", usagef("no name for the files can be made from %q: choose one with --file NAME", first)
	}
	return base, nil
}

func reserved(base string) bool { return base == "ca" || base == "crl" || base == "index" }

// slug makes a plain file name of at most 100 bytes.
func slug(s string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(s) {
		switch {
		case b.Len() == 100:
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			b.WriteRune(r)
		case b.Len() == 0: // no hidden files, no names that look like options
		case strings.ContainsRune(".-_@+", r):
			b.WriteRune(r)
		default:
			b.WriteByte('_')
		}
	}
	return b.String()
}
