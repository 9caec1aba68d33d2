package soak

import (
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/sslgate/sslgate/internal/lab"
)

// syns are the SYNs to ports that are refused at the SYN, and their answers, as they pass the
// gateway's interface to the clients. A client that has no answer within a second sends its SYN
// again (RFC 6298, section 2), and each one that is refused has a record. And they are the RSTs
// of other clients, at each interface of the gateway: a RST is sent once.
type syns struct {
	mu   sync.Mutex
	seen map[key][]onWire
}

type onWire struct {
	at   time.Time
	what string
}

func refusedAtSYN(port uint16) bool { return port == portDenied || port == portNoRule }

// sniff is for lab.Sniff: it notes, and keeps nothing.
func (s *syns) sniff(p lab.Packet) bool {
	switch {
	case p.Flags&(lab.SYN|lab.ACK) == lab.SYN && refusedAtSYN(p.Dst.Port()):
		s.add(key{p.Src, p.Dst}, "SYN")
	case p.Flags&lab.RST != 0 && refusedAtSYN(p.Src.Port()):
		s.add(key{p.Dst, p.Src}, "RST")
	}
	return false
}

// sniffResets is for lab.Sniff, on all interfaces of the gateway.
func (s *syns) sniffResets(p lab.Packet) bool {
	if p.Flags&lab.RST != 0 && p.Dst.Port() == portPay {
		s.add(key{p.Src, p.Dst}, "client's RST")
	}
	return false
}

func (s *syns) add(k key, what string) {
	unmap := func(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }
	k = key{unmap(k.client), unmap(k.destination)}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen[k] = append(s.seen[k], onWire{time.Now(), what})
}

// of says what was seen of a connection.
func (s *syns) of(k key) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []string
	for _, w := range s.seen[k] {
		all = append(all, fmt.Sprintf("%s %s", w.at.UTC().Format(clock), w.what))
	}
	return strings.Join(all, ", ")
}
