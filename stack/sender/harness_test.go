package sender

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab/testenv"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
)

func TestMain(m *testing.M) { testenv.NoLeaks(m) }

const (
	mss   = 1000
	ours  = 5 << 20 // the acknowledgement number of what netstack sends
	stamp = 5_000   // netstack's timestamp at the start
	room  = 1 << 20
)

var (
	client = netip.MustParseAddrPort("10.1.0.2:40000")
	dest   = netip.MustParseAddrPort("192.0.2.7:443")
	tuple  = Tuple{Client: client, Dest: dest}
)

// wirePacket is one packet as the client would see it.
type wirePacket struct {
	seq   uint32
	data  []byte
	flags uint8
	stamp uint32
}

// rig is a Sender with a clock of the test's own, a device that remembers, and netstack's
// side of one flow.
type rig struct {
	t       testing.TB
	s       *Sender
	at      time.Duration
	sent    []wirePacket
	seq     uint32 // the next of netstack
	window  uint16 // that the client offers
	alive   bool
	unheard int
	gso     bool
}

func newRig(t testing.TB, seq uint32, gso bool) *rig {
	r := &rig{t: t, seq: seq, window: 1000, alive: true, gso: gso, at: time.Second}
	r.s = New(Config{
		Device: r, Offload: gso, MaxWindow: room,
		Alive:   func(Tuple) bool { return r.alive },
		Unheard: func(Tuple, uint32, uint16) { r.unheard++ },
	})
	r.s.now = func() time.Duration { return r.at }
	t.Cleanup(func() {
		r.s.Close()
		if st := r.s.Stats(); st.Packets != 0 || st.Flows != 0 {
			t.Errorf("after Close: %+v", st)
		}
	})
	return r
}

// Whole is called by the Sender.
func (r *rig) Whole(pkt *gstack.PacketBuffer) {
	v := pkt.ToView()
	defer v.Release()
	r.take(slices.Clone(v.AsSlice()), int(pkt.GSOOptions.MSS))
}

// Part is called by the Sender.
func (r *rig) Part(p Part) {
	b := slices.Clone(p.Head)
	if p.Pkt != nil {
		Data(p.Pkt, p.At, p.Size, func(piece []byte) { b = append(b, piece...) })
	}
	if !r.gso {
		v4 := header.IPv4(b)
		tcp := header.TCP(v4.Payload())
		if !tcp.IsChecksumValid(v4.SourceAddress(), v4.DestinationAddress(), checksum.Checksum(tcp.Payload(), 0), uint16(len(tcp.Payload()))) {
			r.t.Errorf("TCP checksum of a part: %x", b)
		}
	}
	r.take(b, p.MSS)
}

// take cuts a packet as a kernel does.
func (r *rig) take(b []byte, size int) {
	v4 := header.IPv4(b)
	if !v4.IsChecksumValid() || int(v4.TotalLength()) != len(b) {
		r.t.Fatalf("IP header: %x", b[:20])
	}
	tcp := header.TCP(v4.Payload())
	w := wirePacket{seq: tcp.SequenceNumber(), flags: uint8(tcp.Flags())}
	if o := tcp.ParsedOptions(); o.TS {
		w.stamp = o.TSVal
	}
	if n := len(r.sent); n > 0 && int32(w.stamp-r.sent[n-1].stamp) < 0 {
		r.t.Errorf("packet %d has the timestamp %d, and the one before it %d: the client drops it (PAWS)", w.seq, w.stamp, r.sent[n-1].stamp)
	}
	data := tcp.Payload()
	for {
		n := len(data)
		if size > 0 {
			n = min(n, size)
		}
		p := w
		p.data = data[:n]
		if n < len(data) {
			p.flags &^= flagFIN | flagPSH
		}
		r.sent = append(r.sent, p)
		w.seq += uint32(n)
		if data = data[n:]; len(data) == 0 {
			return
		}
	}
}

// packet is one of netstack. The bytes of the data depend on the sequence number alone.
func (r *rig) packet(seq uint32, size int, flags uint8) *gstack.PacketBuffer {
	data := make([]byte, size)
	for i := range data {
		data[i] = byte((seq + uint32(i)) * 7)
	}
	pkt := gstack.NewPacketBuffer(gstack.PacketBufferOptions{
		ReserveHeaderBytes: 20 + 32, Payload: buffer.MakeWithData(data),
	})
	tcp := header.TCP(pkt.TransportHeader().Push(32))
	tcp.Encode(&header.TCPFields{
		SrcPort: dest.Port(), DstPort: client.Port(), SeqNum: seq, AckNum: ours, DataOffset: 32,
		Flags: header.TCPFlags(flags), WindowSize: 500,
	})
	copy(tcp[20:], []byte{1, 1, 8, 10})
	binary.BigEndian.PutUint32(tcp[24:], stamp+uint32(r.at/time.Millisecond))
	src, dst := tcpip.AddrFromSlice(dest.Addr().AsSlice()), tcpip.AddrFromSlice(client.Addr().AsSlice())
	ip := header.IPv4(pkt.NetworkHeader().Push(20))
	ip.Encode(&header.IPv4Fields{TotalLength: uint16(52 + size), TTL: 64, Protocol: 6, SrcAddr: src, DstAddr: dst})
	ip.SetChecksum(^ip.CalculateChecksum())
	if r.gso {
		pkt.GSOOptions = gstack.GSO{Type: gstack.GSOTCPv4, NeedsCsum: true, MSS: mss, L3HdrLen: 20}
	}
	return pkt
}

// send has netstack send data, and returns the sequence number behind it.
func (r *rig) send(size int) uint32 { return r.out(size, flagACK|flagPSH) }

func (r *rig) out(size int, flags uint8) uint32 {
	pkt := r.packet(r.seq, size, flags)
	defer pkt.DecRef()
	if !r.s.Out(pkt) {
		r.Whole(pkt)
	}
	r.seq += uint32(size) + uint32(flags&flagFIN)
	return r.seq
}

// ack is a bare acknowledgement of the client; it says whether netstack gets it.
func (r *rig) ack(to uint32, blocks ...block) bool {
	known := r.s.find(tuple) != nil
	pass, tcp := r.hear(ours, to, 0, blocks...)
	if known && header.TCP(tcp).ParsedOptions().SACKBlocks != nil {
		r.t.Error("netstack gets SACK blocks")
	}
	return pass
}

func (r *rig) hear(seq, to uint32, payload int, blocks ...block) (pass bool, tcp []byte) {
	size := 20
	if len(blocks) > 0 {
		size += 4 + 8*len(blocks)
	}
	tcp = make([]byte, size)
	header.TCP(tcp).Encode(&header.TCPFields{
		SrcPort: client.Port(), DstPort: dest.Port(), SeqNum: seq, AckNum: to, DataOffset: uint8(size),
		Flags: flagACK, WindowSize: r.window,
	})
	if len(blocks) > 0 {
		copy(tcp[20:], []byte{1, 1, 5, byte(2 + 8*len(blocks))})
		for i, b := range blocks {
			binary.BigEndian.PutUint32(tcp[24+8*i:], b.from)
			binary.BigEndian.PutUint32(tcp[28+8*i:], b.to)
		}
	}
	pass = r.s.In(tuple, tcp, payload)
	r.fire()
	return pass, tcp
}

// fire serves the timers that are due, as Run does.
func (r *rig) fire() {
	for {
		f, _ := r.s.timer.next(r.at)
		if f == nil {
			return
		}
		f.unset()
		r.s.fire(f)
	}
}

// wait lets time pass; the timers go off in time.
func (r *rig) wait(d time.Duration) {
	for end := r.at + d; ; {
		f, wait := r.s.timer.next(r.at)
		switch {
		case f != nil:
			f.unset()
			r.s.fire(f)
		case r.at >= end:
			return
		default:
			r.at = min(end, r.at+wait)
		}
	}
}

// since returns what was sent after the first n packets.
func (r *rig) since(n int) []wirePacket { return r.sent[n:] }

// warm sends and acknowledges one segment, so that the round trip is known, and returns
// the sequence number behind it.
func (r *rig) warm(rtt time.Duration) uint32 {
	r.send(mss)
	r.at += rtt
	r.ack(r.seq)
	return r.seq
}

func (r *rig) flow() *flow {
	r.t.Helper()
	f := r.s.find(tuple)
	if f == nil {
		r.t.Fatal("no flow")
	}
	return f
}

// check holds what must be true of a flow at any time.
func (r *rig) check() {
	r.t.Helper()
	f := r.s.find(tuple)
	if f == nil {
		return
	}
	flight, seq := 0, f.una
	for i, p := range f.q.live() {
		if i > 0 && p.seq != seq {
			r.t.Fatalf("packet %d begins at %d, not %d", i, p.seq, seq)
		}
		seq = p.end()
		at, open := p.acked, 0
		for _, u := range p.runs {
			if u.from != at || u.to <= u.from || u.to > p.sent {
				r.t.Fatalf("packet %d: runs %+v, acked %d, sent %d", i, p.runs, p.acked, p.sent)
			}
			at = u.to
			if u.state == underWay {
				flight += u.size()
			}
			if u.state != received {
				open += u.size()
			}
		}
		if at != p.sent || open != p.open {
			r.t.Fatalf("packet %d: %d of %d sent bytes in runs, open %d and not %d", i, at, p.sent, p.open, open)
		}
		if most := p.size/p.mss + 3; len(p.runs) > most {
			r.t.Fatalf("packet %d of %d segments has %d runs", i, p.size/p.mss, len(p.runs))
		}
		if whole := p.sent == p.size; whole != (i < f.next) {
			r.t.Fatalf("packet %d of %d is sent: %t, but next is %d", i, f.q.len(), whole, f.next)
		}
	}
	if n := len(f.rack.log.all) - f.rack.log.head; f.q.len() == 0 && n > 0 {
		r.t.Fatalf("everything has arrived, and %d transmissions are remembered", n)
	}
	if flight != f.flight {
		r.t.Fatalf("%d bytes under way, counted %d", flight, f.flight)
	}
}
