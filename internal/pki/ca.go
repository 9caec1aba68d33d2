package pki

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"time"

	"github.com/sslgate/sslgate/internal/pemfile"
)

// The files in a CA's directory. Issued certificates are stored there too, unless
// IssueOptions.Out says otherwise.
const (
	fileCert   = "ca.pem"
	fileKey    = "ca.key"      // PKCS#8, mode 0600
	fileCRL    = "crl.pem"     // the newest one
	fileNumber = "crl.number"  // of the newest CRL, decimal
	fileIndex  = "index.jsonl" // one Record a line
)

const day = 24 * time.Hour

// backdate is how long before now a validity begins, for clocks that are behind.
const backdate = 5 * time.Minute

// InitOptions of a CA. The zero value can be used.
type InitOptions struct {
	Name string        // its CN; default "sslgate CA " and 8 hex digits, so that two CAs never share a name
	Org  string        // default none
	Key  string        // one of KeyKinds; default ecdsa-p256
	Life time.Duration // default 3650 days
	Now  time.Time     // default the system's clock
}

// InitResult says what Init made and where it is.
type InitResult struct {
	Dir         string `json:"dir"`
	CertFile    string `json:"certificate_file"`
	KeyFile     string `json:"key_file"`
	CRLFile     string `json:"crl_file"`
	Certificate Item   `json:"certificate"`
}

// Init makes a CA in dir, and dir itself if needed: key, self-signed certificate, an
// empty index and a first, empty revocation list. It never overwrites: it returns
// ErrExists if there is a CA already, or part of one.
func Init(dir string, o InitOptions) (*InitResult, error) {
	now := orNow(o.Now).Truncate(time.Second) // certificates know no less than seconds
	if o.Life == 0 {
		o.Life = 3650 * day
	}
	if o.Life < 0 {
		return nil, usagef("the validity must be positive")
	}
	if len(o.Name) > 64 || len(o.Org) > 64 {
		return nil, usagef("a name in a certificate's subject has at most 64 characters (RFC 5280, appendix A.1)")
	}
	// Certificates and revocation lists are for everyone; keys have mode 0600.
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	unlock, err := lock(dir, lockWait)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := nothingThere(dir); err != nil {
		return nil, err
	}
	key, err := NewKey(o.Key)
	if err != nil {
		return nil, err
	}
	cert, err := selfSign(o, key, now)
	if err != nil {
		return nil, err
	}
	kp, err := keyPEM(key)
	if err != nil {
		return nil, err
	}
	ca := &authority{dir: dir, cert: cert, key: key}
	// The certificate makes the directory a CA, so it is written last: a crash before it
	// leaves no half-working CA.
	if err := createFile(ca.path(fileKey), kp, 0o600); err != nil {
		return nil, err
	}
	if err := ca.writeIndex(nil); err != nil {
		return nil, err
	}
	if _, err := ca.writeCRL(nil, now, 0); err != nil {
		return nil, err
	}
	if err := createFile(ca.path(fileCert), certPEM(cert), 0o644); err != nil {
		return nil, err
	}
	return &InitResult{
		Dir: dir, CertFile: ca.path(fileCert), KeyFile: ca.path(fileKey), CRLFile: ca.path(fileCRL),
		Certificate: certItem(cert, now),
	}, nil
}

func nothingThere(dir string) error {
	cert, key := filepath.Join(dir, fileCert), filepath.Join(dir, fileKey)
	switch {
	case exists(cert):
		return fmt.Errorf("%s %w: a new CA would make every certificate of the old one useless; for a second CA choose another directory: `sslgate pki init --dir OTHER`", cert, ErrExists)
	case exists(key):
		return fmt.Errorf("%s %w, but without %s: an `init` was interrupted there, or the certificate got lost; move the key away, then try again", key, ErrExists, fileCert)
	}
	return nil
}

func selfSign(o InitOptions, key crypto.Signer, now time.Time) (*x509.Certificate, error) {
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	if o.Name == "" {
		o.Name = "sslgate CA " + hex.EncodeToString(serial.Bytes()[:4])
	}
	t := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: o.Name},
		NotBefore:    now.Add(-backdate), NotAfter: now.Add(o.Life),
		BasicConstraintsValid: true, IsCA: true,
		MaxPathLenZero: true, // it signs leaves only: no CA below it (RFC 5280, section 4.2.1.9)
		KeyUsage:       x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	if o.Org != "" {
		t.Subject.Organization = []string{o.Org}
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("sign the CA's certificate: %w", err)
	}
	return x509.ParseCertificate(der)
}

// authority is an opened CA, with the lock of its directory.
type authority struct {
	dir  string
	cert *x509.Certificate
	key  crypto.Signer
}

func (a *authority) path(name string) string { return filepath.Join(a.dir, name) }

// open locks and loads the CA in dir.
func open(dir string) (a *authority, unlock func(), err error) {
	cert, key := filepath.Join(dir, fileCert), filepath.Join(dir, fileKey)
	if !exists(cert) {
		return nil, nil, fmt.Errorf("%s: %w (%s is missing): make one with `%s`", dir, ErrNoCA, fileCert, Command(dir, "init"))
	}
	release, err := lock(dir, lockWait)
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			release()
		}
	}()
	certs, err := readCertificates(cert)
	if err != nil {
		return nil, nil, err
	}
	if len(certs) != 1 || !certs[0].IsCA {
		return nil, nil, fmt.Errorf("%s is not the certificate of one CA", cert)
	}
	k, err := readOwnKey(key)
	if err != nil {
		return nil, nil, err
	}
	if err := CheckPair(certs[0], k); err != nil {
		return nil, nil, fmt.Errorf("%s: %w", key, err)
	}
	return &authority{dir: dir, cert: certs[0], key: k}, release, nil
}

// readOwnKey refuses a key that others can read, because anybody with the CA's key can
// act as the CA.
func readOwnKey(path string) (crypto.Signer, error) {
	st, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s is missing: without its key this CA can neither issue nor revoke", path)
	}
	if err != nil {
		return nil, err
	}
	if st.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s can be read by others (mode %#o): close it with `chmod 600 %s`, and if others had access make a new CA", path, st.Mode().Perm(), ShellQuote(path))
	}
	data, err := readFile(path, maxPEM)
	if err != nil {
		return nil, err
	}
	key, err := ParseKey(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, pemfile.Named(err, path))
	}
	return key, nil
}

func readCertificates(path string) ([]*x509.Certificate, error) {
	data, err := readFile(path, maxPEM)
	if err != nil {
		return nil, err
	}
	certs, err := ParseCertificates(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, pemfile.Named(err, path))
	}
	return certs, nil
}

// newSerial makes a serial number of 127 bits, 126 of them random: positive, at most 20 octets and
// unpredictable (RFC 5280, section 4.1.2.2).
func newSerial() (*big.Int, error) {
	b := make([]byte, 16)
	if _, err := rand.Read(b); err != nil {
		return nil, err
	}
	b[0] = b[0]&0x7f | 0x40 // never negative, and always 16 octets
	return new(big.Int).SetBytes(b), nil
}

// Command is the `sslgate pki` command to type for a directory.
func Command(dir string, words string) string {
	c := "sslgate pki " + words
	if filepath.Clean(dir) != DefaultDir {
		c += " --dir " + ShellQuote(dir)
	}
	return c
}

// DefaultDir is where `sslgate pki` looks unless told otherwise.
const DefaultDir = "pki"

func orNow(t time.Time) time.Time {
	if t.IsZero() {
		return time.Now()
	}
	return t
}
