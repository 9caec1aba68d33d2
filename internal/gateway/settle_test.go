package gateway

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/reason"
)

// dripping acknowledges one byte more each time it is asked.
type dripping struct{ looks atomic.Uint64 }

func (*dripping) Written() uint64 { return 1 << 40 }

func (d *dripping) Acked() (n uint64, gone bool) { return d.looks.Add(1), false }

// A side that takes its data just fast enough holds an ended flow for a bounded time only,
// whichever side it is.
func TestSettlingIsBounded(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		aim  func(*relay) *delivery
		end  reason.Code
	}{
		{"client", func(r *relay) *delivery { return &r.down }, reason.EndClientStalled},
		{"destination", func(r *relay) *delivery { return &r.up }, reason.EndDestinationStalled},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			client, _ := socketPair(t)
			dest, _ := socketPair(t)
			r := &relay{
				over: make(chan struct{}), dead: make(chan struct{}), stall: 20 * time.Millisecond,
				client: relayEnd{Conn: client, reset: func() {}, onStall: reason.EndClientStalled},
				dest:   relayEnd{Conn: dest, reset: func() {}, onStall: reason.EndDestinationStalled},
			}
			c.aim(r).to = &dripping{}
			began := time.Now()
			r.settle()
			if took := time.Since(began); r.end != c.end || !r.ended() || took < settleStalls*r.stall {
				t.Errorf("end %q after %v", r.end, took)
			}
		})
	}
}

// Flows that have waited for long poll seldom, as there may be many.
func TestSettlingLooksSeldom(t *testing.T) {
	t.Parallel()
	looks, wait, elapsed := 0, time.Millisecond, time.Duration(0)
	for ; elapsed < time.Minute; looks++ {
		elapsed += wait
		next := settleWait(wait, elapsed)
		if next < wait || next > settlePollMax || next > settlePoll && next > elapsed/16 {
			t.Fatalf("after %v: %v, before %v", elapsed, next, wait)
		}
		wait = next
	}
	if looks > 130 || wait != settlePollMax {
		t.Errorf("%d looks in a minute, at last every %v", looks, wait)
	}
}
