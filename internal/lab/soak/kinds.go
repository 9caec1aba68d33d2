package soak

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"time"
)

// kind is a sort of client. An error of talk is a problem; for a client that must be refused,
// talk returns nil if it was.
type kind struct {
	name string
	port uint16
	// outcomes that the audit record may have; see want.
	outcomes []string
	talk     func(t *try, raw net.Conn) error
	// unconnected says that the connection must be refused at its SYN.
	unconnected bool
	server      int // which address of the server it goes to
}

// group is a number of clients that take turns at some kinds.
type group struct {
	name    string
	clients int
	pause   time.Duration // between two connections of a client
	kinds   []kind
}

const clean = "verified/closed"

func one(outcome ...string) []string { return outcome }

// groups is the mixture.
func groups() []group {
	return []group{
		{"bulk", 2, 0, bulk()},
		{"short", 4, 10 * time.Millisecond, short()},
		{"slow", 6, 100 * time.Millisecond, slow()},
		{"refused", 2, 20 * time.Millisecond, refused()},
		{"revoked", 1, 50 * time.Millisecond, revoked()},
		{"broken", 2, 20 * time.Millisecond, broken()},
		{"silent", 3, 200 * time.Millisecond, silent()},
		{"restarted", 2, 20 * time.Millisecond, restarted()},
	}
}

func bulk() (all []kind) {
	for _, op := range []struct {
		name string
		op   byte
	}{{"up", opUp}, {"down", opDown}, {"both", opBoth}} {
		for _, p := range []struct {
			name    string
			port    uint16
			outcome string
		}{{"", portPay, clean}, {" re-encrypted", portRetls, clean}, {" bypassed", portBypass, "bypassed/closed"}} {
			all = append(all, kind{name: "bulk " + op.name + p.name, port: p.port, outcomes: one(p.outcome), talk: func(t *try, raw net.Conn) error {
				if p.port != portBypass {
					if err := t.speak(raw, nil); err != nil {
						return fmt.Errorf("handshake: %w", err)
					}
				}
				return t.whole(op.op, t.bulk/8+rand.Uint64N(t.bulk*7/8))
			}})
		}
	}
	return all
}

func short() []kind {
	talk := func(change func(*try, *tls.Config)) func(*try, net.Conn) error {
		return func(t *try, raw net.Conn) error {
			if err := t.speak(raw, func(c *tls.Config) { change(t, c) }); err != nil {
				return fmt.Errorf("handshake: %w", err)
			}
			return t.whole(opEcho, 1+rand.Uint64N(4<<10))
		}
	}
	resumes := talk(func(t *try, c *tls.Config) { c.ClientSessionCache = t.sessions })
	return []kind{
		{name: "short", port: portPay, outcomes: one(clean), talk: talk(func(*try, *tls.Config) {})},
		{name: "short resumed", port: portPay, outcomes: one(clean), talk: resumes},
		{name: "short re-encrypted", port: portRetls, outcomes: one(clean), talk: resumes},
		{name: "short bypassed", port: portBypass, outcomes: one("bypassed/closed"), talk: func(t *try, _ net.Conn) error {
			return t.whole(opEcho, 1+rand.Uint64N(4<<10))
		}},
	}
}

func slow() []kind {
	return []kind{
		{name: "slow talker", port: portPay, outcomes: one(clean), talk: func(t *try, raw net.Conn) error {
			if err := t.speak(raw, nil); err != nil {
				return fmt.Errorf("handshake: %w", err)
			}
			if err := t.ask(opEcho, 1); err != nil {
				return err
			}
			for range 10 {
				time.Sleep(time.Duration(rand.IntN(400)) * time.Millisecond)
				if err := t.echo(1 + rand.Uint64N(64)); err != nil {
					return err
				}
			}
			return t.end()
		}},
		{name: "slow reader", port: portPay, outcomes: one(clean), talk: func(t *try, raw net.Conn) error {
			if err := t.speak(raw, nil); err != nil {
				return fmt.Errorf("handshake: %w", err)
			}
			t.c.Conn = &lazy{Conn: t.tls, left: 40, pause: 50 * time.Millisecond}
			return t.whole(opDown, 2<<20)
		}},
		{name: "slow bytes of a hello", port: portPay, outcomes: one(clean), talk: func(t *try, raw net.Conn) error {
			if err := t.speak(&dribble{Conn: raw, left: 20, pause: 20 * time.Millisecond}, nil); err != nil {
				return fmt.Errorf("handshake: %w", err)
			}
			return t.whole(opEcho, 100)
		}},
	}
}

// lazy waits before its first reads.
type lazy struct {
	net.Conn
	left  int
	pause time.Duration
}

func (l *lazy) Read(p []byte) (int, error) {
	if l.left > 0 {
		l.left--
		time.Sleep(l.pause)
	}
	return l.Conn.Read(p)
}

// dribble sends its first bytes one by one.
type dribble struct {
	net.Conn
	left  int
	pause time.Duration
}

func (d *dribble) Write(p []byte) (n int, err error) {
	for n < len(p) && d.left > 0 {
		k, err := d.Conn.Write(p[n : n+1])
		n += k
		if err != nil {
			return n, err
		}
		d.left--
		time.Sleep(d.pause)
	}
	k, err := d.Conn.Write(p[n:])
	return n + k, err
}

func refused() []kind {
	bad := func(name, outcome string, change func(*try, *tls.Config)) kind {
		return kind{name: "refused, " + name, port: portPay, outcomes: one(outcome), talk: func(t *try, raw net.Conn) error {
			return t.refused(raw, func(c *tls.Config) { change(t, c) })
		}}
	}
	return []kind{
		bad("no certificate", "no_certificate", func(_ *try, c *tls.Config) { c.Certificates = nil }),
		bad("another CA", "unknown_ca", func(t *try, c *tls.Config) { show(c, &t.stranger) }),
		bad("expired", "certificate_expired", func(t *try, c *tls.Config) { show(c, &t.expired) }),
		bad("not allowed", "identity_not_allowed", func(t *try, c *tls.Config) { show(c, &t.bob) }),
		bad("stolen certificate", "no_proof_of_possession", func(t *try, c *tls.Config) { show(c, &t.thief) }),
		bad("unknown name", "sni_unknown", func(_ *try, c *tls.Config) { c.ServerName = "other.soak.test" }),
		bad("TLS 1.1", "protocol_version", func(_ *try, c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 }),
		bad("distrusts the gateway", "client_refused_server", func(t *try, c *tls.Config) { c.RootCAs = t.otherCA.Pool() }),
		{name: "refused, plain HTTP", port: portPay, outcomes: one("plain_http"), talk: func(t *try, _ net.Conn) error {
			return t.garbage("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		}},
		{name: "refused, not TLS", port: portPay, outcomes: one("not_tls"), talk: func(t *try, _ net.Conn) error {
			return t.garbage("SSH-2.0-soak\r\n")
		}},
		{name: "refused, denied port", port: portDenied, outcomes: one("rule_deny"), unconnected: true},
		{name: "refused, no rule", port: portNoRule, outcomes: one("no_rule"), unconnected: true},
	}
}

// show presents a certificate whatever authorities were asked for.
func show(c *tls.Config, cert *tls.Certificate) {
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil }
}

// garbage sends a text and reads until the other side ends it.
func (t *try) garbage(text string) error {
	if _, err := io.WriteString(t.c, text); err != nil {
		return nil //nolint:nilerr // refused already
	}
	if n, err := io.Copy(io.Discard, io.LimitReader(t.c, 4<<10)); n > 1<<10 {
		return fmt.Errorf("%d bytes came back (%w)", n, err)
	}
	return nil
}

// revoked is the client whose revocation list is replaced. The expected result is known only once
// a list has been in place for a while.
func revoked() []kind {
	return []kind{{name: "on the CRL and off it", port: portPay, talk: func(t *try, raw net.Conn) error {
		before := t.crlNow()
		err := t.speak(raw, func(c *tls.Config) { show(c, &t.mallory) })
		if err == nil {
			err = t.whole(opEcho, 100)
		}
		after := t.crlNow()
		settled := before == after && t.want.begun.Sub(before.since) > crlNoticed
		switch {
		case !settled:
			t.want.outcomes = one(clean, "certificate_revoked", "verified/client_certificate_revoked")
			return nil
		case before.revoked:
			t.want.outcomes = one("certificate_revoked")
			if err == nil {
				return errors.New("served, and is revoked")
			}
			return nil
		}
		t.want.outcomes = one(clean)
		return err
	}}}
}

// crlNoticed is how long a gateway may take to notice a new list: it checks every second.
const crlNoticed = 5 * time.Second

func broken() []kind {
	return []kind{
		{name: "broken, closes at once", port: portPay, outcomes: one("hello_eof"), talk: func(t *try, _ net.Conn) error {
			return t.closeWrite()
		}},
		{name: "broken, resets at once", port: portPay, outcomes: one("hello_reset"), talk: func(_ *try, raw net.Conn) error {
			reset(raw)
			return nil
		}},
		{name: "broken, half a hello", port: portPay, outcomes: one("hello_eof"), talk: func(t *try, _ net.Conn) error {
			if _, err := t.c.Write([]byte{22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3}); err != nil {
				return err
			}
			return t.closeWrite()
		}},
		{name: "broken, resets while data flows", port: portPay, outcomes: one("verified/client_reset"), talk: func(t *try, raw net.Conn) error {
			if err := t.speak(raw, nil); err != nil {
				return fmt.Errorf("handshake: %w", err)
			}
			err := t.ask(opEcho, 100)
			reset(raw)
			return err
		}},
		{name: "broken, resets a download", port: portPay, outcomes: one("verified/client_reset"), talk: func(t *try, raw net.Conn) error {
			return t.abandon(raw, func() { reset(raw) })
		}},
		{name: "broken, no close_notify", port: portPay, outcomes: one("verified/closed_without_notify"), talk: func(t *try, raw net.Conn) error {
			if err := t.speak(raw, nil); err != nil {
				return fmt.Errorf("handshake: %w", err)
			}
			err := t.ask(opEcho, 100)
			_ = raw.Close()
			return err
		}},
		{name: "broken, bypassed and reset", port: portBypass, outcomes: one("bypassed/client_reset"), talk: func(t *try, raw net.Conn) error {
			err := t.ask(opEcho, 100)
			reset(raw)
			return err
		}},
	}
}

// abandon begins a download and drops it.
func (t *try) abandon(raw net.Conn, drop func()) error {
	if err := t.speak(raw, nil); err != nil {
		return fmt.Errorf("handshake: %w", err)
	}
	if _, err := t.c.Write(request{op: opDown, id: t.want.id, n: 1 << 20}.bytes()); err != nil {
		return err
	}
	_, err := io.ReadFull(t.c, make([]byte, 1000))
	drop()
	return err
}

func silent() []kind {
	return []kind{
		{name: "silent", port: portPay, outcomes: one("hello_timeout"), talk: func(t *try, _ net.Conn) error {
			_, _ = t.c.Read(make([]byte, 1)) // until it is ended
			return nil
		}},
		{name: "silent in the handshake", port: portPay, outcomes: one("handshake_timeout"), talk: func(t *try, raw net.Conn) error {
			// In TLS 1.3 a client's handshake ends before it has the gateway's answer.
			err := t.speak(&mute{Conn: raw, after: 1}, func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 })
			if err == nil {
				return errors.New("a handshake with half its messages was completed")
			}
			return nil
		}},
	}
}

// mute discards what is written after the first after writes.
type mute struct {
	net.Conn
	after int
}

func (m *mute) Write(p []byte) (int, error) {
	if m.after == 0 {
		return len(p), nil
	}
	m.after--
	return m.Conn.Write(p)
}

// restarted are the clients of an origin that is killed and restarted all the time. They are
// served, refused or cut off, but no byte may be wrong.
func restarted() []kind {
	all := one(clean, "destination_refused", "verified/destination_reset")
	talk := func(op byte, n uint64) func(*try, net.Conn) error {
		return func(t *try, raw net.Conn) error {
			err := t.speak(raw, nil)
			if err == nil {
				err = t.whole(op, n)
			}
			if errors.Is(err, errCorrupt) {
				return err
			}
			return nil
		}
	}
	return []kind{
		{name: "restarted origin, short", port: portFlaky, outcomes: all, talk: talk(opEcho, 100)},
		{name: "restarted origin, bulk", port: portFlaky, outcomes: all, talk: talk(opBoth, 1<<20)},
	}
}
