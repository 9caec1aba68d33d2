package handshaketest

import (
	"net"
	"slices"
	"testing"

	"github.com/sslgate/sslgate/handshake"
)

// Able is a connection with every ability of handshake/abilities.go that is possible without TLS.
// It records which of them were used.
type Able struct {
	ScriptedConn
	Used []string
}

func (c *Able) use(ability string) { c.Used = append(c.Used, ability) }

// CloseWrite does nothing else.
func (c *Able) CloseWrite() error { c.use("HalfCloser"); return nil }

// WaitRead does nothing else.
func (c *Able) WaitRead() { c.use("ReadWaiter") }

// Waiting is what is left to read.
func (c *Able) Waiting() int { c.use("InboundQueue"); return len(c.In) }

// WaitFor does nothing else.
func (c *Able) WaitFor(int) { c.use("InboundWaiter") }

// Held is what is left to read, and what was written.
func (c *Able) Held() (received, sent int) { c.use("QueueDepths"); return len(c.In), c.Out.Len() }

// Offer takes everything.
func (c *Able) Offer(pieces [][]byte) (int, error) {
	c.use("DirectWriter")
	n := 0
	for _, p := range pieces {
		c.Out.Write(p)
		n += len(p)
	}
	return n, nil
}

// WaitWrite does nothing: Offer takes everything.
func (c *Able) WaitWrite() error { return nil }

// KeepsAbilities fails the test if a wrapper hides an ability of the connection below. own
// are the abilities of the wrapper itself, which need not reach the connection below. A
// wrapper that is TLS must hide what speaks of single bytes.
func KeepsAbilities(t *testing.T, wrap func(below net.Conn) net.Conn, own ...string) {
	t.Helper()
	for ability, use := range map[string]func(net.Conn) bool{
		"HalfCloser": func(c net.Conn) bool {
			a, ok := handshake.Ability[handshake.HalfCloser](c)
			return ok && (a.CloseWrite() == nil || slices.Contains(own, "HalfCloser"))
		},
		"ReadWaiter": func(c net.Conn) bool {
			a, ok := handshake.Ability[handshake.ReadWaiter](c)
			if ok {
				a.WaitRead()
			}
			return ok
		},
		"InboundQueue": func(c net.Conn) bool {
			a, ok := handshake.Ability[handshake.InboundQueue](c)
			return ok && a.Waiting() == 0
		},
		"InboundWaiter": func(c net.Conn) bool {
			a, ok := handshake.Ability[handshake.InboundWaiter](c)
			if ok {
				a.WaitFor(1)
			}
			return ok
		},
		"QueueDepths": func(c net.Conn) bool {
			a, ok := handshake.Ability[handshake.QueueDepths](c)
			if ok {
				a.Held()
			}
			return ok
		},
		"DirectWriter": func(c net.Conn) bool {
			a, ok := handshake.Ability[handshake.DirectWriter](c)
			if !ok {
				return false
			}
			n, err := a.Offer([][]byte{{1}, {2, 3}})
			return n == 3 && err == nil
		},
	} {
		below := &Able{}
		c := wrap(below)
		below.Used = nil
		_, secured := c.(handshake.BareCloser)
		if secured && slices.Contains([]string{"InboundQueue", "InboundWaiter", "DirectWriter"}, ability) {
			if use(c) || below.Used != nil {
				t.Errorf("%T: %s reaches below TLS: %v", c, ability, below.Used)
			}
		} else if !use(c) {
			t.Errorf("%T hides %s", c, ability)
		} else if !slices.Contains(below.Used, ability) && !slices.Contains(own, ability) {
			t.Errorf("%T: %s does not reach the connection below: %v", c, ability, below.Used)
		}
		if _, has := handshake.Ability[handshake.QueueDepths](wrap(&ScriptedConn{})); has {
			t.Errorf("%T has an ability that nothing below it has", c)
		}
	}
}
