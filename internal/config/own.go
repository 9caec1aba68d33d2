package config

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/acmeclient"
	"github.com/sslgate/sslgate/internal/fileset"
	"github.com/sslgate/sslgate/internal/identity"
	"github.com/sslgate/sslgate/internal/signer"
	"github.com/sslgate/sslgate/internal/spiffe"
	"github.com/sslgate/sslgate/policy"
)

// Own is an identity whose certificates and keys stand in files, or come from an agent. Somebody
// else renews the files; Renew then reads them again. It is safe for many goroutines.
type Own struct {
	Name string
	// Files are those of its certificates, keys and passphrases.
	Files []string

	file   *File               // what names them; its values do not change
	env    *policy.Environment // that the rules were compiled with
	from   fileset.Source
	source *identity.File

	order      *acmeclient.Order // by which it is renewed; nil: somebody else does that
	spiffe.Use                   // from which it comes
	specimens  []tls.Certificate // of what comes from there
	renewing   sync.Mutex        // one Renew at a time; guards half
	half       string            // the stamp of what may have been half written, see whole

	mu      sync.Mutex // guards what follows
	staples []*Staple
	failed  error // why what stands in the files is not used; nil: it is
	silent  error // why a signer of it does not sign, or the last order failed; nil: all is well
	asks    int   // how often in a row a signer did not
	signers map[string]*asked
}

// Renew reads the files again, and puts what stands there in the place of what is shown:
// all certificates of the identity, with their keys, or none. They are held to the rules
// of a load. With an error those of before stay in use: what is found while somebody
// writes the files, such as a key that does not belong to the certificate, is never shown.
// identity.ErrOtherKind says that only a reload can take what is there. An OCSP response
// that does not fit yet hinders nothing: it is read again when its file changes.
func (o *Own) Renew(now time.Time) (changed bool, err error) {
	o.renewing.Lock()
	defer o.renewing.Unlock()
	changed, staples, err := o.read(now)
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.failed = err; changed {
		o.staples = staples
	}
	return changed, err
}

func (o *Own) read(now time.Time) (changed bool, _ []*Staple, err error) {
	if o.FromAgent() {
		changed, err = o.take(now)
		return changed, nil, err
	}
	if o.notThere() {
		return false, nil, nil
	}
	f := *o.file
	f.in = newLoading(context.Background(), nil, o.from)
	defer f.in.files.Close()
	stamp := o.Stamp()
	b := &builder{file: &f, now: now, failed: map[string]bool{}, renews: true, inUse: o.source.Certificates(), signers: unasked(o.signers)}
	certs, shown := b.pairs(keyPath("identities", o.Name), o.Name, f.Config.Identities[o.Name])
	if err := unchanged(o, stamp); err != nil {
		return false, nil, err
	}
	if err := failure(b.findings); err != nil {
		return false, nil, err
	}
	if slices.EqualFunc(certs, o.source.Certificates(), sameChain) {
		return false, nil, nil
	}
	if err := o.whole(certs, stamp); err != nil {
		return false, nil, err
	}
	env := *o.env
	env.Identities = maps.Clone(env.Identities)
	env.Identities[o.Name] = policy.Identity{Name: o.Name, Source: identity.NewFile(certs, nil)}
	b.keysApart(env)
	if err := failure(b.findings); err != nil {
		return false, nil, err
	}
	if err := o.source.Replace(certs, shown); err != nil {
		return false, nil, fmt.Errorf("%s: %w", strings.Join(o.Files, ", "), err)
	}
	return true, b.staples, nil
}

func sameChain(a, b tls.Certificate) bool {
	return slices.EqualFunc(a.Certificate, b.Certificate, slices.Equal)
}

// failure is the first mistake among findings: the others follow from it, or are said once
// it is mended.
func failure(all []Finding) error {
	for _, f := range all {
		if !f.Warning {
			return errors.New(f.Msg)
		}
	}
	return nil
}

// Ask asks the signers of the identity whether they have its keys, where it has any, and what
// those sign with.
func (o *Own) Ask(ctx context.Context) {
	if len(o.signers) == 0 {
		return
	}
	said := map[string][]signer.KeyInfo{}
	var silent error
	for socket, a := range o.signers {
		keys, err := a.Keys(ctx)
		if said[socket] = keys; err != nil {
			silent = err
		}
	}
	was := o.source.Certificates()
	now, differ := slices.Clone(was), false
	for i, c := range was {
		key, ok := c.PrivateKey.(*signer.Remote)
		if !ok || silent != nil {
			continue
		}
		schemes, err := key.Among(slices.Concat(slices.Collect(maps.Values(said))...))
		if err != nil {
			silent = err
		} else if !slices.Equal(schemes, c.SupportedSignatureAlgorithms) {
			now[i].SupportedSignatureAlgorithms, differ = schemes, true
		}
	}
	if differ && silent == nil { // it did not answer when the certificate was loaded, or is another one now
		o.source.Refit(was, now)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.silent = silent; silent == nil {
		o.asks = 0
	} else {
		o.asks++
	}
}

// Kind says where the certificates come from: "acme", "spiffe", "signer" where another process has
// a key, else "files".
func (o *Own) Kind() string {
	switch {
	case o.FromAgent():
		return "spiffe"
	case o.order != nil:
		return "acme"
	case len(o.signers) > 0:
		return "signer"
	}
	return "files"
}

// Silent is why handshakes that need a signature of its signers fail, where Ask has found it
// twice in a row: one answer may be late. nil: they sign, or there are none.
func (o *Own) Silent() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.asks < 2 {
		return nil
	}
	return o.silent
}

// Close ends the connections with signers that are kept for the next signatures: another
// configuration is in force.
func (o *Own) Close() {
	for _, a := range o.signers {
		a.Close()
	}
}

// Failed is why the source fails, as of the last Renew and Ask: what stands in the files is
// not used, or a signer does not sign. nil: all is well.
func (o *Own) Failed() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return cmp.Or(o.failed, o.failing(), o.silent, o.awaited(), o.standsIn())
}

// Staples are the OCSP responses shown with the certificates of the moment.
func (o *Own) Staples() []*Staple {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.staples
}

// Ends is when the first of the certificates in use ends, of one that stands in too; the zero time where there is none yet.
func (o *Own) Ends() time.Time {
	var ends time.Time
	if o.source.Awaited() {
		return ends
	}
	for _, c := range o.source.Certificates() {
		if leaf := handshake.LeafOf(&c); leaf != nil && (ends.IsZero() || leaf.NotAfter.Before(ends)) {
			ends = leaf.NotAfter
		}
	}
	return ends
}

// Stamp is a text that changes when one of the files does, or the agent says something.
func (o *Own) Stamp() string { return stampsOf(o.from, o.Files) + o.Use.Stamp() }

// own is an identity of files, with its source; nil where there is nothing to go on with.
func (b *builder) own(name string, id Identity) *Own {
	before := len(b.findings)
	staples := len(b.staples)
	o := &Own{Name: name, file: b.file, from: b.file.in.files.Source(), signers: map[string]*asked{}}
	if id.SPIFFE != nil {
		if Failed(b.findings[before:]) || !b.svid(o, id) {
			return nil
		}
		return o
	}
	certs, shown := b.pairs(keyPath("identities", name), name, id)
	switch {
	case id.ACME != nil:
		if !b.ordered(o, id, certs, before) {
			return nil
		}
	case Failed(b.findings[before:]) || len(certs) == 0:
		return nil
	default:
		o.source, o.staples = identity.NewFile(certs, shown), slices.Clone(b.staples[staples:])
	}
	for _, p := range id.pairs() {
		for _, name := range []string{p.Certificate, p.Key, p.Passphrase} {
			if socket, ok := signerSocket(name); ok {
				at := fileset.Place(filepath.Dir(b.file.Name), socket)
				o.signers[at] = b.signers[at]
			} else if name != "" {
				o.Files = append(o.Files, b.file.abs(name))
			}
		}
	}
	return o
}
