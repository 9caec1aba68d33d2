package handshake

import (
	"crypto/x509"
	"fmt"
	"strings"

	"github.com/sslgate/sslgate/internal/reason"
)

// constrained holds the e-mail addresses and URIs of a verified chain against
// what its CAs permit, as RFC 5280, section 4.2.1.10, has it: a constraint
// without a leading period names one host and not those below it. crypto/x509
// reads it as it reads one for DNS names, so that a CA held to the URIs of
// corp.example could speak for those of evil.corp.example. It has looked at
// everything else.
func (v *verifier) constrained(chain []*x509.Certificate) *fault {
	for i, ca := range chain {
		for _, c := range chain[:i] {
			for _, mail := range c.EmailAddresses {
				at := strings.LastIndexByte(mail, '@')
				if !permitted(ca.PermittedEmailAddresses, mail[:at+1], mail[at+1:]) {
					return v.beyond(c, ca, "e-mail address", mail)
				}
			}
			for _, uri := range c.URIs {
				if !permitted(ca.PermittedURIDomains, "", uri.Hostname()) {
					return v.beyond(c, ca, "URI", uri.String())
				}
			}
		}
	}
	return nil
}

// permitted says whether one of the constraints lets the host through, or the
// mailbox at it whose local part, with the @, is local; an empty list lets
// everything through.
func permitted(constraints []string, local, host string) bool {
	if len(constraints) == 0 {
		return true
	}
	for _, c := range constraints {
		at := strings.LastIndexByte(c, '@')
		switch {
		case c == "":
			return true
		case at >= 0: // one mailbox
			if c[:at+1] == local && strings.EqualFold(c[at+1:], host) {
				return true
			}
		case c[0] == '.':
			if len(host) > len(c) && strings.EqualFold(host[len(host)-len(c):], c) {
				return true
			}
		case strings.EqualFold(c, host):
			return true
		}
	}
	return false
}

func (v *verifier) beyond(c, ca *x509.Certificate, kind, name string) *fault {
	return &fault{
		code:   reason.NameConstraint,
		detail: fmt.Sprintf("%s: %s %q is beyond what %s may speak for", v.about(c), kind, cut(name, maxNameLength), v.about(ca)),
	}
}
