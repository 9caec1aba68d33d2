package revocation

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
)

// Digest identifies everything that Check answers from, except OCSP answers: for each
// authority whose revocation is not off, its mode, its CAs, its responder and the lists
// in force. It changes with every list that is taken. Every process with the same lists
// has the same digest, so unlike Epoch it can be recorded and compared. "" means that
// nothing is checked for any authority.
//
// It is the first 16 hex digits of a SHA-256, like a policy's digest.
func (c *Checker) Digest() string { return c.data.Load().digest }

// DigestOf is the same for some authorities alone: it changes only with what Check answers
// about their certificates. "" means that nothing is checked for any of them.
func (c *Checker) DigestOf(authorities []string) string {
	return digestOf(c.data.Load().authorities, authorities)
}

// digestOf is the digest of the named authorities.
func digestOf(authorities map[string]*view, names []string) string {
	h := sha256.New()
	any := false
	for _, name := range slices.Compact(slices.Sorted(slices.Values(names))) {
		if v := authorities[name]; v != nil && v.Mode != Off {
			any = true
			h.Write(v.digest[:])
		}
	}
	if !any {
		return ""
	}
	return hex.EncodeToString(h.Sum(nil))[:16]
}

// sum is the digest of one authority.
func (a *view) sum() [32]byte {
	h := sha256.New()
	var cas, lists []string
	for _, ca := range a.cas() {
		cas = append(cas, fmt.Sprintf("%x", sha256.Sum256(ca.Raw)))
	}
	for _, l := range a.all {
		lists = append(lists, hex.EncodeToString(l.sum[:]))
	}
	for _, set := range []*[]string{&cas, &lists} { // order and repetition do not matter
		slices.Sort(*set)
		*set = slices.Compact(*set)
	}
	_, _ = fmt.Fprintf(h, "%q %s %q %q\n", a.Name, a.Mode, cas, lists) // a hash takes everything
	if o := a.OCSP; o != nil {
		_, _ = fmt.Fprintf(h, "ocsp %q %s %d\n", o.URL, o.MaxAge, o.Nonce)
	}
	return [32]byte(h.Sum(nil))
}
