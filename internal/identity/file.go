package identity

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync/atomic"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/reason"
	"github.com/sslgate/sslgate/internal/times"
)

// ErrOtherKind says that certificates are no renewal: they have other names, another kind
// of key or other uses. That is another policy, which a reload brings.
var ErrOtherKind = errors.New("another kind of certificate")

// File is the source of certificates that were read from files. They, and their OCSP
// responses, are replaced while it is used.
type File struct {
	kinds   []Kind
	servers bool // see ForServers
	spiffe  bool // see BySPIFFE
	now     atomic.Pointer[pairs]
}

// pairs are certificates with their keys, as they were read together.
type pairs struct {
	certs   []tls.Certificate
	staples []*handshake.Staple // by index; may be shorter, and have nil entries
	ends    time.Time           // when the first of them ends
	awaited bool                // none is there yet: certs are specimens, which are never shown
	standIn bool                // certs are those of before, with other names
}

// NewFile makes a source of certificates with their OCSP responses, by index, in place
// of those that they have; nil leaves that. A certificate that cannot be parsed has
// the zero Kind.
func NewFile(certs []tls.Certificate, staples []*handshake.Staple) *File {
	f := &File{kinds: kindsOf(certs)}
	f.now.Store(newPairs(certs, staples))
	return f
}

// NewAwaited makes a source of certificates that are not there yet, where specimens are of the
// kind that they will be. Until Replace brings them For is an error with reason.IdentityEnded.
func NewAwaited(specimens []tls.Certificate) *File {
	f := NewFile(specimens, nil)
	f.now.Load().awaited = true
	return f
}

// ForServers says, before f is used, that its certificates are shown to clients alone, so that
// it does not matter whether they are good for client authentication too: CAs change that.
func (f *File) ForServers() *File {
	f.servers = true
	for i := range f.kinds {
		f.kinds[i].Client = false
	}
	return f
}

// BySPIFFE says, before f is used, that its certificates are SVIDs: they are what their SPIFFE ID
// says, and other names of theirs come and go.
func (f *File) BySPIFFE() *File {
	f.spiffe = true
	for i := range f.kinds {
		f.kinds[i] = f.kinds[i].bySPIFFE()
	}
	return f
}

// Await takes the certificates back: there are none until Replace brings others. Specimens are of
// their kind.
func (f *File) Await(specimens []tls.Certificate) {
	p := newPairs(specimens, nil)
	p.awaited = true
	f.now.Store(p)
}

// Awaited says that no certificate is there yet.
func (f *File) Awaited() bool { return f.now.Load().awaited }

// Replace puts renewed certificates, with their keys and OCSP responses, in the place of
// those before: handshakes that begin from now on show them. ErrOtherKind changes
// nothing.
func (f *File) Replace(certs []tls.Certificate, staples []*handshake.Staple) error {
	now := kindsOf(certs)
	if len(now) != len(f.kinds) {
		return fmt.Errorf("%w: %d certificates instead of %d", ErrOtherKind, len(now), len(f.kinds))
	}
	for i, k := range now {
		if f.servers {
			k.Client = false
		}
		if f.spiffe {
			k = k.bySPIFFE()
		}
		if was := f.kinds[i]; !reflect.DeepEqual(k, was) {
			return fmt.Errorf("%w: %s instead of %s", ErrOtherKind, k, was)
		}
	}
	f.now.Store(newPairs(certs, staples))
	return nil
}

// Refit puts the same certificates, whose keys turn out to sign with other schemes, in the place
// of those of the moment, unless they were replaced meanwhile.
func (f *File) Refit(was, now []tls.Certificate) {
	old := f.now.Load()
	if len(was) == len(now) && len(was) == len(old.certs) && &was[0] == &old.certs[0] {
		f.now.CompareAndSwap(old, newPairs(now, old.staples))
	}
}

func newPairs(certs []tls.Certificate, staples []*handshake.Staple) *pairs {
	p := &pairs{certs: certs, staples: staples}
	for i := range certs {
		if leaf := handshake.LeafOf(&certs[i]); leaf != nil && (p.ends.IsZero() || leaf.NotAfter.Before(p.ends)) {
			p.ends = leaf.NotAfter
		}
	}
	return p
}

func kindsOf(certs []tls.Certificate) []Kind {
	var all []Kind
	for i := range certs {
		var k Kind
		if leaf := handshake.LeafOf(&certs[i]); leaf != nil {
			k = kindOf(leaf)
		}
		all = append(all, k)
	}
	return all
}

// OnDemand is false.
func (*File) OnDemand() bool { return false }

// For is the certificates that have not ended, with the OCSP responses that are good
// now. Where all have ended it is an error with reason.IdentityEnded.
func (f *File) For(_ context.Context, h *handshake.ClientHello, now time.Time) ([]tls.Certificate, error) {
	p := f.now.Load()
	if p.awaited {
		return nil, notThere()
	}
	if err := p.lacks(h); err != nil {
		return nil, err
	}
	ended := !p.ends.IsZero() && now.After(p.ends)
	if !ended && !slices.ContainsFunc(p.staples, func(s *handshake.Staple) bool { return s != nil }) {
		return p.certs, nil
	}
	out := slices.Clone(p.certs)
	for i := range min(len(out), len(p.staples)) {
		if s := p.staples[i]; s != nil {
			out[i].OCSPStaple = s.At(now)
		}
	}
	if ended {
		return Good(out, now)
	}
	return out, nil
}

func notThere() error {
	e := handshake.OurFault("there is no certificate yet")
	e.Reason = reason.IdentityEnded
	return e
}

// Good are those of our certificates that have not ended. Where all have it is an error
// with reason.IdentityEnded: who would be shown one refuses it, and would not know why. So it is
// where one is not there yet (NoKey).
func Good(certs []tls.Certificate, now time.Time) ([]tls.Certificate, error) {
	if slices.ContainsFunc(certs, func(c tls.Certificate) bool { _, ok := c.PrivateKey.(NoKey); return ok }) {
		return nil, notThere()
	}
	ended := func(c tls.Certificate) bool {
		leaf := handshake.LeafOf(&c)
		return leaf != nil && now.After(leaf.NotAfter)
	}
	if !slices.ContainsFunc(certs, ended) {
		return certs, nil
	}
	good := slices.DeleteFunc(slices.Clone(certs), ended)
	if len(good) > 0 {
		return good, nil
	}
	e := handshake.OurFault("the certificate ended on " + times.Stamp(handshake.LeafOf(&certs[0]).NotAfter))
	e.Reason = reason.IdentityEnded
	return nil, e
}

// Certificates are those of the files; where none is there yet, specimens.
func (f *File) Certificates() []tls.Certificate { return f.now.Load().certs }

// Is says what they are.
func (f *File) Is() []Kind { return f.kinds }
