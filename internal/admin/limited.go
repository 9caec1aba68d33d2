package admin

import (
	"net"
	"net/netip"
	"sync"

	"github.com/sslgate/sslgate/internal/clientkey"
)

// limited bounds the connections of a listener, in total and for each client. It closes
// connections beyond that.
type limited struct {
	net.Listener
	max, maxPerClient int

	mu     sync.Mutex
	all    int
	client map[netip.Prefix]int // by clientkey.Of; never holds a zero, so at most max
}

func newLimited(ln net.Listener, max, maxPerClient int) *limited {
	return &limited{Listener: ln, max: max, maxPerClient: maxPerClient, client: map[netip.Prefix]int{}}
}

type limitedConn struct {
	net.Conn
	release func()
}

// Accept returns the next connection that is within the bounds. It closes the others, and the
// caller never sees them.
func (l *limited) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		key := clientOf(c)
		if !l.enter(key) {
			_ = c.Close() // over a bound
			continue
		}
		return &limitedConn{c, sync.OnceFunc(func() { l.leave(key) })}, nil
	}
}

// clientOf returns the client of a connection; all of a unix socket are one client.
func clientOf(c net.Conn) netip.Prefix {
	if a, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		return clientkey.Of(a.AddrPort().Addr())
	}
	return netip.Prefix{}
}

func (l *limited) enter(key netip.Prefix) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all >= l.max || l.client[key] >= l.maxPerClient {
		return false
	}
	l.all++
	l.client[key]++
	return true
}

func (l *limited) leave(key netip.Prefix) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all--
	if l.client[key]--; l.client[key] <= 0 {
		delete(l.client, key)
	}
}

func (c *limitedConn) Close() error {
	err := c.Conn.Close()
	c.release()
	return err
}
