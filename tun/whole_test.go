package tun

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/sslgate/sslgate/stack"
)

// silent accepts every connection and sends nothing, so whatever arrives behind the
// gateway has come past it.
type silent struct{}

func (silent) OnSYN(stack.SYN) stack.SYNAnswer             { return stack.SYNPass }
func (silent) HandleFlow(_ context.Context, f *stack.Flow) { _ = f.Conn.Close() }

// Whole IP packets with headers of every kind, in fragments, against nft rules and stack
// together. A reader that shares no code with the rules checks that everything that
// arrives behind the gateway may pass.
func TestWholePackets(t *testing.T) {
	const rounds, size = 40, 60
	seed := uint64(time.Now().UnixNano())
	for _, all := range []bool{false, true} {
		t.Run(fmt.Sprintf("all ports %v", all), func(t *testing.T) {
			g := &gateway{lab: newLab(t)}
			g.gw.do(func() (err error) {
				g.dev, err = Open(Config{Name: "t0", Offload: OffloadOff})
				return err
			})
			cfg := testConfig()
			sc := stack.Config{Device: g.dev, Handler: silent{}, Ports: cfg.Ports}
			if all {
				cfg.AllPorts, cfg.Ports = true, nil
				sc.AllPorts, sc.Ports = true, nil
			}
			s, err := stack.New(sc)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(context.Background())
			done := make(chan error, 1)
			go func() { done <- s.Run(ctx) }()
			t.Cleanup(func() {
				cancel()
				_ = g.dev.Close()
				if err := <-done; err != nil {
					t.Log(err) // the device was closed under it
				}
			})
			g.gw.do(func() (err error) {
				g.steer, err = Steer(cfg, zap.NewNop())
				return err
			})
			t.Cleanup(func() { _ = g.steer.Close(false) })
			g.warm()
			g.gw.run("sysctl -qw net.ipv4.conf.all.accept_source_route=1 net.ipv4.conf.g0.accept_source_route=1 net.ipv4.conf.o0.accept_source_route=1")

			r := rand.New(rand.NewPCG(seed, 1))
			passed, sent := 0, 0
			for range rounds {
				for _, way := range []struct {
					from       *ns
					ifc, gwIf  string
					src4, src6 string
					captured   bool
				}{
					{g.client, "c0", "g0", "10.0.1.2", "fd00:1::2", true},
					{g.other, "x0", "o0", "10.0.3.2", "fd00:3::2", false},
				} {
					w := wanderer{r: r, src4: way.src4, src6: way.src6}
					var packets [][]byte
					for len(packets) < size {
						packets = append(packets, w.packets()...)
					}
					sent += len(packets)
					n, bad := g.wrong(way.from, way.ifc, way.gwIf, way.src4, way.src6, all, way.captured, packets)
					passed += n
					for _, p := range bad {
						t.Errorf("seed %d, from %s: %s", seed, way.gwIf, p)
					}
				}
			}
			if passed == 0 || passed == sent {
				t.Errorf("seed %d: %d of %d packets passed: this tests nothing", seed, passed, sent)
			}
			t.Logf("%d of %d packets passed", passed, sent)
		})
	}
}

// wrong sends packets and returns how many arrived at the server, and those that
// should not have.
func (g *gateway) wrong(from *ns, ifc, gwIf, src4, src6 string, all, captured bool, packets [][]byte) (int, []string) {
	from.t.Helper()
	g.sport++
	g.send(from, ifc, gwIf, packets...)
	g.send(from, ifc, gwIf, packet{src: src4, dst: "10.0.2.2", proto: unix.IPPROTO_UDP, sport: g.sport, dport: 9}.bytes())
	got := until(from.t, g.sniff.got, g.sport)
	n := 0
	var bad []string
	pieces := map[string][][]byte{}
	for _, p := range got {
		switch whole, key := strictFragment(p); {
		case !sentBy(p, src4, src6):
		case whole:
			n++
			if why := strict(p, all, captured); why != "" {
				bad = append(bad, fmt.Sprintf("%s: %x", why, p))
			}
		default:
			n++
			pieces[key] = append(pieces[key], p)
		}
	}
	for _, some := range pieces {
		if p := joined(some); p == nil {
			bad = append(bad, fmt.Sprintf("pieces that make no packet: %x", some))
		} else if why := strict(p, all, captured); why != "" {
			bad = append(bad, fmt.Sprintf("pieces of a packet, %s: %x", why, some))
		}
	}
	return n, bad
}

func sentBy(p []byte, src4, src6 string) bool {
	if len(p) >= 40 && p[0]>>4 == 6 {
		return [16]byte(p[8:24]) == netip.MustParseAddr(src6).As16()
	}
	return len(p) >= 20 && p[0]>>4 == 4 && [4]byte(p[12:16]) == netip.MustParseAddr(src4).As4()
}

// strictFragment says whether a packet is whole as its outermost headers go, and if
// not which packet it is a piece of.
func strictFragment(p []byte) (whole bool, key string) {
	if p[0]>>4 == 4 {
		return binary.BigEndian.Uint16(p[6:])&0x3fff == 0, fmt.Sprintf("4 %x %x %d", p[12:20], p[4:6], p[9])
	}
	_, at := unfragmentable(p)
	if at < 0 {
		return true, ""
	}
	return false, fmt.Sprintf("6 %x %x", p[8:40], p[at+4:at+8])
}

// unfragmentable finds the first Fragment header: the position of the byte that names it
// and its own position, -1 if there is none.
func unfragmentable(p []byte) (named, at int) {
	named, at = 6, 40
	for at+8 <= len(p) {
		switch p[named] {
		case 44:
			return named, at
		case 0, 43, 60:
			named, at = at, at+8+8*int(p[at+1])
		default:
			return 0, -1
		}
	}
	return 0, -1
}

// joined is the packet of all its pieces, nil if one is missing. Pieces may be there
// twice.
func joined(pieces [][]byte) []byte {
	type part struct {
		off  int
		more bool
		body []byte
	}
	var parts []part
	var head []byte
	for _, p := range pieces {
		if p[0]>>4 == 4 {
			f := binary.BigEndian.Uint16(p[6:])
			size := int(p[0]&15) * 4
			parts = append(parts, part{int(f&0x1fff) * 8, f&0x2000 != 0, p[size:]})
			if f&0x1fff == 0 {
				head = slices.Clone(p[:size])
				head[6], head[7] = 0, 0
			}
			continue
		}
		named, at := unfragmentable(p)
		f := binary.BigEndian.Uint16(p[at+2:])
		parts = append(parts, part{int(f &^ 7), f&1 != 0, p[at+8:]})
		if f&^7 == 0 {
			head = slices.Clone(p[:at])
			head[named] = p[at]
		}
	}
	slices.SortFunc(parts, func(a, b part) int { return a.off - b.off })
	var body []byte
	last := false
	for _, p := range parts {
		if p.off < len(body) {
			continue
		}
		if p.off > len(body) {
			return nil
		}
		body, last = append(body, p.body...), !p.more
	}
	if head == nil || !last {
		return nil
	}
	return append(head, body...)
}

// strict says why a whole packet may not pass: "" if it may.
func strict(p []byte, all, captured bool) string {
	proto, icmp := p[9], byte(1)
	body := p[min(len(p), int(p[0]&15)*4):]
	if p[0]>>4 == 6 {
		proto, body, icmp = p[6], p[40:], 58
		for proto == 0 || proto == 43 || proto == 60 || proto == 51 {
			if len(body) < 8 {
				return "headers cut off"
			}
			size := 8 + 8*int(body[1])
			if proto == 51 {
				size = 8 + 4*int(body[1])
			}
			if size > len(body) {
				return "headers longer than the packet"
			}
			proto, body = body[0], body[size:]
		}
	}
	if proto == icmp {
		return ""
	}
	if proto != 6 && proto != 17 {
		return fmt.Sprintf("protocol %d", proto)
	}
	if len(body) < 4 {
		return "no ports"
	}
	port := binary.BigEndian.Uint16(body[2:])
	taken := port == 443 || port == 8443
	switch {
	case proto == 6 && (all || taken):
		return fmt.Sprintf("TCP to port %d", port)
	case proto == 17 && captured && (taken && !all || port == 443):
		return fmt.Sprintf("UDP to port %d", port)
	}
	return ""
}

// wanderer makes packets at random.
type wanderer struct {
	r          *rand.Rand
	src4, src6 string
}

func pick[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

// packets is one packet, or its pieces, some of which may be missing or twice.
func (w *wanderer) packets() [][]byte {
	src, dst := w.src4, "10.0.2.2"
	six := w.r.IntN(3) > 0
	if six {
		src, dst = w.src6, "fd00:2::2"
	}
	p := packet{
		src: src, dst: dst, proto: pick[byte](w.r, 6, 6, 6, 17, 17, 1, 58), sport: pick[uint16](w.r, 443, 8443, 30000+uint16(w.r.IntN(1000))),
		dport: pick[uint16](w.r, 443, 443, 8443, 80, 53, uint16(w.r.IntN(1<<16))), flags: pick[byte](w.r, 0, 0x02, 0x12, 0x10, 0x18, 0x04),
		icmpType: pick[byte](w.r, 8, 128, 3, 1), payload: make([]byte, w.r.IntN(120)),
	}
	if p.proto == 1 && six || p.proto == 58 && !six {
		p.icmpType = 8
	}
	body, proto := p.transport(), p.proto
	if w.r.IntN(12) == 0 {
		body = body[:w.r.IntN(min(8, len(body)))]
	}
	if w.r.IntN(8) == 0 { // a tunnel
		inner, number := ip4("10.0.1.2", "10.0.2.2", proto, nil, body), byte(4)
		if six {
			inner, number = chain6(w.src6, dst, proto, body), 41
		}
		body, proto = inner, pick(w.r, number, number, 47, 50, 94)
	}
	if !six {
		options := make([]byte, 4*w.r.IntN(4))
		if len(options) == 8 {
			copy(options, pick(w.r, []byte{131, 7, 4, 10, 0, 2, 2, 0}, []byte{137, 7, 4, 10, 0, 2, 2, 0}, []byte{7, 7, 4, 0, 0, 0, 0, 0}))
		}
		if w.r.IntN(10) == 0 {
			proto = byte(w.r.IntN(256))
		}
		return w.cut4(ip4(src, dst, proto, options, body), len(options))
	}
	return w.chain(src, dst, proto, body)
}

// cut4 cuts an IPv4 packet in two pieces now and then.
func (w *wanderer) cut4(p []byte, options int) [][]byte {
	at := 20 + options
	off := 8 * (1 + w.r.IntN(4))
	if w.r.IntN(4) > 0 || at+off >= len(p) {
		return [][]byte{p}
	}
	id := []byte{byte(w.r.IntN(256)), byte(w.r.IntN(256))}
	piece := func(from, to int, frag uint16) []byte {
		b := append(slices.Clone(p[:at]), p[at+from:at+to]...)
		binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
		copy(b[4:], id)
		binary.BigEndian.PutUint16(b[6:], frag)
		b[10], b[11] = 0, 0
		binary.BigEndian.PutUint16(b[10:], checksum(b[:at]))
		return b
	}
	return w.some(piece(0, off, 0x2000), piece(off, len(p)-at, uint16(off/8)))
}

// some omits or repeats a fragment now and then, or reverses the order.
func (w *wanderer) some(a, b []byte) [][]byte {
	return pick(w.r, [][]byte{a, b}, [][]byte{a, b}, [][]byte{b, a}, [][]byte{a}, [][]byte{b}, [][]byte{a, a, b})
}

// chain is an IPv6 packet behind headers at random, one of which may cut it.
func (w *wanderer) chain(src, dst string, proto byte, body []byte) [][]byte {
	var heads []head
	for range w.r.IntN(4) {
		heads = append(heads, pick(w.r, hopByHop, destOpts, destOpts, routing, auth, part(0, false, byte(w.r.IntN(256))), unknown(byte(w.r.IntN(256)))))
	}
	if w.r.IntN(3) > 0 {
		return [][]byte{chain6(src, dst, proto, body, heads...)}
	}
	// What is cut: the headers from a place on, and the body.
	at := w.r.IntN(len(heads) + 1)
	inner := chain6(src, dst, proto, body, heads[at:]...)
	next, rest := inner[6], inner[40:]
	off := 8 * (1 + w.r.IntN(4))
	if off >= len(rest) {
		return [][]byte{chain6(src, dst, proto, body, heads...)}
	}
	id := byte(w.r.IntN(256))
	front := slices.Clip(heads[:at])
	return w.some(chain6(src, dst, next, rest[:off], append(front, part(0, true, id))...),
		chain6(src, dst, next, rest[off:], append(front, part(off, false, id))...))
}
