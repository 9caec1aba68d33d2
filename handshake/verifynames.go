package handshake

import (
	"crypto/x509"
	"fmt"
	"net/url"
	"strings"

	"github.com/sslgate/sslgate/internal/certname"
	"github.com/sslgate/sslgate/internal/reason"
)

// constrained holds the e-mail addresses and URIs of a verified chain against
// what its CAs permit, as RFC 5280, section 4.2.1.10, has it: a constraint
// without a leading period names one host and not those below it. crypto/x509
// reads it as it reads one for DNS names, so that a CA held to the URIs of
// corp.example could speak for those of evil.corp.example. It has looked at
// everything else.
//
// It takes linear time: a CA may permit thousands of names, and a certificate
// below it have thousands.
func (v *verifier) constrained(chain []*x509.Certificate) *fault {
	for i, ca := range chain {
		if len(ca.PermittedEmailAddresses) == 0 && len(ca.PermittedURIDomains) == 0 {
			continue
		}
		mails, uris := permits(ca.PermittedEmailAddresses), permits(ca.PermittedURIDomains)
		for _, c := range chain[:i] {
			names, err := certname.ReadAltNames(c.Extensions)
			if err != nil {
				return &fault{code: reason.BadCertificate, detail: v.about(c) + ": " + err.Error()}
			}
			for _, mail := range names.Email {
				at := strings.LastIndexByte(mail, '@')
				if !mails.permit(mail[:at+1], mail[at+1:]) {
					return v.beyond(c, ca, "e-mail address", mail)
				}
			}
			for _, uri := range names.URI {
				if u, err := url.Parse(uri); err != nil || !uris.permit("", u.Hostname()) {
					return v.beyond(c, ca, "URI", uri)
				}
			}
		}
	}
	return nil
}

// maxHost bounds the names looked up, in bytes (RFC 1035, section 2.3.4); a
// longer one is permitted by nothing but a constraint that permits everything.
const maxHost = 253

// permitted is a list of constraints, made to be looked up in.
type permitted struct {
	all       bool
	mailboxes map[string]bool // the local part with the @ as it is, the host in lower case
	hosts     map[string]bool // in lower case
	below     map[string]bool // the same, with the leading period
}

// permits reads constraints; an empty list lets everything through.
func permits(constraints []string) permitted {
	p := permitted{all: len(constraints) == 0, mailboxes: map[string]bool{}, hosts: map[string]bool{}, below: map[string]bool{}}
	for _, c := range constraints {
		at := strings.LastIndexByte(c, '@')
		host := strings.ToLower(c[at+1:])
		switch {
		case c == "":
			p.all = true
		case at >= 0: // one mailbox
			p.mailboxes[c[:at+1]+host] = true
		case c[0] == '.':
			p.below[host] = true
		default:
			p.hosts[host] = true
		}
	}
	return p
}

// permit says whether one of the constraints lets the host through, or the
// mailbox at it whose local part, with the @, is local.
func (p permitted) permit(local, host string) bool {
	if p.all {
		return true
	}
	if len(host) > maxHost {
		return false
	}
	host = strings.ToLower(host)
	if p.hosts[host] || p.mailboxes[local+host] {
		return true
	}
	for i := 1; i < len(host); i++ {
		if host[i] == '.' && p.below[host[i:]] {
			return true
		}
	}
	return false
}

func (v *verifier) beyond(c, ca *x509.Certificate, kind, name string) *fault {
	return &fault{
		code:   reason.NameConstraint,
		detail: fmt.Sprintf("%s: %s %q is beyond what %s may speak for", v.about(c), kind, Shortened(name, MaxNameLength), v.about(ca)),
	}
}
