package native

import (
	"context"
	"crypto/tls"
	"net"
	"testing"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/handshake/native/wire"
	"github.com/sslgate/sslgate/handshake/stdtls"
	"github.com/sslgate/sslgate/internal/lab/testenv"
)

// FuzzDestination makes a destination of any sequence of right and wrong messages. Whatever
// it does, the client ends with an error, or the destination has proven itself, in order;
// check is asked of a proven one alone; no certificate of ours was shown to another; and
// nothing is left lent.
//
// Each byte is a step: its low bits say which, the high ones how it is spoilt.
func FuzzDestination(f *testing.F) {
	f.Add([]byte{0, 2, 3, 4})          // all that is right
	f.Add([]byte{0, 1, 2, 3, 4})       // with a request
	f.Add([]byte{0, 3, 2, 4})          // out of order
	f.Add([]byte{0, 5, 1, 6, 2, 3, 4}) // with change_cipher_spec and user_canceled
	f.Add([]byte{0, 2 | 32, 3, 4})
	f.Add([]byte{0, 2, 3 | 64, 4})
	f.Add([]byte{0, 2, 3, 4 | 96, 7})
	plan := clientPlan(func(p *handshake.ClientParams) { p.Certificates = []tls.Certificate{alice()} })
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
			s, err := engine.Client(ctx, far, plan, func(p *handshake.Peer, _ *handshake.State) error {
				asked = true
				if p == nil || !p.Proven || p.Chain == nil {
					t.Error("asked about a destination that is not proven")
				}
				return nil
			}, l)
			if err == nil {
				_ = s.Conn.Close()
			}
			done <- outcome{s: s, err: handshake.AsError(err), l: l}
		}()
		right := driveClient(t, near, steps)
		o := testenv.Receive(t, "the client's end", done)
		if o.err == nil && !right || asked && !right {
			t.Errorf("%x: let through", steps)
		}
		if o.err != nil && (o.err.Reason == "" || o.err.Peer != nil && o.err.Peer.Proven || o.s != nil) {
			t.Errorf("%x: %+v", steps, o.err)
		}
		for _, e := range o.l.Entries() {
			if !right && e.From == handshake.SideUs && e.Message == handshake.MsgCertificate {
				t.Errorf("%x: our certificate is shown", steps)
			}
		}
		if n := engine.RecordBuffers(); n != 0 {
			t.Errorf("%x: %d bytes are lent", steps, n)
		}
	})
}

// driveClient is the destination. It says whether everything that proves it was right and
// in order.
func driveClient(t *testing.T, conn net.Conn, steps []byte) (right bool) {
	s := newRawServer(t, conn)
	s.readHello()
	s.sayHello(s.answer())
	ended := make(chan struct{})
	go func() { // whatever the client says is read, so that it can go on
		defer close(ended)
		s.end()
	}()
	defer func() {
		_ = conn.Close()
		<-ended
	}()
	var sent []byte // the messages that were right, in order
	for _, step := range steps {
		spoilt := step >> 5
		var msg []byte
		switch step & 7 {
		case 0:
			msg = s.marshal(&wire.EncryptedExtensions{})
		case 1:
			msg = s.marshal(&wire.CertificateRequest{Signatures: []uint16{uint16(tls.ECDSAWithP256AndSHA256)}})
		case 2:
			msg = s.certificate(gateway())
		case 3:
			msg = s.verify(gateway(), uint16(tls.ECDSAWithP256AndSHA256))
		case 4:
			msg = s.finished()
		case 5:
			_, _ = conn.Write([]byte{handshake.RecordCCS, 3, 3, 0, 1, 1})
			continue
		case 6:
			s.send(handshake.RecordAlert, 1, byte(handshake.AlertUserCanceled))
			continue
		case 7:
			s.send(handshake.RecordAppData, step)
			sent = append(sent, 0)
			continue
		}
		if spoilt > 0 {
			typ := msg[0]
			msg[(int(spoilt)*len(msg)/8)%len(msg)] ^= 1 << (spoilt - 1)
			if typ != handshake.TypeCertificateRequest { // one that asks for something else proves as much
				typ = 0
			}
			sent = append(sent, typ)
		} else {
			sent = append(sent, msg[0])
		}
		s.say(msg)
	}
	return begins(sent, 8, 11, 15, 20) || begins(sent, 8, 13, 11, 15, 20)
}

// begins says whether messages of those types came first.
func begins(sent []byte, types ...byte) bool {
	return len(sent) >= len(types) && string(sent[:len(types)]) == string(types)
}
