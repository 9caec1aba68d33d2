// Package sender sends a flow's packets to the client in place of netstack's own
// congestion control and loss recovery, which both take every loss for congestion and
// walk over all that is under way for every acknowledgement.
//
// It stands between netstack and the device. A data packet of netstack goes this way:
//
//  1. Out keeps a reference to it until it is acknowledged (flow.go)
//  2. it is sent when the model of the path allows (model.go, send.go)
//  3. In reads acknowledgements and SACK blocks, and takes the blocks and duplicates away:
//     netstack hears of no loss (ack.go)
//  4. what was lost is found by time (RFC 8985) and sent again (loss.go)
//
// Everything else is netstack's: windows, buffers, handshakes, the end of a flow, and the
// last retransmission timeouts, which end a flow whose client is gone.
package sender

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
)

// Device takes the packets that are sent. It is called with the lock of a flow held, and
// must not call the Sender.
type Device interface {
	// Whole sends a packet as netstack has made it.
	Whole(pkt *gstack.PacketBuffer)
	// Part sends a part of a packet.
	Part(Part)
}

// Part is a part of a packet that is sent, or sent again.
type Part struct {
	// Head is the IP and the TCP header. With offloads the TCP checksum is that of the
	// pseudo-header only, otherwise it is complete.
	Head []byte
	// V6 says that the IP header is one of IPv6.
	V6 bool
	// Pkt has the data: Size bytes from At on. Nil if there are none.
	Pkt      *gstack.PacketBuffer
	At, Size int
	// MSS is the size in bytes into which the device cuts the data.
	MSS int
}

// Config describes a Sender.
type Config struct {
	Device Device
	// Offload says that the device cuts large packets and completes checksums.
	Offload bool
	// MaxWindow is the largest window in bytes that netstack offers to a client.
	MaxWindow int
	// Unheard tells netstack again that everything up to una is acknowledged, if it does
	// not know it.
	Unheard func(t Tuple, una uint32, window uint16)
	// Alive says whether netstack has a connection of this flow.
	Alive func(Tuple) bool
}

// shards divide the table of flows.
const shards = 64

// Sender sends the data of all flows.
type Sender struct {
	cfg   Config
	now   func() time.Duration // since the start, monotonic
	seed  maphash.Seed
	count atomic.Int64 // flows
	corks atomic.Int64 // flows that are corked
	table [shards]shard
	timer timers

	stats counters
}

type shard struct {
	mu     sync.RWMutex
	flow   map[Tuple]*flow
	corked map[Tuple]struct{} // see Cork; nil: none
	closed bool
}

type counters struct{ again, timeouts, probes, spurious, refused, kept atomic.Int64 }

// Stats is a snapshot of a Sender.
type Stats struct {
	Flows     int    // that are kept now
	Packets   int    // of netstack that are kept now
	Again     uint64 // segments of one MSS that were sent again
	Probes    uint64 // tail loss probes
	Timeouts  uint64
	Duplicate uint64 // segments that the client says it got twice (RFC 2883)
	Refused   uint64 // acknowledgements of bytes that were not sent yet
}

// New makes a Sender; Run must be called for its timers.
func New(cfg Config) *Sender {
	begin := time.Now()
	s := &Sender{cfg: cfg, now: func() time.Duration { return time.Since(begin) + 1 }, seed: maphash.MakeSeed()}
	s.timer.init()
	for i := range s.table {
		s.table[i].flow = map[Tuple]*flow{}
	}
	return s
}

// Run serves the timers of all flows until Close.
func (s *Sender) Run() { s.timer.run(s.now, s.fire) }

// Close gives all packets back; Run returns, and Out and In do nothing any more.
func (s *Sender) Close() {
	s.timer.close()
	for i := range s.table {
		sh := &s.table[i]
		sh.mu.Lock()
		flows := sh.flow
		sh.flow, sh.closed = nil, true
		sh.mu.Unlock()
		for _, f := range flows {
			f.end()
		}
	}
}

// Stats returns the counters.
func (s *Sender) Stats() Stats {
	return Stats{
		Flows: int(s.count.Load()), Packets: int(s.stats.kept.Load()),
		Again: uint64(s.stats.again.Load()), Probes: uint64(s.stats.probes.Load()),
		Timeouts: uint64(s.stats.timeouts.Load()), Duplicate: uint64(s.stats.spurious.Load()),
		Refused: uint64(s.stats.refused.Load()),
	}
}

// Out takes a packet that netstack sends. It returns false if the caller has to send it.
func (s *Sender) Out(pkt *gstack.PacketBuffer) bool {
	tcp := pkt.TransportHeader().Slice()
	t, ok := tupleOf(pkt.NetworkHeader().Slice(), tcp)
	if !ok {
		return false
	}
	flags, size := tcp[13], pkt.Data().Size()
	switch {
	case flags&(flagSYN|flagRST) != 0:
		s.forget(t)
		return false
	case size == 0 && flags&flagFIN == 0:
		if f := s.find(t); f != nil {
			f.note(tcp, s.now())
		}
		return false
	}
	for {
		f := s.find(t)
		if f == nil {
			if f = s.add(t, pkt); f == nil {
				return false // closed
			}
		}
		if taken, alive := f.out(pkt, s.now(), s.corked(t)); alive {
			return taken
		}
		s.remove(t, f)
	}
}

// Cork makes what netstack sends from now on wait for Uncork, so that the last data of a
// flow and its FIN are one segment. It does not make anything else wait: an acknowledgement
// or a timer may send all the same.
func (s *Sender) Cork(t Tuple) {
	sh := s.shard(t)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.corked == nil {
		sh.corked = map[Tuple]struct{}{}
	}
	if _, already := sh.corked[t]; !already {
		sh.corked[t] = struct{}{}
		s.corks.Add(1)
	}
}

// Uncork sends what Cork has made wait.
func (s *Sender) Uncork(t Tuple) {
	sh := s.shard(t)
	sh.mu.Lock()
	if _, was := sh.corked[t]; was {
		delete(sh.corked, t)
		s.corks.Add(-1)
	}
	sh.mu.Unlock()
	if f := s.find(t); f != nil {
		f.transmit(s.now())
	}
}

// corked is asked for each packet with data, and most of the time nothing is.
func (s *Sender) corked(t Tuple) bool {
	if s.corks.Load() == 0 {
		return false
	}
	sh := s.shard(t)
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	_, yes := sh.corked[t]
	return yes
}

// In takes a segment of a client before netstack sees it: its TCP header, which it may
// change, and the size of its data. It returns false if netstack need not see it. A SYN
// is none of its business.
func (s *Sender) In(t Tuple, tcp []byte, payload int) bool {
	f := s.find(t)
	if f == nil {
		return true
	}
	now := s.now()
	pass, lost := f.in(readACK(tcp, payload), now)
	if lost {
		f.repair(now)
	}
	return pass
}

// Room is how many bytes of a send buffer a flow can use, as its path is known; 0: not
// known yet.
func (s *Sender) Room(t Tuple) int {
	f := s.find(t)
	if f == nil {
		return 0
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.model.product(roomPercent)
}

// Check frees a flow that netstack has ended, for example after a RST.
func (s *Sender) Check(t Tuple) {
	if s.find(t) != nil && !s.cfg.Alive(t) {
		s.forget(t)
	}
}

func (s *Sender) shard(t Tuple) *shard { return &s.table[maphash.Comparable(s.seed, t)%shards] }

func (s *Sender) find(t Tuple) *flow {
	if s.count.Load() == 0 {
		return nil
	}
	sh := s.shard(t)
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	return sh.flow[t]
}

func (s *Sender) add(t Tuple, pkt *gstack.PacketBuffer) *flow {
	sh := s.shard(t)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	f := sh.flow[t]
	if f == nil && !sh.closed {
		f = newFlow(s, t, pkt)
		sh.flow[t] = f
		s.count.Add(1)
	}
	return f
}

func (s *Sender) remove(t Tuple, f *flow) {
	sh := s.shard(t)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.flow[t] == f {
		delete(sh.flow, t)
	}
}

func (s *Sender) forget(t Tuple) {
	if f := s.find(t); f != nil {
		f.end()
		s.remove(t, f)
	}
}

// fire is called when a deadline of a flow has come.
func (s *Sender) fire(f *flow) {
	if !s.cfg.Alive(f.t) || !f.due(s.now()) {
		f.end()
		s.remove(f.t, f)
	}
}
