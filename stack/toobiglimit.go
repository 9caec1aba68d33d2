package stack

import (
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/sslgate/sslgate/internal/clientkey"
)

// tooBigLimit bounds how often the connections of one client are asked whether what
// a "packet too big" quotes is under way. Who sends one can be anybody, so it is the
// client of the quoted connection that is charged. An entry is made only for one that
// has a connection, so there are no more than there are flows.
type tooBigLimit struct {
	now func() time.Time

	mu     sync.Mutex
	client map[netip.Prefix]*rate.Limiter
}

// A path that became narrower is told once for each segment that was under way and
// once for each that is sent again; the first one that passes is enough.
const (
	tooBigRate  = 10 // a second
	tooBigBurst = 64
)

func newTooBigLimit() *tooBigLimit {
	return &tooBigLimit{now: time.Now, client: map[netip.Prefix]*rate.Limiter{}}
}

// allow says whether one more is looked at that quotes a connection of the client.
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
