package lab_test

import (
	"net/netip"
	"reflect"
	"testing"

	"github.com/sslgate/sslgate/internal/lab"
)

func TestOptionsAreChecked(t *testing.T) {
	for _, opt := range []lab.Options{
		{Name: "a/b"}, {Name: "../x"}, {Name: string(make([]byte, 33))},
		{Servers: -1}, {Servers: lab.MaxServers + 1}, {ClientMTU: 100}, {ServerMTU: 70000},
		{HopMTU: 1000}, {HopMTU: 1501},
	} {
		if l, err := lab.New(opt); err == nil {
			_ = l.Close()
			t.Errorf("%+v was taken", opt)
		}
	}
}

func TestParsePacket(t *testing.T) {
	for _, six := range []bool{false, true} {
		s := lab.Segment{
			Src: netip.AddrPortFrom(lab.ClientAddr(six), 1234), Dst: netip.AddrPortFrom(lab.ServerAddr(1, six), 443),
			Flags: lab.SYN, Payload: []byte("odd..."),
		}
		b := s.Packet()
		p, ok := lab.ParsePacket(b)
		if !ok || p.Src != s.Src || p.Dst != s.Dst || p.Flags != lab.SYN || p.Fragment || p.Len != len(b) {
			t.Errorf("whole: %+v", p)
		}
		frags, err := s.Fragments(16, 1)
		if err != nil {
			t.Fatal(err)
		}
		first, _ := lab.ParsePacket(frags[0])
		later, _ := lab.ParsePacket(frags[1])
		if !first.Fragment || first.Dst != s.Dst || !lab.TCPTo(443)(first) {
			t.Errorf("first fragment: %+v", first)
		}
		if !later.Fragment || later.Dst.Port() != 0 || later.Dst.Addr() != s.Dst.Addr() || lab.TCPTo(443)(later) {
			t.Errorf("later fragment: %+v", later)
		}
		for _, at := range []int{0, 4, 40, 400} {
			if _, err := s.Fragments(at, 1); err == nil {
				t.Errorf("cut after %d was taken", at)
			}
		}
		if six {
			p, _ := lab.ParsePacket(s.BehindOptions())
			if p.Dst != s.Dst || p.Flags != lab.SYN {
				t.Errorf("behind options: %+v", p)
			}
		}
	}
}

func FuzzParsePacket(f *testing.F) {
	for _, six := range []bool{false, true} {
		s := lab.Segment{Src: netip.AddrPortFrom(lab.ClientAddr(six), 1), Dst: netip.AddrPortFrom(lab.ServerAddr(0, six), 2), Flags: lab.SYN}
		f.Add(s.Packet())
		frags, _ := s.Fragments(8, 1)
		f.Add(frags[0])
		f.Add(frags[1])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, ok := lab.ParsePacket(b)
		if ok != p.Dst.IsValid() || (ok && p.Len != len(b)) || (!ok && !reflect.DeepEqual(p, lab.Packet{})) {
			t.Errorf("%v %+v", ok, p)
		}
	})
}
