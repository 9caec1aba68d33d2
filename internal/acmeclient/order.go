package acmeclient

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/sslgate/sslgate/internal/certname"
	"github.com/sslgate/sslgate/internal/dialer"
	"github.com/sslgate/sslgate/internal/escape"
	"github.com/sslgate/sslgate/internal/writefile"
)

const (
	// orderFor bounds one order. A validator may ask from several places, one after the other,
	// and a record of the DNS takes its time.
	orderFor = 5 * time.Minute
	// retries is how often one request is repeated where the CA is busy; the order itself is
	// repeated by whoever asked for it.
	retries = 4
	// removeFor bounds the wait until the hook has taken a record away, also when the gateway
	// stops: it must not hold that up.
	removeFor = 5 * time.Second
	// aheadFor is how far our clock may be behind the CA's.
	aheadFor = 5 * time.Minute
	// maxShown bounds what the CA says where it is shown, in bytes.
	maxShown = 400
)

// Order is a certificate to be ordered, again and again, each time with a new key.
type Order struct {
	// Directory is the URL of the CA's directory object (RFC 8555, section 7.1.1).
	Directory string
	// Names are the DNS names of the certificate.
	Names []string
	// Contact are mailto: URLs that the CA may write to.
	Contact []string
	// External is the account that the customer has with the CA already; the zero value is none.
	External External
	// Roots verify the CA's server; nil are those of the system.
	Roots *x509.CertPool
	// DNS is the socket of the hook that writes records for dns-01; "" proves by tls-alpn-01.
	DNS string
	// File is where certificate and key are written, with mode 0600. The keys of accounts
	// stand in the same directory.
	File string
}

// External is an account that is not made by ACME (RFC 8555, section 7.3.4).
type External struct {
	ID  string
	Key []byte // for HMAC with SHA-256
}

// ParseExternalKey reads the key of an External as CAs hand it out: in base64url without padding
// (RFC 4648, section 5). Padding is overlooked.
func ParseExternalKey(text []byte) ([]byte, error) {
	key, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(string(text), "="))
	if err != nil || len(key) == 0 {
		return nil, errors.New("is no key in base64url") // not err: it quotes what stands there
	}
	return key, nil
}

// Obtain orders the certificate, and writes it with its key and chain into o.File: all of it, or
// nothing with an error. That is a *RetryAfter where the CA limits how often it is asked.
func (o *Order) Obtain(ctx context.Context, mark dialer.Mark, challenges *Challenges) error {
	ctx, cancel := context.WithTimeout(ctx, orderFor)
	defer cancel()
	if err := os.MkdirAll(filepath.Dir(o.File), 0o700); err != nil {
		return err
	}
	key, chain, err := o.obtain(ctx, mark, challenges)
	if err != nil {
		said := errors.New("ACME, " + o.Directory + ": " + escape.Shown(err.Error(), maxShown))
		if wait, ok := limits(err, time.Now()); ok {
			return &RetryAfter{said, wait}
		}
		return said
	}
	text, err := encode(key, chain)
	if err != nil {
		return err
	}
	defer clear(text)
	return writefile.Replace(o.File, text, 0o600)
}

func (o *Order) obtain(ctx context.Context, mark dialer.Mark, challenges *Challenges) (key crypto.Signer, chain [][]byte, err error) {
	account, err := o.account()
	if err != nil {
		return nil, nil, err
	}
	client := &acme.Client{Key: account, DirectoryURL: o.Directory, HTTPClient: newHTTP(mark, o.Directory, o.Roots), UserAgent: "sslgate", RetryBackoff: backoff}
	defer client.HTTPClient.CloseIdleConnections()
	who := &acme.Account{Contact: o.Contact}
	if o.External.ID != "" {
		who.ExternalAccountBinding = &acme.ExternalAccountBinding{KID: o.External.ID, Key: o.External.Key}
	}
	if _, err := client.Register(ctx, who, acme.AcceptTOS); err != nil && !errors.Is(err, acme.ErrAccountAlreadyExists) {
		return nil, nil, fmt.Errorf("account: %w", err)
	}
	order, err := client.AuthorizeOrder(ctx, acme.DomainIDs(o.Names...))
	if err != nil {
		return nil, nil, fmt.Errorf("order: %w", err)
	}
	if len(order.AuthzURLs) > len(o.Names) {
		return nil, nil, fmt.Errorf("order: the CA wants %d proofs for %d names", len(order.AuthzURLs), len(o.Names))
	}
	for _, url := range order.AuthzURLs {
		if err := o.authorize(ctx, client, url, challenges); err != nil {
			return nil, nil, err
		}
	}
	if order, err = client.WaitOrder(ctx, order.URI); err != nil {
		return nil, nil, fmt.Errorf("order: %w", err)
	}
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	request, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: o.Names}, own)
	if err != nil {
		return nil, nil, err
	}
	if chain, _, err = client.CreateCertFromOrder(ctx, order, request, true); err != nil {
		return nil, nil, fmt.Errorf("certificate: %w", err)
	}
	return own, chain, o.fits(own, chain, time.Now())
}

// fits says what is wrong with what the CA has issued: it must be for our key and our names, and
// of use at that time. It takes the place of what is in use.
func (o *Order) fits(key crypto.Signer, chain [][]byte, now time.Time) error {
	if len(chain) == 0 {
		return errors.New("the CA has issued nothing")
	}
	leaf, err := x509.ParseCertificate(chain[0])
	if err != nil {
		return fmt.Errorf("the CA has issued no certificate: %w", err)
	}
	if pub, ok := leaf.PublicKey.(*ecdsa.PublicKey); !ok || !pub.Equal(key.Public()) {
		return errors.New("the CA has issued a certificate for another key")
	}
	if !IsFor(leaf, o.Names) {
		return fmt.Errorf("the CA has issued a certificate for other names: %v", certname.Alt(leaf.Extensions))
	}
	if now.Add(aheadFor).Before(leaf.NotBefore) || !now.Before(leaf.NotAfter) {
		return fmt.Errorf("the CA has issued a certificate for %v to %v; now it is %v", leaf.NotBefore, leaf.NotAfter, now.UTC())
	}
	if leaf.IsCA {
		return errors.New("the CA has issued a certificate of a CA")
	}
	for i, der := range chain[1:] {
		if _, err := x509.ParseCertificate(der); err != nil {
			return fmt.Errorf("certificate %d of the chain that the CA has sent: %w", i+2, err)
		}
	}
	return nil
}

// IsFor says whether a certificate is for these DNS names, and nothing else.
func IsFor(c *x509.Certificate, names []string) bool {
	var has []string
	for _, n := range certname.Alt(c.Extensions) {
		has = append(has, n.String())
	}
	wants := make([]string, len(names))
	for i, name := range names {
		wants[i] = certname.AltName{Kind: "dns", Name: name}.String()
	}
	slices.Sort(has)
	slices.Sort(wants)
	return slices.EqualFunc(has, wants, strings.EqualFold)
}

// HasOneOf says whether a certificate has one of these DNS names, as it is written.
func HasOneOf(c *x509.Certificate, names []string) bool {
	return slices.ContainsFunc(certname.Alt(c.Extensions), func(has certname.AltName) bool {
		return has.Kind == "dns" && slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, has.Name) })
	})
}

// ordered says whether a name that the CA wants a proof for is one of ours. It says "a.example"
// for "*.a.example" (RFC 8555, section 7.1.3).
func (o *Order) ordered(name string) bool {
	return slices.ContainsFunc(o.Names, func(n string) bool { return strings.EqualFold(strings.TrimPrefix(n, "*."), name) })
}

// authorize proves to the CA that we hold the name of one authorization.
func (o *Order) authorize(ctx context.Context, client *acme.Client, url string, challenges *Challenges) error {
	z, err := client.GetAuthorization(ctx, url)
	if err != nil {
		return fmt.Errorf("authorization: %w", err)
	}
	if z.Status == acme.StatusValid {
		return nil // proven lately
	}
	name, kind := z.Identifier.Value, "tls-alpn-01"
	if z.Identifier.Type != "dns" || !o.ordered(name) {
		// Whoever answers for any name that the CA says proves to others what is not ours.
		return fmt.Errorf("the CA wants a proof for %q, which was not ordered", name)
	}
	if o.DNS != "" {
		kind = "dns-01"
	}
	i := slices.IndexFunc(z.Challenges, func(c *acme.Challenge) bool { return c.Type == kind })
	if i < 0 {
		return fmt.Errorf("the CA lets nobody prove %q by %s", name, kind)
	}
	if o.DNS != "" {
		value, err := client.DNS01ChallengeRecord(z.Challenges[i].Token)
		if err != nil {
			return err
		}
		record := "_acme-challenge." + name
		if err := askHook(ctx, o.DNS, "present", record, value); err != nil {
			return err
		}
		defer func() {
			clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), removeFor)
			defer cancel()
			_ = askHook(clean, o.DNS, "remove", record, value) // what stays there is of no use to anybody
		}()
	} else {
		cert, err := client.TLSALPN01ChallengeCert(z.Challenges[i].Token, name)
		if err != nil {
			return err
		}
		defer challenges.Await(name, &cert)()
	}
	if _, err := client.Accept(ctx, z.Challenges[i]); err != nil {
		return fmt.Errorf("%s: %w", kind, err)
	}
	if _, err := client.WaitAuthorization(ctx, url); err != nil {
		return fmt.Errorf("%s: %w", kind, err)
	}
	return nil
}
