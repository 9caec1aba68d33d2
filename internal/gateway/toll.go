package gateway

import (
	"net/netip"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/fairqueue"
	"github.com/sslgate/sslgate/internal/work"
)

// tollStep is the work that one flow may do before its client is charged. Each charge takes
// the lock of the queue.
const tollStep = 500 * work.Units(1)

// toll charges a client for reading small records and KeyUpdates, which cost far more than
// their bytes. Work comes out of the same bucket as handshakes, and a flow whose client has
// used up its share is read again when there is room: the client's TCP window fills
// meanwhile. Usual records cost nothing here.
type toll struct {
	turns   *fairqueue.Queue
	client  netip.Addr
	counter handshake.RecordCounter

	records, answers int // that were looked at
	owed             work.Units
}

// newToll is the toll of a client's connection; nil where it has no records.
func newToll(turns *fairqueue.Queue, client netip.Addr, conn any) *toll {
	counter, ok := conn.(handshake.RecordCounter)
	if !ok {
		return nil
	}
	return &toll{turns: turns, client: client, counter: counter}
}

// read notes that n bytes of data were read and returns how long to wait before the next
// read.
func (t *toll) read(n int) time.Duration {
	records, answers := t.counter.Received()
	t.owed = max(t.owed+work.Data(records-t.records, answers-t.answers, n), 0)
	t.records, t.answers = records, answers
	if t.owed < tollStep {
		return 0
	}
	owed := t.owed
	t.owed = 0
	return t.turns.Pace(t.client, owed)
}

// pace waits after a read from the client, if it has to. False means that the flow has ended.
func (r *relay) pace(n int) bool {
	return r.wait(r.toll.read(n))
}

// wait waits before the next read, if d is positive. False means that the flow has ended.
func (r *relay) wait(d time.Duration) bool {
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-r.dead:
		return false
	}
}
