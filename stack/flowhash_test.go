package stack

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
)

// tcpOf is the beginning of a TCP packet.
func tcpOf(v6 bool, src, dst []byte, sport, dport uint16) []byte {
	var ip []byte
	if v6 {
		ip = make([]byte, ipv6HeaderLen)
		ip[0], ip[6] = 0x60, protoTCP
		copy(ip[8:24], src)
		copy(ip[24:40], dst)
	} else {
		ip = make([]byte, ipv4HeaderLen)
		ip[0], ip[9] = 0x45, protoTCP
		copy(ip[12:16], src)
		copy(ip[16:20], dst)
	}
	ip = binary.BigEndian.AppendUint16(ip, sport)
	return append(binary.BigEndian.AppendUint16(ip, dport), make([]byte, 16)...)
}

// Both directions of a flow have the same hash. The flows of one client and those of many
// spread evenly over few queues and over many.
func TestFlowHash(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, v6 := range []bool{false, true} {
		for _, queues := range []int{2, 3, 16} {
			for name, next := range map[string]func(i int) (src []byte, sport uint16){
				"even ports of a client": func(i int) ([]byte, uint16) { return []byte{10, 1, 0, 2}, uint16(32768 + 2*i) },
				"clients of a network":   func(i int) ([]byte, uint16) { return []byte{10, 1, byte(i >> 8), byte(i)}, 40000 },
				"anybody":                func(int) ([]byte, uint16) { return binary.BigEndian.AppendUint32(nil, r.Uint32()), uint16(r.Uint32()) },
			} {
				const flows = 4096
				got := make([]int, queues)
				l := &link{queues: make([]deviceQueue, queues)}
				for i := range l.queues {
					l.queues[i] = numbered{n: i}
				}
				for i := range flows {
					src, sport := next(i)
					dst := []byte{192, 0, 2, 7}
					if v6 {
						src, dst = append([]byte{0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0}, src...), append(make([]byte, 12), dst...)
					}
					there, back := tcpOf(v6, src, dst, sport, 443), tcpOf(v6, dst, src, 443, sport)
					if flowHash(there) != flowHash(back) {
						t.Fatalf("%s: %#x and %#x", name, flowHash(there), flowHash(back))
					}
					got[l.queueOf(there).(numbered).n]++
				}
				for q, n := range got {
					if n < flows/queues*7/10 || n > flows/queues*13/10 {
						t.Errorf("v6=%t, %s: queue %d of %d has %d of %d flows", v6, name, q, queues, n, flows)
					}
				}
			}
		}
	}
	for _, other := range [][]byte{nil, {0x45}, make([]byte, 60), tcpOf(false, nil, nil, 0, 0)[:23], tcpOf(true, nil, nil, 0, 0)[:43]} {
		if h := flowHash(other); h != 0 {
			t.Errorf("%x: %#x", other, h)
		}
	}
}

// several is a device of two queues that counts.
type several struct {
	taker
	written [2]int
}

func (*several) Queues() int                                   { return 2 }
func (*several) ReadQueue(int, [][][]byte, []int) (int, error) { return 0, nil }
func (d *several) WriteQueue(n int, pkts [][][]byte) (int, error) {
	d.written[n] += len(pkts)
	return len(pkts), nil
}

// Writing a packet allocates nothing, and each packet of a list goes to its own queue.
func TestWriteToQueues(t *testing.T) {
	d := new(several)
	l := newLink(d, new(counters))
	var list gstack.PacketBufferList
	for port := range uint16(64) {
		p := gstack.NewPacketBuffer(gstack.PacketBufferOptions{ReserveHeaderBytes: header.IPv4MinimumSize + 20, Payload: buffer.MakeWithData([]byte("x"))})
		defer p.DecRef()
		whole := tcpOf(false, []byte{10, 1, 0, 2}, []byte{192, 0, 2, 7}, 443, 40000+port)
		copy(p.TransportHeader().Push(20), whole[20:])
		copy(p.NetworkHeader().Push(20), whole)
		list.PushBack(p)
	}
	if n, terr := l.WritePackets(list); n != 64 || terr != nil || d.written[0]+d.written[1] != 64 || min(d.written[0], d.written[1]) < 20 {
		t.Errorf("%d, %v: %v", n, terr, d.written)
	}
	pkts := [][][]byte{{make([]byte, VirtioHeaderLen), tcpOf(false, []byte{10, 1, 0, 2}, []byte{192, 0, 2, 7}, 443, 40000)}}
	if n := testing.AllocsPerRun(1000, func() { l.write(pkts, 40) }); n != 0 {
		t.Errorf("%v allocations a packet", n)
	}
}
