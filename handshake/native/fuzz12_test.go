package native

import (
	"context"
	"crypto/tls"
	"net"
	"testing"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/handshake/stdtls"
	"github.com/sslgate/sslgate/internal/lab/testenv"
)

// FuzzStates12 is FuzzStates for TLS 1.2. Each byte is a step: its low bits say which, the
// high ones how it is spoilt.
func FuzzStates12(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 4})       // all that is right
	f.Add([]byte{1, 0, 2, 3, 4})       // out of order
	f.Add([]byte{0, 1, 3, 4})          // without a proof
	f.Add([]byte{0, 1, 2, 4})          // without ChangeCipherSpec
	f.Add([]byte{0, 5, 1, 6, 2, 3, 4}) // with a warning, and a second hello
	f.Add([]byte{0, 3, 1, 2, 4})
	f.Add([]byte{0 | 32, 1, 2, 3, 4})
	f.Add([]byte{0, 1, 2 | 64, 3, 4})
	f.Add([]byte{0, 1, 2, 3, 4 | 96, 7})
	f.Add([]byte{0, 1, 2, 3, 4, 7, 6})
	cert := alice()
	f.Fuzz(func(t *testing.T, steps []byte) {
		if len(steps) > 24 {
			return
		}
		engine := New(stdtls.New())
		near, far := net.Pipe()
		ctx, cancel := context.WithTimeout(context.Background(), testenv.Patience())
		defer cancel()
		done := make(chan outcome, 1)
		asked := false
		go func() {
			defer func() { _ = far.Close() }()
			l := handshake.NewLedger(time.Now())
			s, err := engine.Server(ctx, far, nil, ticketed12(), func(p *handshake.Peer, _ *handshake.State) error {
				asked = true
				if p == nil || !p.Proven {
					t.Error("asked about a client that is not proven")
				}
				return nil
			}, l)
			if err == nil {
				s.Grant()
				_, _ = s.Conn.Read(make([]byte, 1)) // what comes behind the handshake is judged too
				_ = s.Conn.Close()
			}
			done <- outcome{s: s, err: handshake.AsError(err), l: l}
		}()
		right := drive12(t, near, steps, cert)
		o := testenv.Receive(t, "the server's end", done)
		if o.err == nil && !right || asked && !right {
			t.Errorf("%x: let through", steps)
		}
		if o.err != nil && (o.err.Reason == "" || o.err.Peer != nil && o.err.Peer.Proven) {
			t.Errorf("%x: %+v", steps, o.err)
		}
		if n := engine.RecordBuffers(); n != 0 {
			t.Errorf("%x: %d bytes are lent", steps, n)
		}
	})
}

// drive12 is the client. It says whether everything that proves it was right and in order.
func drive12(t *testing.T, conn net.Conn, steps []byte, cert tls.Certificate) (right bool) {
	c := newRaw12(t, conn)
	var sent []byte // what was right, in order
	c.sendHello(c.hi())
	c.readFlight()
	ended := make(chan struct{})
	go func() { // whatever the server says is read, so that it can go on
		defer close(ended)
		buffer := make([]byte, 1<<12)
		for {
			if _, err := conn.Read(buffer); err != nil {
				return
			}
		}
	}()
	defer func() {
		_ = conn.Close()
		<-ended
	}()
	changed := false
	for _, step := range steps {
		spoilt := step >> 5
		var msg []byte
		switch step & 7 {
		case 0:
			msg = c.certificate(cert)
		case 1:
			msg = c.keyExchange()
		case 2:
			msg = c.verify(cert, uint16(tls.ECDSAWithP256AndSHA256))
		case 3:
			c.send(handshake.RecordCCS, 1)
			if c.mine != nil && !changed {
				c.out.SetKeys12(c.mine)
				changed = true
			}
			sent = append(sent, handshake.RecordCCS)
			continue
		case 4:
			if c.master == nil {
				c.send(handshake.RecordHandshake, handshake.TypeFinished, 0, 0, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
				sent = append(sent, 0)
				continue
			}
			msg = c.finished()
		case 5:
			c.send(handshake.RecordAlert, 1, byte(handshake.AlertNoRenegotiation))
			continue
		case 6:
			c.send(handshake.RecordHandshake, c.hello.Raw...)
			sent = append(sent, 0)
			continue
		case 7:
			c.send(handshake.RecordAppData, step)
			sent = append(sent, 0)
			continue
		}
		if spoilt > 0 {
			msg[(int(spoilt)*len(msg)/8)%len(msg)] ^= 1 << (spoilt - 1)
			sent = append(sent, 0)
		} else {
			sent = append(sent, msg[0])
		}
		c.say(msg)
		if msg[0] == handshake.TypeClientKeyExchange && c.master == nil {
			c.agree()
		}
	}
	want := []byte{handshake.TypeCertificate, handshake.TypeClientKeyExchange, handshake.TypeCertificateVerify, handshake.RecordCCS, handshake.TypeFinished}
	return len(sent) >= len(want) && string(sent[:len(want)]) == string(want)
}
