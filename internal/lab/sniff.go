package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// maxSniffed bounds what one sniffer keeps: 4096 packets of about 100 bytes, 400 KB. Further
// ones are only counted.
const maxSniffed = 4096

// Sniffer watches the packets of one interface.
type Sniffer struct {
	file *os.File
	keep func(Packet) bool
	done chan struct{}

	mu      sync.Mutex
	packets []Packet
	count   int
	changed chan struct{} // closed and replaced with every packet
}

// Sniff watches an interface of a namespace until Close; "" is every
// interface. Packets for which keep is true are kept; nil keeps all IP ones.
func (l *Lab) Sniff(ns NS, iface string, keep func(Packet) bool) (*Sniffer, error) {
	s := &Sniffer{keep: keep, done: make(chan struct{}), changed: make(chan struct{})}
	err := l.Do(ns, func() error {
		proto := uint16(unix.ETH_P_ALL)<<8 | uint16(unix.ETH_P_ALL)>>8 // network byte order
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, int(proto))
		if err != nil {
			return err
		}
		if iface != "" {
			var ifr *unix.Ifreq
			if ifr, err = unix.NewIfreq(iface); err == nil {
				err = unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, ifr)
			}
			if err == nil {
				err = unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: proto, Ifindex: int(ifr.Uint32())})
			}
		}
		if err != nil {
			_ = unix.Close(fd)
			return err
		}
		s.file = os.NewFile(uintptr(fd), "sniffer")
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("sniff %q in %s: %w", iface, ns, err)
	}
	go s.run()
	return s, nil
}

func (s *Sniffer) run() {
	defer close(s.done)
	buf := make([]byte, 1<<17) // GSO packets are longer than the MTU, up to 64 KiB and headers
	for {
		n, err := s.file.Read(buf)
		if err != nil {
			if errors.Is(err, unix.ENETDOWN) || errors.Is(err, unix.EINTR) {
				continue // the interface went down: it may come back
			}
			return
		}
		p, ok := ParsePacket(buf[:n])
		p.Raw = buf[:n]
		if !ok || (s.keep != nil && !s.keep(p)) {
			continue
		}
		p.Raw, p.At = nil, time.Now()
		s.mu.Lock()
		s.count++
		if len(s.packets) < maxSniffed {
			s.packets = append(s.packets, p)
		}
		close(s.changed)
		s.changed = make(chan struct{})
		s.mu.Unlock()
	}
}

// Count is the number of packets seen.
func (s *Sniffer) Count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count
}

// Packets returns what was kept, at most 4096.
func (s *Sniffer) Packets() []Packet {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Packet(nil), s.packets...)
}

// Wait waits until n packets were seen, or ctx ends.
func (s *Sniffer) Wait(ctx context.Context, n int) error {
	for {
		s.mu.Lock()
		count, changed := s.count, s.changed
		s.mu.Unlock()
		if count >= n {
			return nil
		}
		select {
		case <-changed:
		case <-s.done:
			return errors.New("sniffer closed")
		case <-ctx.Done():
			return fmt.Errorf("%d of %d packets seen: %w", count, n, ctx.Err())
		}
	}
}

// Close ends the sniffer; what it has kept stays readable.
func (s *Sniffer) Close() error {
	err := s.file.Close()
	<-s.done
	return err
}

// TCPTo is a filter: TCP to one of the ports, or to any if none is given. First fragments
// match; later ones have no port and do not match.
func TCPTo(ports ...uint16) func(Packet) bool {
	return func(p Packet) bool {
		if p.Proto != unix.IPPROTO_TCP || !p.Dst.IsValid() {
			return false
		}
		for _, port := range ports {
			if p.Dst.Port() == port {
				return true
			}
		}
		return len(ports) == 0
	}
}
