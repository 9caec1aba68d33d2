package gateway

import (
	"net/netip"
	"sync"

	"github.com/sslgate/sslgate/internal/clientkey"
)

// While a validator is awaited, so many clients that a rule refuses may be heard at a time, and so
// many connections of one of them. A CA asks from some five places, by one connection each; all of
// them may have one address, where a NAT is before us.
const (
	maxSuspects          = 64
	maxSuspectsPerClient = 8
)

// suspects counts the flows that are refused once their ClientHello is there, as it may be a
// validator's: see challenge.go. The zero value has none. It is safe for many goroutines.
type suspects struct {
	mu  sync.Mutex
	all int
	by  map[netip.Prefix]int
}

// room says whether one more of a client would be let in. It is asked for each SYN.
func (s *suspects) room(client netip.Addr) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fits(clientkey.Of(client))
}

// enter counts one more of a client, if there is room for it.
func (s *suspects) enter(client netip.Addr) bool {
	key := clientkey.Of(client)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.fits(key) {
		return false
	}
	if s.by == nil {
		s.by = map[netip.Prefix]int{}
	}
	s.all++
	s.by[key]++
	return true
}

// leave ends enter.
func (s *suspects) leave(client netip.Addr) {
	key := clientkey.Of(client)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all--
	if s.by[key]--; s.by[key] <= 0 {
		delete(s.by, key)
	}
}

func (s *suspects) fits(key netip.Prefix) bool {
	return s.all < maxSuspects && s.by[key] < maxSuspectsPerClient
}
