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

// FuzzStates makes a client of any sequence of right and wrong steps. Whatever it does,
// the server ends with an error, or the client has proven itself, in order; check is
// asked of a proven client alone; and nothing is left lent.
//
// Each byte is a step: its low bits say which, the high ones how it is spoilt.
func FuzzStates(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 4})       // all that is right
	f.Add([]byte{0, 1, 3, 2, 4})       // out of order
	f.Add([]byte{0, 1, 5, 2, 6, 3, 4}) // with change_cipher_spec and user_canceled
	f.Add([]byte{0, 1, 2 | 32, 3, 4})
	f.Add([]byte{0, 1, 2, 3 | 64, 4})
	f.Add([]byte{0, 1, 2, 3, 4 | 96, 7})
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
			s, err := engine.Server(ctx, far, nil, params(), func(p *handshake.Peer, _ *handshake.State) error {
				asked = true
				if p == nil || !p.Proven {
					t.Error("asked about a client that is not proven")
				}
				return nil
			}, l)
			if err == nil {
				_ = s.Conn.Close()
			}
			done <- outcome{s: s, err: handshake.AsError(err), l: l}
		}()
		right := drive(t, near, steps, cert)
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

// drive is the client. It says whether everything that proves it was right and in order.
func drive(t *testing.T, conn net.Conn, steps []byte, cert tls.Certificate) (right bool) {
	c := newRaw(t, conn)
	var sent []byte // the messages that were right, in order
	c.sendHello(c.hi())
	c.readFlight()
	ended := make(chan struct{})
	go func() { // whatever the server says is read, so that it can go on
		defer close(ended)
		c.end()
	}()
	defer func() {
		_ = conn.Close()
		<-ended
	}()
	for _, step := range steps {
		spoilt := step >> 5
		var msg []byte
		switch step & 7 {
		case 0, 1:
			continue
		case 2:
			msg = c.certificate(cert)
		case 3:
			msg = c.verify(cert, uint16(tls.ECDSAWithP256AndSHA256))
		case 4:
			msg = c.finished()
		case 5:
			_, _ = conn.Write([]byte{handshake.RecordCCS, 3, 3, 0, 1, 1})
			continue
		case 6:
			c.send(handshake.RecordAlert, 1, byte(handshake.AlertUserCanceled))
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
	}
	return len(sent) >= 3 && string(sent[:3]) == string([]byte{handshake.TypeCertificate, handshake.TypeCertificateVerify, handshake.TypeFinished})
}
