package stack

import (
	"net/netip"
	"testing"
	"time"

	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
	"pgregory.net/rapid"

	"github.com/sslgate/sslgate/internal/clientkey"
)

// In any sequence of calls the bound holds, the victim is the oldest handshake of a
// client with the most, and nothing is lost.
func TestPending(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := newPending(rapid.IntRange(1, 8).Draw(t, "max"))
		now := time.Unix(1e9, 0)
		var all []*pendingSYNACK
		for i := range rapid.IntRange(1, 100).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 2).Draw(t, "later")) * time.Second)
			if len(all) > 0 && rapid.IntRange(0, 3).Draw(t, "ends") == 0 {
				n := rapid.IntRange(0, len(all)-1).Draw(t, "which")
				if !p.remove(all[n]) || p.remove(all[n]) {
					t.Fatal("taken out not once")
				}
				all = append(all[:n], all[n+1:]...)
				continue
			}
			who := byte(rapid.IntRange(0, 5).Draw(t, "who"))
			addr := netip.AddrFrom4([4]byte{192, 0, 2, who})
			if who > 3 { // two addresses of one client
				addr = netip.AddrFrom16([16]byte{0x20, 1, 0x0d, 0xb8, 15: who})
			}
			all = append(all, p.add(gstack.TransportEndpointID{RemotePort: uint16(i)}, addr, now))
			if p.over() {
				v := p.victim()
				count := map[netip.Prefix]int{}
				for _, n := range all {
					count[n.client.key]++
				}
				for _, n := range all {
					if count[n.client.key] > count[v.client.key] {
						t.Fatal("another client has more")
					}
					if n.client == v.client && n.at.Before(v.at) || count[n.client.key] == count[v.client.key] && n.at.Before(v.at) {
						t.Fatal("another one is older")
					}
				}
				for i, n := range all {
					if n == v {
						all = append(all[:i], all[i+1:]...)
						break
					}
				}
				p.remove(v)
			}
			if len(p.byID) != len(all) || len(all) > p.max {
				t.Fatalf("%d kept, counted as %d, at most %d", len(all), len(p.byID), p.max)
			}
			clients := map[netip.Prefix]bool{}
			for _, n := range all {
				clients[n.client.key] = true
				if n.client.key != clientkey.Of(n.client.key.Addr()) {
					t.Fatal("a client that is none")
				}
			}
			if len(p.clients) != len(clients) || len(p.most) != len(clients) {
				t.Fatalf("%d clients, %d in the heap, want %d", len(p.clients), len(p.most), len(clients))
			}
		}
	})
}
