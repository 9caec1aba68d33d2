package handshake

import (
	"crypto/x509"
	"fmt"
	"slices"
)

// MaxCANames is how many bytes the acceptable CA names of a CertificateRequest
// may take, each with the two bytes of its length. Their vector holds 65,535
// (RFC 5246, section 7.4.4; RFC 8446, section 4.2.4), and so does that of all
// extensions of the message in TLS 1.3 (section 4.3.2); crypto/tls takes no
// message of more than 65,536. What else stands there has less than 512.
const MaxCANames = 1<<16 - 1 - 512

// CANames says what a CertificateRequest tells clients of the CAs whose
// certificates they may show.
type CANames struct {
	Names int // each once
	Bytes int // of the names, each with the two of its length
	Left  int // names of intermediates that are left out, so that those of the roots fit
}

// Fit says whether they are sent. A list that does not fit is left out: an
// empty one means any CA (RFC 5246, section 7.4.4; RFC 8446, section 4.2.4 has
// it as an extension that may be absent).
func (c CANames) Fit() bool { return c.Bytes <= MaxCANames }

// String has the figures.
func (c CANames) String() string {
	return fmt.Sprintf("the names of %d CAs take %d bytes, and at most %d fit a CertificateRequest", c.Names, c.Bytes, MaxCANames)
}

// AnnouncedCAs are names to be announced, each once: CAs whose keys were rolled over
// share theirs.
type AnnouncedCAs struct {
	Pool *x509.CertPool // of which the subjects count alone
	DER  [][]byte       // the same names
	Said CANames
}

// add is for the subject of a CA, in DER.
func (c *AnnouncedCAs) add(seen map[string]bool, name []byte) {
	if seen[string(name)] {
		return
	}
	seen[string(name)] = true
	c.Said.Names++
	c.Said.Bytes += 2 + len(name)
	// All that crypto/tls takes of it is the subject.
	c.Pool.AddCert(&x509.Certificate{Raw: name, RawSubject: name})
	c.DER = append(c.DER, name)
}

// fitted returns the names if all of them fit into a message, and none otherwise.
func (c *AnnouncedCAs) fitted() *AnnouncedCAs {
	if !c.Said.Fit() {
		c.Pool, c.DER = x509.NewCertPool(), nil
	}
	return c
}

// namesOf are the names of roots, and behind them those of the CAs that complete
// paths: a client whose certificate one of these has issued may look for its name
// alone (RFC 8446, section 4.2.4: "a root CA or a subordinate CA"). Where only the
// roots' fit, they are sent alone.
func namesOf(authorities ...*Authority) *AnnouncedCAs {
	c, seen := &AnnouncedCAs{Pool: x509.NewCertPool()}, map[string]bool{}
	for _, a := range authorities {
		for _, root := range a.Roots {
			c.add(seen, root.RawSubject)
		}
	}
	all := &AnnouncedCAs{Pool: c.Pool.Clone(), DER: slices.Clip(c.DER), Said: c.Said}
	for _, a := range authorities {
		for _, ca := range a.Intermediates {
			all.add(seen, ca.RawSubject)
		}
	}
	if c.Said.Fit() && !all.Said.Fit() {
		c.Said.Left = all.Said.Names - c.Said.Names
		return c
	}
	return all.fitted()
}

// CANames are those of what p announces; AcceptableCAs or Authorities.
func (p *ServerParams) CANames() CANames { return p.Announced().Said }

// Announced are the names themselves.
func (p *ServerParams) Announced() *AnnouncedCAs {
	if p.AcceptableCAs == nil {
		return namesOf(p.Authorities...)
	}
	c, seen := &AnnouncedCAs{Pool: x509.NewCertPool()}, map[string]bool{}
	for _, name := range p.AcceptableCAs {
		c.add(seen, name)
	}
	return c.fitted()
}

// Announced are the names of one authority, made once.
func (a *Authority) Announced() *AnnouncedCAs {
	a.prepare()
	return a.names
}
