package stack_test

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"sync/atomic"
	"testing"

	"github.com/sslgate/sslgate/stack"
)

// wire returns the length of the largest IP packet that a kernel makes of a
// packet with this virtio-net header.
func wire(pkt []byte) int {
	if pkt[1] == 0 {
		return len(pkt) - stack.VirtioHeaderLen
	}
	hdrLen, mss := binary.NativeEndian.Uint16(pkt[2:]), binary.NativeEndian.Uint16(pkt[4:])
	return min(len(pkt)-stack.VirtioHeaderLen, int(hdrLen)+int(mss))
}

// A hop on the way to the client carries 1400 bytes and says so: the download
// goes on in smaller packets.
func TestDownloadOverNarrowHop(t *testing.T) {
	const hopMTU, size = 1400, 1 << 20
	router := map[bool]netip.Addr{true: netip.MustParseAddr("10.9.9.9"), false: netip.MustParseAddr("fd09::9")}
	for _, offload := range []bool{false, true} {
		for _, dst := range []netip.AddrPort{server4, server6} {
			t.Run(fmt.Sprintf("offload=%t/%v", offload, dst.Addr()), func(t *testing.T) {
				h, flows := given()
				l := newLab(t, 1500, offload, stack.Config{Handler: h})
				var tooBigs, after atomic.Int64
				l.near.SetFilter(func(pkt []byte) bool {
					if wire(pkt) <= hopMTU {
						after.Add(1)
						return true
					}
					tooBigs.Add(1)
					l.near.Inject(tooBig(router[dst.Addr().Is4()], pkt[stack.VirtioHeaderLen:], hopMTU))
					return false
				})
				c := l.dial(dst)
				f := get(t, flows)
				done := make(chan error, 1)
				var sum [32]byte
				go func() {
					var err error
					sum, err = pump(f.Conn, size, 6)
					done <- err
				}()
				got, n, err := drain(c)
				if err != nil || n != size {
					t.Fatalf("read %d bytes, %v", n, err)
				}
				if err := <-done; err != nil || got != sum {
					t.Fatalf("other bytes, %v", err)
				}
				// At most the packets under way before the first answer.
				if b := tooBigs.Load(); b == 0 || b > 100 {
					t.Errorf("%d packets too big", b)
				}
				if st := l.stack.Stats(); st.TooBig == 0 || st.Bad.Total() != 0 {
					t.Errorf("stats: %+v", st)
				}
			})
		}
	}
}

// The MSS we announce is that of the device, and a larger one of the client
// does not make us send more than the device takes (newLab checks that).
func TestMSS(t *testing.T) {
	for _, s := range []seg{
		{src: from4, dst: server4, flags: syn, opts: []byte{2, 4, 0xff, 0xff}},
		{src: from6, dst: server6, flags: syn, opts: []byte{2, 4, 0xff, 0xff}},
	} {
		l := newLab(t, 1350, true, stack.Config{Handler: &handler{handle: echo}})
		sent := l.sniff()
		l.near.Inject(s.ip())
		l.eventually("SYN-ACK", func() bool { return len(sent()) > 0 })
		pkt := sent()[0]
		hdr := 20
		if s.src.Addr().Is6() {
			hdr = 40
		}
		opts := pkt[hdr+20:]
		if opts[0] != 2 || int(binary.BigEndian.Uint16(opts[2:])) != 1350-hdr-20 {
			t.Errorf("options of the SYN-ACK: %x", opts)
		}
	}
}

// Lost packets in both directions cost time, never bytes.
func TestLoss(t *testing.T) {
	t.Parallel()
	for _, offload := range []bool{false, true} {
		t.Run(fmt.Sprintf("offload=%t", offload), func(t *testing.T) {
			t.Parallel() // waits for retransmissions
			l := newLab(t, 1500, offload, stack.Config{Handler: &handler{handle: echo}})
			// One packet in 31 each way: with offload a transfer has few.
			lose := func() func([]byte) bool {
				var n atomic.Int64
				return func([]byte) bool { return n.Add(1)%31 != 0 }
			}
			c := l.dial(server4)
			l.near.SetFilter(lose())
			l.far.SetFilter(lose())
			if err := roundTrip(c, 2<<20, 7); err != nil {
				t.Fatal(err)
			}
			l.near.SetFilter(nil)
			l.far.SetFilter(nil)
			if st := l.stack.Stats(); st.Retransmits == 0 {
				t.Errorf("nothing was sent again: %+v", st)
			}
		})
	}
}

// A corrupted packet is dropped, counted and sent again.
func TestCorruption(t *testing.T) {
	l := newLab(t, 1500, false, stack.Config{Handler: &handler{handle: echo}})
	c := l.dial(server6)
	var n atomic.Int64
	l.far.SetFilter(func(pkt []byte) bool {
		if len(pkt) > 1000 && n.Add(1)%50 == 0 {
			pkt[500] ^= 0x40
		}
		return true
	})
	if err := roundTrip(c, 1<<20, 8); err != nil {
		t.Fatal(err)
	}
	if st := l.stack.Stats(); st.Bad.Checksum == 0 || st.Bad.Total() != st.Bad.Checksum {
		t.Errorf("stats: %+v", st)
	}
}
