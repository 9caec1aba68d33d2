package pki

import (
	"fmt"
	"net/mail"
	"net/netip"
	"net/url"
	"strings"
)

// Names are subject alternative names (RFC 5280, section 4.2.1.6), by kind.
type Names struct {
	DNS    []string     // lower case, a "*" only as the whole first label
	IPs    []netip.Addr // without zone; IPv4-mapped ones as IPv4
	Emails []string
	URIs   []*url.URL
}

// ParseNames tells names apart by their form: an IP address; an e-mail address (with an
// @); a URI (with "://", or "urn:"), in which a SPIFFE ID must keep the SPIFFE rules;
// everything else is a DNS name. A prefix "dns:", "ip:", "email:" or "uri:" sets the
// kind. Repeated names are dropped. Errors are of type *UsageError.
func ParseNames(in []string) (Names, error) {
	var n Names
	seen := map[string]bool{}
	for _, s := range in {
		kind, v, err := n.add(s)
		if err != nil {
			return Names{}, usagef("name %q: %w", s, err)
		}
		if key := kind + v; seen[key] {
			n.dropLast(kind)
		} else {
			seen[key] = true
		}
	}
	spiffe := 0
	for _, u := range n.URIs {
		if u.Scheme == "spiffe" {
			spiffe++
		}
	}
	if spiffe > 1 {
		return Names{}, usagef("a certificate holds at most one SPIFFE ID, %d were given: issue one certificate for each", spiffe)
	}
	return n, nil
}

// Empty says whether there is no name at all.
func (n Names) Empty() bool { return len(n.DNS)+len(n.IPs)+len(n.Emails)+len(n.URIs) == 0 }

// Strings lists the names with their kind: "DNS:a.example", "IP:192.0.2.1".
func (n Names) Strings() []string {
	return sanList(n.DNS, stringsOf(n.IPs), n.Emails, stringsOf(n.URIs))
}

func (n *Names) add(s string) (kind, canonical string, err error) {
	kind, v := guess(s)
	switch kind {
	case "ip":
		a, err := netip.ParseAddr(v)
		if err != nil || a.Zone() != "" {
			return kind, "", fmt.Errorf("%q is no IP address", v)
		}
		a = a.Unmap()
		n.IPs = append(n.IPs, a)
		return kind, a.String(), nil
	case "email":
		if err := checkEmail(v); err != nil {
			return kind, "", err
		}
		n.Emails = append(n.Emails, v)
		return kind, v, nil
	case "uri":
		u, err := parseURI(v)
		if err != nil {
			return kind, "", err
		}
		n.URIs = append(n.URIs, u)
		return kind, u.String(), nil
	}
	v = strings.ToLower(v)
	if err := checkDNS(v); err != nil {
		return kind, "", err
	}
	n.DNS = append(n.DNS, v)
	return kind, v, nil
}

func (n *Names) dropLast(kind string) {
	switch kind {
	case "ip":
		n.IPs = n.IPs[:len(n.IPs)-1]
	case "email":
		n.Emails = n.Emails[:len(n.Emails)-1]
	case "uri":
		n.URIs = n.URIs[:len(n.URIs)-1]
	default:
		n.DNS = n.DNS[:len(n.DNS)-1]
	}
}

// guess returns the kind (dns, ip, email, uri) and the name without prefix.
func guess(s string) (kind, name string) {
	for _, k := range []string{"dns", "ip", "email", "uri"} {
		if len(s) > len(k) && strings.EqualFold(s[:len(k)], k) && s[len(k)] == ':' {
			return k, s[len(k)+1:]
		}
	}
	if _, err := netip.ParseAddr(s); err == nil {
		return "ip", s
	}
	switch {
	case strings.Contains(s, "://"), len(s) > 4 && strings.EqualFold(s[:4], "urn:"):
		return "uri", s
	case strings.Contains(s, "@"):
		return "email", s
	}
	return "dns", s
}

// checkDNS accepts a host name of RFC 1123, section 2.1, and RFC 1035, section 2.3.4, or
// a wildcard of RFC 6125, section 6.4.3. It also accepts underscores, because names in
// use have them.
func checkDNS(s string) error {
	switch {
	case s == "":
		return fmt.Errorf("is empty")
	case len(s) > 253:
		return fmt.Errorf("is %d bytes long; a DNS name has at most 253", len(s))
	case strings.HasSuffix(s, "."):
		return fmt.Errorf("a DNS name in a certificate has no dot at the end")
	}
	labels := strings.Split(s, ".")
	for i, l := range labels {
		switch {
		case l == "":
			return fmt.Errorf("has an empty label (two dots in a row, or one at the start)")
		case len(l) > 63:
			return fmt.Errorf("label %q is %d bytes long; at most 63 are allowed", l, len(l))
		case l == "*" && i == 0 && len(labels) > 2:
			continue
		case strings.Contains(l, "*"):
			return fmt.Errorf(`"*" stands for exactly the first label, of at least three: *.example.org`)
		case l[0] == '-' || l[len(l)-1] == '-':
			return fmt.Errorf("label %q begins or ends with a hyphen", l)
		}
		for _, r := range l {
			switch {
			case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '-', r == '_':
			case r > 0x7f:
				return fmt.Errorf("%q is not ASCII: write an international name in its xn-- form", r)
			default:
				return fmt.Errorf("%q cannot stand in a DNS name", r)
			}
		}
	}
	return nil
}

func checkEmail(s string) error {
	a, err := mail.ParseAddress(s)
	if err != nil || a.Address != s {
		return fmt.Errorf("%q is no e-mail address", s)
	}
	for _, r := range s {
		if r > 0x7f || r < 0x21 {
			return fmt.Errorf("%q cannot stand in an rfc822Name (RFC 5280, section 4.2.1.6: ASCII only)", r)
		}
	}
	return nil
}

// parseURI accepts an absolute URI in ASCII; a SPIFFE ID must keep the rules of the
// SPIFFE ID specification, section 2.
func parseURI(s string) (*url.URL, error) {
	for _, r := range s {
		if r > 0x7e || r < 0x21 {
			return nil, fmt.Errorf("%q cannot stand in a URI: percent-encode it", r)
		}
	}
	u, err := url.Parse(s)
	if err != nil || !u.IsAbs() || (u.Opaque == "" && u.Host == "") {
		return nil, fmt.Errorf("%q is no absolute URI", s)
	}
	if !strings.EqualFold(u.Scheme, "spiffe") {
		return u, nil
	}
	if len(s) > 2048 {
		return nil, fmt.Errorf("is %d bytes long; a SPIFFE ID has at most 2048", len(s))
	}
	domain, path, hasPath := strings.Cut(strings.TrimPrefix(s, s[:len("spiffe://")]), "/")
	if domain == "" || strings.Trim(domain, "abcdefghijklmnopqrstuvwxyz0123456789.-_") != "" {
		return nil, fmt.Errorf("the trust domain %q of a SPIFFE ID is lower-case letters, digits, dots, dashes and underscores, no port", domain)
	}
	if !hasPath {
		return u, nil
	}
	for _, seg := range strings.Split(path, "/") {
		if seg == "" || seg == "." || seg == ".." || strings.Trim(seg, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_") != "" {
			return nil, fmt.Errorf("%q cannot be a path segment of a SPIFFE ID: letters, digits, dots, dashes and underscores, and neither . nor .. alone", seg)
		}
	}
	return u, nil
}
