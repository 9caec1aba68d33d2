package stdtls

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/lab/handshaketest"
	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/ticket"
)

// However small limits.hello is and however large the client's chain, whoever was let in once
// is let in again and again: a ticket that would make the hello too large is not given.
func TestTicketsFitTheHello(t *testing.T) {
	f := handshaketest.Fixtures()
	resumed := map[bool]int{}
	for _, names := range []int{1, 40, 120} { // certificates of about 0.5, 1.7 and 4 KB
		l := testpki.Leaf{}
		for i := range names {
			l.DNS = append(l.DNS, fmt.Sprintf("a-rather-long-host-name-%03d", i))
		}
		cert := testpki.Must(f.CA.Issue(l))
		for _, version := range bothVersions {
			for _, limit := range []int{2 << 10, 3 << 10, 4 << 10, 6 << 10, 8 << 10, 64 << 10} {
				p := ticketParams(ticket.NewKeys(0), func(p *handshake.ServerParams) { p.Ticket.Hello = limit })
				r := newResumer(version, cert)
				for n := range 4 {
					again := r.limited(t, p, limit)
					if n > 0 {
						resumed[again]++
					}
					if n > 0 && limit == 64<<10 && !again {
						t.Errorf("%d names, %s: no resumption though there is room", names, handshake.VersionName(version))
					}
				}
			}
		}
	}
	if resumed[true] == 0 || resumed[false] == 0 {
		t.Errorf("resumed: %v, want some of both", resumed)
	}
}

// limited connects with hellos of at most limit bytes and says whether the session was resumed.
func (r *resumer) limited(t *testing.T, p *handshake.ServerParams, limit int) bool {
	t.Helper()
	cc, sc := testenv.TCPPair(t)
	ctx := testenv.Context(t)
	done := make(chan error, 1)
	go func() {
		defer sc.Close()
		l := handshake.NewLedger(time.Now())
		hello, conn, err := handshake.Peek(ctx, sc, limit)
		if err != nil {
			done <- err
			return
		}
		s, err := New().Server(ctx, conn, hello, p, func(*handshake.Peer, *handshake.State) error { return nil }, l)
		if err != nil {
			done <- err
			return
		}
		s.Grant()
		_, err = io.WriteString(s.Conn, "ok")
		_ = s.Conn.Close()
		done <- err
	}()
	var cs tls.ConnectionState
	err := goClient(r.config, &cs)(net.Conn(cc))
	_ = cc.Close()
	if served := <-done; err != nil || served != nil {
		t.Fatalf("at most %d bytes: client %v, server %v", limit, err, served)
	}
	return cs.DidResume
}
