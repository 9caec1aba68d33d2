package native

import (
	"net"
	"testing"

	"github.com/sslgate/sslgate/handshake"
)

// What others got wrong, by number: docs/engine.md has the table.

// Each ticket has an age_add of its own (RFC 8446, section 4.6.1): with one for all, whoever
// reads along could tell which connections are one client's (CVE-2022-30629).
func TestTicketAgeAdd(t *testing.T) {
	seen := map[uint32]bool{}
	r := newRig(ticketed())
	for range 8 {
		seen[ticketOf(t, r).AgeAdd] = true
	}
	if len(seen) < 7 {
		t.Errorf("%d different ones in 8 tickets", len(seen))
	}
}

// A close_notify ends a handshake wherever it comes: behind the hello, behind our flight, in
// the middle of the client's (CVE-2024-32650).
func TestCloseNotifyInHandshake(t *testing.T) {
	notify := func(c net.Conn) { _, _ = c.Write([]byte{handshake.RecordAlert, 3, 3, 0, 2, 1, 0}) }
	for name, client := range map[string]func(conn *net.TCPConn){
		"behind the hello": func(conn *net.TCPConn) {
			c := newRaw(t, conn)
			c.sendHello(c.hi())
			notify(conn)
		},
		"sealed": func(conn *net.TCPConn) {
			c := newRaw(t, conn)
			c.sendHello(c.hi())
			c.readFlight()
			c.send(handshake.RecordAlert, 1, 0)
		},
		"behind the certificate": func(conn *net.TCPConn) {
			c := newRaw(t, conn)
			c.sendHello(c.hi())
			c.readFlight()
			c.say(c.certificate(alice()))
			c.send(handshake.RecordAlert, 1, 0)
		},
	} {
		if o := newRig(params()).with(t, client); o.err == nil || o.err.Received != handshake.AlertCloseNotify || o.asked != 0 {
			t.Errorf("%s: %+v", name, o.err)
		}
	}
	for name, behind := range map[string]bool{"TLS 1.2, behind the hello": false, "TLS 1.2, behind the flight": true} {
		o := newRig(params12()).with(t, func(conn *net.TCPConn) {
			c := newRaw12(t, conn)
			c.sendHello(c.hi())
			if behind {
				c.readFlight()
			}
			notify(conn)
		})
		if o.err == nil || o.err.Received != handshake.AlertCloseNotify || o.asked != 0 {
			t.Errorf("%s: %+v", name, o.err)
		}
	}
}
