package stack

import (
	"bytes"
	"testing"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
)

// taker keeps what it is given.
type taker struct {
	pkts   [][]byte
	pieces []int
}

func (*taker) ReadBatch([][][]byte, []int) (int, error) { return 0, nil }
func (*taker) MTU() int                                 { return 1500 }
func (*taker) Offload() bool                            { return true }
func (*taker) Close() error                             { return nil }

func (d *taker) WriteBatch(pkts [][][]byte) (int, error) {
	for _, p := range pkts {
		d.pkts = append(d.pkts, bytes.Join(p[1:], nil))
		d.pieces = append(d.pieces, len(p))
	}
	return len(pkts), nil
}

// Netstack merges thousands of small writes while a client's window is closed, into more
// pieces than a system call takes.
func TestPacketsOfManyPieces(t *testing.T) {
	d := &taker{}
	l := newLink(d, new(counters))
	var list gstack.PacketBufferList
	var want [][]byte
	for i, pieces := range []int{1, maxPieces - 1, maxPieces, 5000, 2} {
		payload, whole := buffer.Buffer{}, []byte("header ")
		for j := range pieces {
			b := []byte{byte(i), byte(j)}
			whole = append(whole, b...)
			if err := payload.Append(buffer.NewViewWithData(b)); err != nil {
				t.Fatal(err)
			}
		}
		p := gstack.NewPacketBuffer(gstack.PacketBufferOptions{ReserveHeaderBytes: header.IPv4MinimumSize + 20, Payload: payload})
		copy(p.NetworkHeader().Push(7), "header ")
		list.PushBack(p)
		want = append(want, whole)
	}
	if n, terr := l.WritePackets(list); n != len(want) || terr != nil {
		t.Errorf("%d packets, %v", n, terr)
	}
	for _, p := range list.AsSlice() {
		if terr := l.WritePacket(p); terr != nil {
			t.Error(terr)
		}
		p.DecRef()
	}
	for i, p := range d.pkts {
		if !bytes.Equal(p, want[i%len(want)]) {
			t.Errorf("packet %d has %d bytes, want %d", i, len(p), len(want[i%len(want)]))
		}
		if d.pieces[i] > 1+maxPieces {
			t.Errorf("packet %d has %d pieces", i, d.pieces[i])
		}
	}
	if len(d.pkts) != 2*len(want) || l.stats.packetsOut.Load() != uint64(2*len(want)) {
		t.Errorf("%d packets, %d counted", len(d.pkts), l.stats.packetsOut.Load())
	}
}
