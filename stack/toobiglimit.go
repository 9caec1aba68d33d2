package stack

import (
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/sslgate/sslgate/internal/clientkey"
)

// tooBigLimit bounds how often the connections of one client are asked whether the
// segment that a "packet too big" quotes is under way. Anybody can send one, so the
// client of the quoted connection is charged, not the sender. Only a client with a
// connection gets an entry, so there are no more entries than flows.
type tooBigLimit struct {
	now func() time.Time

	mu     sync.Mutex
	client map[netip.Prefix]*rate.Limiter
}

// When a path becomes narrower, a router sends one "packet too big" for each segment that
// was under way and for each that is sent again. The first that passes is enough.
const (
	tooBigRate  = 10 // a second
	tooBigBurst = 64
)

func newTooBigLimit() *tooBigLimit {
	return &tooBigLimit{now: time.Now, client: map[netip.Prefix]*rate.Limiter{}}
}

// allow says whether one more that quotes a connection of the client may be checked.
func (l *tooBigLimit) allow(client netip.Addr) bool {
	key := clientkey.Of(client)
	now := l.now()
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.client[key]
	if b == nil {
		b = rate.NewLimiter(tooBigRate, tooBigBurst)
		l.client[key] = b
	}
	return b.AllowN(now, 1)
}

// sweep forgets clients that owe nothing.
func (l *tooBigLimit) sweep(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for key, b := range l.client {
		if b.TokensAt(now) >= tooBigBurst {
			delete(l.client, key)
		}
	}
}
