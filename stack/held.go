package stack

import (
	"fmt"
	"reflect"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// Progress says how far a peer has received what is sent to it.
type Progress struct {
	// Waiting is how many bytes were written and are not acknowledged.
	Waiting int
	// Taken is how many bytes were acknowledged so far.
	Taken uint64
	// Sent and Heard count the segments sent to and received from the peer, bare
	// acknowledgements too.
	Sent, Heard uint64
}

// Progress says how far the client has received what is sent to it. After a RST, Taken
// stays at what was acknowledged before.
func (c *Conn) Progress() Progress {
	// Load written before reading the queue: bytes written in between then only make
	// Taken too small, for the moment.
	written := c.written.Load()
	waiting, una := sendState(c.ep)
	p := Progress{Waiting: waiting, Taken: taken(written, una-c.una)}
	if c.finSent.Load() {
		// Netstack does not count the acknowledgement that ends a connection.
		// A RST after our FIN leads to StateError.
		switch tcp.EndpointState(c.ep.State()) {
		case tcp.StateTimeWait, tcp.StateClose:
			p.Taken = written
		}
	}
	if s, ok := c.ep.Stats().(*tcp.Stats); ok {
		p.Sent, p.Heard = s.SegmentsSent.Value(), s.SegmentsReceived.Value()
	}
	return p
}

// taken is how many of the written bytes are acknowledged. acked is that number modulo
// 2^32; that suffices, because far fewer bytes than 2^32 are under way. acked counts a
// FIN as one more.
func taken(written uint64, acked uint32) uint64 {
	return written - uint64(max(int32(uint32(written)-acked), 0))
}

// Written is how many bytes Write has handed to netstack.
func (c *Conn) Written() uint64 { return c.written.Load() }

// Acked is how many of the bytes of Written the client's TCP has acknowledged. gone says
// that the number is final: one side has reset the connection, or both have closed it.
func (c *Conn) Acked() (n uint64, gone bool) {
	gone = delivered(c) // asked first: if gone is true, the number read next is final
	return c.Progress().Taken, gone
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

// sndUsedField is where a tcp.Endpoint counts the bytes of its send queue. sndUnaField is
// where its sender keeps the oldest sequence number that is not acknowledged (SND.UNA of
// RFC 9293, section 3.3.1). Netstack offers no other way to read them (SIOCOUTQ):
// SendQueueSizeOption is not implemented for TCP, and a TCPProbe would copy all of the
// state of every connection for every segment. A RST empties the queue; SND.UNA stays.
const (
	sndQueueField  = "sndQueueInfo"
	sndUsedField   = "SndBufUsed"
	sndSenderField = "snd"
	sndUnaField    = "SndUna"
)

// sendQueue returns the bytes in the send queue of an endpoint.
func sendQueue(e tcpip.Endpoint) int {
	waiting, _ := sendState(e)
	return waiting
}

// sendState returns the bytes in the send queue of an endpoint, and its SND.UNA. It holds
// the endpoint's lock, which guards both.
func sendState(e tcpip.Endpoint) (waiting int, una uint32) {
	ep, ok := e.(*tcp.Endpoint)
	if !ok {
		return 0, 0
	}
	ep.LockUser()
	defer ep.UnlockUser()
	v := reflect.ValueOf(ep).Elem()
	if snd := v.FieldByIndex(sndFields.sender); !snd.IsNil() {
		una = uint32(snd.Elem().FieldByIndex(sndFields.una).Uint())
	}
	// Netstack subtracts one when a FIN is acknowledged, but never added one for it.
	return max(int(v.FieldByIndex(sndFields.used).Int()), 0), una
}

// sndFields are the indexes of the fields. New checks that they exist.
var sndFields = findSndFields()

type sndPlaces struct{ used, sender, una []int }

func findSndFields() (p sndPlaces) {
	endpoint := reflect.TypeFor[tcp.Endpoint]()
	if queue, ok := endpoint.FieldByName(sndQueueField); ok {
		if used, ok := queue.Type.FieldByName(sndUsedField); ok && used.Type.Kind() == reflect.Int {
			p.used = append(append([]int{}, queue.Index...), used.Index...)
		}
	}
	if sender, ok := endpoint.FieldByName(sndSenderField); ok && sender.Type.Kind() == reflect.Pointer {
		if una, ok := sender.Type.Elem().FieldByName(sndUnaField); ok && una.Type.Kind() == reflect.Uint32 {
			p.sender, p.una = sender.Index, una.Index
		}
	}
	return p
}

// checkSendQueue returns an error for a netstack version whose send queue cannot be read.
func checkSendQueue() error {
	if sndFields.used == nil || sndFields.una == nil {
		return fmt.Errorf("this netstack has no %s.%s or no %s.%s: another version of it needs another way to read its send queue", sndQueueField, sndUsedField, sndSenderField, sndUnaField)
	}
	return nil
}

// Held is the data that all connections hold, in bytes.
type Held struct {
	Received, Sent     int64 // of live flows: not read yet, not acknowledged yet
	Lingering          int64 // of closed ones: not acknowledged yet
	Flows, LingerFlows int
}

// askers is how many connections are asked at once how much they hold. A connection that
// is sending answers only after that. With all processors busy, asking four hundred one
// after the other took ten seconds.
const askers = 64

// Ask calls ask for 0 to n-1, askers of them at once, and returns when all calls have
// returned: about a microsecond for each connection that is not busy.
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

// Held returns the sums over all connections.
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
