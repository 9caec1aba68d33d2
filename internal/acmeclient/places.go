package acmeclient

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"sync"

	"github.com/sslgate/sslgate/internal/dialer"
)

// reach says how far an address leads.
type reach int

const (
	reachPublic reach = iota
	reachPrivate
	reachLinkLocal
	reachHost
)

func (r reach) String() string {
	return [...]string{"public", "private", "link-local", "of this host"}[r]
}

// sharedSpace are addresses between customers and their provider (RFC 6598).
var sharedSpace = netip.MustParsePrefix("100.64.0.0/10")

// reachOf is that of an address. What is no host's at all leads as little far as loopback.
func reachOf(a netip.Addr) reach {
	switch a = a.Unmap().WithZone(""); {
	case a.IsLoopback(), a.IsUnspecified(), a.IsMulticast(), !a.IsValid():
		return reachHost
	case a.IsLinkLocalUnicast():
		return reachLinkLocal
	case a.IsPrivate(), sharedSpace.Contains(a):
		return reachPrivate
	}
	return reachPublic
}

// places bounds where a CA may lead us. Its directory names URLs of its choice (RFC 8555, section
// 7.1.1), of other hosts too. The host of the directory itself is the operator's choice; every other
// one has a public address, or one that leads as far as the directory's: a CA of the internet
// leads nobody to what listens on loopback, or in a private network. It is asked with the address
// that is connected to, so no name can change its address afterwards.
type places struct {
	host string // of the directory's URL

	mu   sync.Mutex
	seen map[reach]bool // of the addresses of host
}

func newPlaces(directory string) *places {
	p := &places{seen: map[reach]bool{}}
	if u, err := url.Parse(directory); err == nil {
		p.host = u.Hostname()
	}
	return p
}

// check says whether the address and port to may be connected to. own: the name is the directory's.
func (p *places) check(own bool, to string) error {
	at, err := netip.ParseAddrPort(to)
	if err != nil {
		return err
	}
	r := reachOf(at.Addr())
	p.mu.Lock()
	defer p.mu.Unlock()
	if own {
		p.seen[r] = true
		return nil
	}
	if r != reachPublic && !p.seen[r] {
		return fmt.Errorf("the CA leads to %s, an address that is %s: its directory is not there", at, r)
	}
	return nil
}

// dialContext is what an http.Transport dials with.
func (p *places) dialContext(mark dialer.Mark) func(context.Context, string, string) (net.Conn, error) {
	own := mark.Checked(func(to string) error { return p.check(true, to) })
	other := mark.Checked(func(to string) error { return p.check(false, to) })
	own.Timeout, other.Timeout = dialFor, dialFor
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		if host, _, err := net.SplitHostPort(address); err == nil && host == p.host {
			return own.DialContext(ctx, network, address)
		}
		return other.DialContext(ctx, network, address)
	}
}
