package stack

import (
	"fmt"
	"reflect"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// Progress is how a peer takes what is sent to it.
type Progress struct {
	// Waiting is how many bytes were written and are not acknowledged.
	Waiting int
	// Taken is how many bytes were acknowledged so far.
	Taken uint64
	// Sent and Heard grow with every segment to and from the peer, a bare
	// acknowledgement too.
	Sent, Heard uint64
}

// Progress says how the client takes what is sent to it.
func (c *Conn) Progress() Progress {
	// Before the queue is read: what is written in between only makes Taken
	// less than it is, for the moment.
	written := c.written.Load()
	p := Progress{Waiting: sendQueue(c.ep)}
	p.Taken = max(written, uint64(p.Waiting)) - uint64(p.Waiting)
	if s, ok := c.ep.Stats().(*tcp.Stats); ok {
		p.Sent, p.Heard = s.SegmentsSent.Value(), s.SegmentsReceived.Value()
	}
	return p
}

// Held is how many bytes of data the connection holds now: received and not
// read, written and not acknowledged.
func (c *Conn) Held() (received, sent int) {
	received, terr := c.ep.GetSockOptInt(tcpip.ReceiveQueueSizeOption)
	if terr != nil {
		received = 0 // ended
	}
	return received, sendQueue(c.ep)
}

// sndBufUsed is where a tcp.Endpoint counts the bytes of its send queue.
// Netstack has no other way to ask for it (SIOCOUTQ): SendQueueSizeOption is
// not implemented for TCP, and a TCPProbe would copy all of the state of every
// connection for every segment.
const (
	sndQueueField = "sndQueueInfo"
	sndUsedField  = "SndBufUsed"
)

// sendQueue returns the bytes in the send queue of an endpoint. The endpoint's
// lock, which all that change the number hold, is held while it is read.
func sendQueue(e tcpip.Endpoint) int {
	ep, ok := e.(*tcp.Endpoint)
	if !ok {
		return 0
	}
	ep.LockUser()
	defer ep.UnlockUser()
	// Netstack takes off one for a FIN that is acknowledged, and never put it on.
	return max(int(reflect.ValueOf(ep).Elem().FieldByIndex(sndUsedIndex).Int()), 0)
}

// sndUsedIndex is the field's place. That it is there is checked by New.
var sndUsedIndex = findSndUsed()

func findSndUsed() []int {
	queue, ok := reflect.TypeFor[tcp.Endpoint]().FieldByName(sndQueueField)
	if !ok {
		return nil
	}
	used, ok := queue.Type.FieldByName(sndUsedField)
	if !ok || used.Type.Kind() != reflect.Int {
		return nil
	}
	return append(append([]int{}, queue.Index...), used.Index...)
}

// checkSendQueue refuses a netstack whose send queue cannot be read.
func checkSendQueue() error {
	if sndUsedIndex == nil {
		return fmt.Errorf("this netstack has no %s.%s: another version of it needs another way to read its send queue", sndQueueField, sndUsedField)
	}
	return nil
}

// Held is what all connections hold, in bytes.
type Held struct {
	Received, Sent     int64 // of live flows: not read yet, not acknowledged yet
	Lingering          int64 // of closed ones: not acknowledged yet
	Flows, LingerFlows int
}

// askers is how many connections are asked at once for what they hold. Each
// answers once it has sent what it is sending: with all processors busy one
// after the other took ten seconds for four hundred.
const askers = 64

// Ask calls ask for 0 to n-1, askers of them at once, and returns when all have
// answered: about a microsecond for each that is not busy.
func Ask(n int, ask func(i int)) {
	var g errgroup.Group
	g.SetLimit(askers)
	for i := range n {
		g.Go(func() error {
			ask(i)
			return nil
		})
	}
	_ = g.Wait() // none fails
}

// Held sums up what the connections hold.
func (s *Stack) Held() Held {
	live, closing := s.flows.all(), s.flows.closing()
	var received, sent, lingering atomic.Int64
	Ask(len(live), func(i int) {
		r, w := live[i].Held()
		received.Add(int64(r))
		sent.Add(int64(w))
	})
	Ask(len(closing), func(i int) { lingering.Add(int64(sendQueue(closing[i].ep))) })
	return Held{
		Received: received.Load(), Sent: sent.Load(), Lingering: lingering.Load(),
		Flows: len(live), LingerFlows: len(closing),
	}
}
