package stack_test

import (
	"context"
	"encoding/binary"
	"io"
	"net/netip"
	"testing"
	"time"

	"github.com/sslgate/sslgate/stack"
	"github.com/sslgate/sslgate/stack/stacktest"
)

// FuzzIngress feeds a running stack with arbitrary packets. Property: nothing
// panics, and another flow that was there before still echoes.
func FuzzIngress(f *testing.F) {
	pad8 := append([]byte{0, 0}, padN(6)...)
	for _, s := range []seg{
		{src: from4, dst: server4, seq: 7, flags: syn, opts: []byte{2, 4, 5, 0xb4, 1, 3, 3, 7, 4, 2, 1, 1}},
		{src: from6, dst: server6, seq: 7, flags: syn, payload: []byte("x")},
		{src: from4, dst: server4, seq: 7, ack: 9, flags: ack | psh, payload: []byte("x")},
		{src: from6, dst: server6, seq: 7, ack: 9, flags: ack | fin},
		{src: from4, dst: server4, seq: 7, flags: rst},
		{src: from4, dst: from4, flags: syn},
	} {
		p := s.ip()
		f.Add([]byte{}, p, true, false)
		f.Add([]byte{1, 1, 40, 0, 100, 0, 20, 0, 16, 0}, p, false, true)
		f.Add([]byte{}, tooBig(s.src.Addr(), seg{src: s.dst, dst: s.src, flags: ack}.ip(), 1400), true, true)
		if s.src.Addr().Is6() {
			f.Add([]byte{}, withExtension(p, 0, pad8), true, false)
			f.Add([]byte{}, withExtension(p, 43, make([]byte, 8)), true, false)
			f.Add([]byte{}, withExtension(p, 44, make([]byte, 8)), false, false)
		}
	}
	f.Add([]byte{2}, make([]byte, 65535), false, true)

	// One stack for all inputs: packets meet what earlier ones have left. The
	// flow has a client address of its own.
	labs, flows := map[bool]*lab{}, map[bool]*stacktest.Conn{}
	for _, offload := range []bool{false, true} {
		labs[offload] = newLab(f, 1500, offload, stack.Config{Handler: &handler{handle: echo}})
		c, err := labs[offload].client.DialFrom(context.Background(), netip.MustParseAddrPort("10.77.66.55:0"), server4)
		if err != nil {
			f.Fatal(err)
		}
		f.Cleanup(func() { _ = c.Close() })
		flows[offload] = c
	}

	f.Fuzz(func(t *testing.T, vnet, pkt []byte, fix, offload bool) {
		if len(pkt) > 65535 {
			return
		}
		pkt = append(make([]byte, stack.VirtioHeaderLen), pkt...)
		copy(pkt[:stack.VirtioHeaderLen], vnet)
		if fix {
			repair(pkt[stack.VirtioHeaderLen:])
		}
		if !labs[offload].near.InjectRaw(pkt) {
			t.Fatal("nothing is read from the device")
		}
		// The echo takes the same queue: it comes after the packet.
		c := flows[offload]
		_ = c.SetDeadline(time.Now().Add(patience))
		if _, err := c.Write([]byte("still there?")); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, len("still there?"))
		if _, err := io.ReadFull(c, b); err != nil || string(b) != "still there?" {
			t.Fatalf("read %q, %v", b, err)
		}
	})
}

// repair makes lengths and checksums right, so that more inputs get past the
// first checks.
func repair(pkt []byte) {
	switch {
	case len(pkt) >= 20 && pkt[0]>>4 == 4:
		pkt[0] = 0x45
		binary.BigEndian.PutUint16(pkt[2:], uint16(len(pkt)))
		fixIPv4(pkt)
		repairUpper(netip.AddrFrom4([4]byte(pkt[12:])), netip.AddrFrom4([4]byte(pkt[16:])), pkt[9], pkt[20:])
	case len(pkt) >= 40 && pkt[0]>>4 == 6:
		binary.BigEndian.PutUint16(pkt[4:], uint16(len(pkt)-40))
		proto, upper := pkt[6], pkt[40:]
		for (proto == 0 || proto == 43 || proto == 60) && len(upper) >= 8 && len(upper) >= 8+8*int(upper[1]) {
			proto, upper = upper[0], upper[8+8*int(upper[1]):]
		}
		repairUpper(netip.AddrFrom16([16]byte(pkt[8:])), netip.AddrFrom16([16]byte(pkt[24:])), proto, upper)
	}
}

func repairUpper(src, dst netip.Addr, proto uint8, b []byte) {
	at, start := 16, pseudo(src, dst, proto, len(b))
	switch {
	case proto == 1:
		at, start = 2, 0
	case proto == 58:
		at = 2
	case proto != 6:
		return
	}
	if len(b) >= at+2 {
		b[at], b[at+1] = 0, 0
		binary.BigEndian.PutUint16(b[at:], ^sum16(start, b))
	}
}
