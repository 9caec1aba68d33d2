package gateway

import (
	"io"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab/testenv"

	"golang.org/x/sys/unix"
)

// What the peer has acknowledged is known after its RST too.
func TestAckedAfterReset(t *testing.T) {
	s, peer := socketPair(t)
	_ = peer.SetReadBuffer(8 << 10)
	block := make([]byte, 64<<10)
	testenv.Eventually(t, "what is written is more than both sides take", func() bool {
		_ = s.SetWriteDeadline(time.Now().Add(200 * time.Millisecond))
		for {
			if _, err := s.Write(block); err != nil {
				break
			}
		}
		p, ok := kernelProgress(s.TCPConn)
		return !ok || p.Waiting > 0 // not if the machine paused for as long
	})
	if p, ok := kernelProgress(s.TCPConn); !ok || p.Waiting == 0 {
		t.Errorf("%d bytes wait for a peer that reads nothing, known %t", p.Waiting, ok)
	}
	_ = peer.SetLinger(0)
	_ = peer.Close() // unread data: a RST
	s.until(t, unix.POLLHUP)
	acked, gone := s.Acked()
	if written := s.Written(); !gone || acked == 0 || acked >= written {
		t.Errorf("%d of %d acknowledged, gone %t", acked, written, gone)
	}

	if p, ok := kernelProgress(s.TCPConn); !ok || p.Waiting != 0 {
		t.Errorf("%d bytes wait for a peer that is gone, known %t", p.Waiting, ok)
	}

	s, peer = socketPair(t)
	if _, err := s.Write(make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(peer, make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	_ = s.CloseWrite()
	testenv.Eventually(t, "all is acknowledged", func() bool { acked, gone := s.Acked(); return acked == 1000 && !gone })
	_ = s.Close()
	if acked, gone := s.Acked(); acked != 0 || !gone {
		t.Errorf("closed: %d, %t", acked, gone)
	}
}
