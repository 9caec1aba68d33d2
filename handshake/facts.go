package handshake

import (
	"fmt"
	"strings"

	"github.com/sslgate/sslgate/internal/certname"
)

// Agreed describes a State in one line, for the ledger.
func (s *State) Agreed() string {
	f := []string{VersionName(s.Version), SuiteName(s.Suite)}
	if s.Group != 0 {
		f = append(f, GroupName(s.Group))
	}
	if s.ALPN != "" {
		f = append(f, "ALPN "+s.ALPN)
	}
	return strings.Join(f, ", ")
}

// Describe names the leaf and the authority, for the ledger.
func (p *Peer) Describe() string {
	text := fmt.Sprintf("%s, authority %s", certname.Shown(p.Leaf().RawSubject, MaxNameLength), p.Authority)
	for i := 1; i < len(p.Chain)-1; i++ {
		if c := p.Chain[i]; !contains(p.Shown, c) {
			text += ", completed with " + certname.Shown(c.RawSubject, MaxNameLength)
		}
	}
	return text
}
