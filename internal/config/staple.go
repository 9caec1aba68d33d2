package config

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/fileset"
	"github.com/sslgate/sslgate/internal/times"
)

// Staple is the OCSP response of one of an identity's certificates. It is
// fetched by somebody else, who replaces the file; Read is then asked again.
type Staple struct {
	Identity string
	File     string
	// Shown is what handshakes show.
	Shown *handshake.Staple

	leaf, issuer *x509.Certificate // issuer nil: it is not in the chain
	src          fileset.Source    // of File

	mu         sync.Mutex
	der        []byte
	this, next time.Time
}

// stapleWithoutEnd is how long a response without nextUpdate is shown. It says
// that newer information is there all the time (RFC 6960, section 4.2.2.1).
const stapleWithoutEnd = 24 * time.Hour

// Read reads the file again and says whether the response is another one. With
// an error the one before stays, until it ends.
func (s *Staple) Read(now time.Time) (changed bool, err error) {
	return s.read(newLoading(context.Background(), nil, s.src), now)
}

// Stamp is a text that changes when the file does.
func (s *Staple) Stamp() string {
	stamp, err := s.src.Stamp(s.File)
	if err != nil {
		return err.Error()
	}
	return stamp
}

func (s *Staple) read(in *loading, now time.Time) (changed bool, err error) {
	f, err := in.readPEM(s.File)
	if err != nil {
		return false, err
	}
	defer in.files.Done(s.File)
	der := f.Text
	if err := stapleFits(s.File, der); err != nil {
		return false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if bytes.Equal(der, s.der) {
		return false, nil
	}
	r, err := ocsp.ParseResponseForCert(der, s.leaf, s.issuer)
	switch {
	case err != nil:
		return false, fmt.Errorf("%s: no OCSP response for this certificate: %w", s.File, err)
	case r.Status != ocsp.Good:
		return false, errors.New(s.File + ": the response does not say that the certificate is good")
	case now.Before(r.ThisUpdate.Add(-time.Minute)): // clocks differ a little
		return false, fmt.Errorf("%s: the response is not valid before %s", s.File, times.Stamp(r.ThisUpdate))
	}
	s.der, s.this, s.next = der, r.ThisUpdate, r.NextUpdate
	if s.next.IsZero() {
		s.next = s.this.Add(stapleWithoutEnd)
	}
	s.Shown.Set(der, s.next)
	return true, nil
}

// Until is when the response ends; the zero time if there is none.
func (s *Staple) Until() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.next
}

// Ending says whether less than a quarter of the response's time is left: who
// fetches it should have done so at half of it.
func (s *Staple) Ending(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return now.After(times.Part(s.this, s.next, 3, 4))
}

// staple reads an OCSP response for a certificate. Whether the CA signed it is
// looked at where the CA's certificate is in the chain.
func (b *builder) staple(path, identity, name string, chain []*x509.Certificate) *handshake.Staple {
	if name == "" {
		return nil
	}
	s := &Staple{Identity: identity, File: b.file.abs(name), Shown: &handshake.Staple{}, leaf: chain[0], src: b.file.in.files.Source()}
	if len(chain) > 1 {
		s.issuer = chain[1]
	}
	if _, err := s.read(b.file.in, b.now); err != nil && b.renews {
		b.staples = append(b.staples, s) // the one for the new certificate comes later
		return s.Shown
	} else if err != nil {
		b.add(path, err.Error())
		return nil
	}
	until := s.Until()
	end := times.Stamp(until)
	switch {
	case !b.now.Before(until):
		b.ending(path, s.File+": the response ended on "+end+" and is not stapled: fetch a new one", replaced(s.File), true)
	case s.Ending(b.now):
		b.ending(path, fmt.Sprintf("%s: the response ends in %s, on %s, and is not stapled after that: fetch a new one", s.File, times.Text(b.now, until), end), replaced(s.File), true)
	}
	b.staples = append(b.staples, s)
	return s.Shown
}
