package mint

import (
	"fmt"
	"strings"
)

// pattern is a DNS name; wild means that exactly one label precedes it.
type pattern struct {
	name string
	wild bool
}

func parsePattern(s string) (pattern, error) {
	name := strings.ToLower(s)
	rest, wild := strings.CutPrefix(name, "*.")
	if !isHost(rest) {
		return pattern{}, fmt.Errorf("%q is no DNS name; \"*\" may stand for the whole first label", s)
	}
	if wild && !strings.Contains(rest, ".") {
		return pattern{}, fmt.Errorf("%q would allow every name below a top-level domain", s)
	}
	return pattern{rest, wild}, nil
}

// matches says whether the pattern matches a name in lower case. It says no to everything
// that is not a host name.
func (p pattern) matches(name string) bool {
	if !isHost(name) {
		return false
	}
	if !p.wild {
		return name == p.name
	}
	_, rest, ok := strings.Cut(name, ".")
	return ok && rest == p.name
}

// example is a name that matches.
func (p pattern) example() string {
	if p.wild {
		return "example." + p.name
	}
	return p.name
}

// isHost says whether s is a host name in lower case. Its last label must have a letter,
// so an address is none (RFC 1123, section 2.1).
func isHost(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	labels := strings.Split(s, ".")
	for _, l := range labels {
		if l == "" || len(l) > 63 || l[0] == '-' || l[len(l)-1] == '-' {
			return false
		}
		for _, c := range []byte(l) {
			if c != '-' && c != '_' && (c < '0' || c > '9') && (c < 'a' || c > 'z') {
				return false
			}
		}
	}
	return strings.ContainsFunc(labels[len(labels)-1], func(r rune) bool { return r >= 'a' && r <= 'z' })
}
