package native

import (
	"bytes"
	"context"
	"crypto/cipher"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/handshake/native/keys"
	"github.com/sslgate/sslgate/handshake/native/record"
	"github.com/sslgate/sslgate/handshake/native/wire"
	"github.com/sslgate/sslgate/handshake/stdtls"
	"github.com/sslgate/sslgate/internal/lab/handshaketest"
)

// sealer makes records of one direction by itself: also such as no Writer makes.
type sealer struct {
	traffic *keys.Traffic // nil in TLS 1.2
	aead    cipher.AEAD
	iv      [keys.NonceSize]byte
	seq     uint64
	wire    []byte
}

// epoch is the first of application data, the same each time.
func epoch(byClient bool) *keys.Traffic {
	h := keys.NewEarly(keys.SuiteOf(tls.TLS_CHACHA20_POLY1305_SHA256), nil).Handshake([]byte("shared"))
	if byClient {
		return h.Client(make([]byte, 32))
	}
	return h.Server(make([]byte, 32))
}

// epoch12 are keys of TLS 1.2 without an explicit nonce.
func epoch12() (client, server *keys.Traffic12) {
	var random [32]byte
	return keys.NewMaster12(keys.Suite12Of(tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256), []byte("shared"), &random, &random).Expand(&random, &random)
}

func newSealer(v12, byClient bool) *sealer {
	s := &sealer{}
	if !v12 {
		s.traffic = epoch(byClient)
		s.aead, s.iv = s.traffic.Protection()
		return s
	}
	client, _ := epoch12()
	s.aead, s.iv, _ = client.Protection()
	return s
}

// add is one record.
func (s *sealer) add(typ byte, content []byte, padding int) {
	nonce := s.iv
	binary.BigEndian.PutUint64(nonce[4:], binary.BigEndian.Uint64(nonce[4:])^s.seq)
	n := len(content)
	inner, data := bytes.Clone(content), binary.BigEndian.AppendUint64(nil, s.seq)
	header := []byte{typ, 3, 3, 0, 0}
	if data = append(data, typ, 3, 3, byte(n>>8), byte(n)); s.traffic != nil {
		inner = append(append(inner, typ), make([]byte, padding)...)
		header[0], n = handshake.RecordAppData, len(inner)
	}
	binary.BigEndian.PutUint16(header[3:], uint16(n+s.aead.Overhead()))
	if s.traffic != nil {
		data = header
	}
	s.wire = append(s.wire, header...)
	s.wire = s.aead.Seal(s.wire, nonce[:], inner, data)
	s.seq++
}

// update goes on to the next epoch.
func (s *sealer) update() {
	s.traffic = s.traffic.Next()
	s.aead, s.iv = s.traffic.Protection()
	s.seq = 0
}

// said is what a peer has sent behind the handshake, and what must come of it.
type said struct {
	*sealer
	v12, destination bool
	updates, idle    int // in a row
	warnings         int

	data  []byte          // what is read
	ended bool            // nothing behind it counts
	close bool            // by close_notify
	alert handshake.Alert // by an alert of the peer's
	wants handshake.Alert // the answer to a breach
	asked bool            // an answer to a KeyUpdate is due
}

// breach ends it.
func (p *said) breach(a handshake.Alert) {
	if !p.ended {
		p.ended, p.wants = true, a
	}
}

// handshake is a record of handshake messages, whole ones but for the last.
func (p *said) handshake(content ...byte) {
	p.idle, p.warnings = 0, 0
	p.add(handshake.RecordHandshake, content, 0)
}

// message is one of those that carry no data.
func (p *said) message() {
	if p.updates++; p.updates > maxUpdates {
		p.breach(handshake.AlertUnexpectedMessage)
	}
}

// keyUpdate is a right one, in one record or in two.
func (p *said) keyUpdate(asks byte, cut int) {
	msg := []byte{handshake.TypeKeyUpdate, 0, 0, 1, asks}
	p.handshake(msg[:cut]...)
	if p.v12 {
		p.breach(handshake.AlertUnexpectedMessage)
		return
	}
	if cut < len(msg) {
		p.handshake(msg[cut:]...)
	}
	if p.message(); !p.ended {
		p.asked = p.asked || asks == 1
		p.update()
	}
}

// say makes one step.
func (p *said) say(step byte) {
	how := int(step >> 4)
	switch step & 15 {
	case 0, 1: // data, with padding
		content := bytes.Repeat([]byte{step}, 1+how*how*70)
		p.add(handshake.RecordAppData, content, how)
		p.data, p.updates, p.idle, p.warnings = append(p.data, content...), 0, 0, 0
	case 2: // nothing
		p.add(handshake.RecordAppData, nil, how)
		if p.idle++; p.idle > 16 {
			p.breach(handshake.AlertUnexpectedMessage)
		}
	case 3:
		p.keyUpdate(0, 5)
	case 4:
		p.keyUpdate(1, 5)
	case 5:
		p.keyUpdate(byte(how&1), 1+how%4)
	case 6:
		p.idle = 0
		p.add(handshake.RecordAlert, []byte{1, byte(handshake.AlertUserCanceled)}, how)
		if p.warnings++; p.warnings > maxWarnings {
			p.breach(handshake.AlertUnexpectedMessage)
		}
	case 7:
		p.add(handshake.RecordAlert, []byte{1, byte(handshake.AlertCloseNotify)}, how)
		p.ended, p.close = true, true
	case 8:
		p.alert = handshake.AlertUnknownCA
		p.add(handshake.RecordAlert, []byte{2, byte(p.alert)}, how)
		p.ended = true
	case 9: // a ticket: of a destination it is right
		msg, _ := (&wire.NewSessionTicket{Lifetime: 60, Ticket: make([]byte, 1+how*1000)}).Marshal()
		p.handshake(msg...)
		if p.v12 || !p.destination {
			p.breach(handshake.AlertUnexpectedMessage)
			return
		}
		p.message()
	case 10: // two in a record
		p.handshake(24, 0, 0, 1, 1, 24, 0, 0, 1, 1)
		p.breach(handshake.AlertUnexpectedMessage)
	case 11: // data inside a message
		p.handshake(24, 0)
		p.add(handshake.RecordAppData, []byte("x"), 0)
		p.breach(handshake.AlertUnexpectedMessage)
	case 12: // a hello
		p.handshake(handshake.TypeClientHello, 0, 0, 1, 0)
		if p.v12 {
			p.breach(handshake.AlertNoRenegotiation)
		}
		p.breach(handshake.AlertUnexpectedMessage)
	case 13: // nobody sealed it
		p.wire = append(append(p.wire, handshake.RecordAppData, 3, 3, 0, 40), make([]byte, 40)...)
		p.breach(handshake.AlertBadRecordMAC)
	case 14: // too long for any
		p.wire = append(p.wire, handshake.RecordAppData, 3, 3, 0x7f, 0xff)
		p.breach(handshake.AlertRecordOverflow)
	case 15: // in the clear
		p.wire = append(p.wire, handshake.RecordCCS, 3, 3, 0, 1, 1)
		if p.v12 {
			p.breach(handshake.AlertBadRecordMAC)
		}
		p.breach(handshake.AlertUnexpectedMessage)
	}
}

// session is one behind the handshake that reads what a peer has said.
func session(p *said, below *handshaketest.ScriptedConn) (*conn, *Engine, *handshake.Ledger) {
	e, l := New(stdtls.New()), handshake.NewLedger(time.Now())
	g := e.newLeg(context.Background(), below, &params().Params, nil, l, handshake.StepClientVerified)
	if p.v12 {
		client, server := epoch12()
		g.in.Begin12()
		g.inbox.v12 = true
		g.in.SetKeys12(client)
		g.out.SetKeys12(server)
	} else {
		g.waiting = epoch(!p.destination)
		g.in.SetKeys(g.waiting)
		g.out.SetKeys(epoch(p.destination))
	}
	g.in.Establish()
	c := newConn(&g)
	c.granted, c.tickets = true, p.destination
	return c, e, l
}

// FuzzSession makes a peer of any sequence of right and wrong records behind the handshake,
// cut into any segments. All data before the first wrong one is read, and nothing behind it;
// how it ended is told; a breach has its alert, once, and no close_notify behind it; a
// KeyUpdate is answered where one was asked for, before the next data; and nothing is lent.
func FuzzSession(f *testing.F) {
	for kind := range byte(3) {
		f.Add(kind, []byte{0x30, 4, 0x21, 0x53, 7, 0}, []byte{3, 200})
		f.Add(kind, []byte{4, 4, 0, 9, 0x39, 6, 0, 8}, []byte{})
		f.Add(kind, []byte{0x41, 10, 0}, []byte{1, 1, 1})
		f.Add(kind, []byte{1, 11}, []byte{})
		f.Add(kind, []byte{12, 13, 14, 15}, []byte{})
		f.Add(kind, bytes.Repeat([]byte{3}, 20), []byte{})
		f.Add(kind, bytes.Repeat([]byte{2}, 20), []byte{9})
		f.Add(kind, bytes.Repeat([]byte{6}, 6), []byte{})
	}
	f.Fuzz(func(t *testing.T, kind byte, steps, cuts []byte) {
		if len(steps) > 64 {
			return
		}
		p := &said{v12: kind%3 == 1, destination: kind%3 == 2, alert: handshake.AlertNone, wants: handshake.AlertNone}
		p.sealer = newSealer(p.v12, !p.destination)
		for _, step := range steps {
			if p.ended {
				p.add(handshake.RecordAppData, []byte("behind the end"), 0)
				break
			}
			p.say(step)
		}
		cuts = bytes.Clone(cuts) // they are the fuzzer's
		for i := range cuts {
			cuts[i] |= 1
		}
		below := &handshaketest.ScriptedConn{In: p.wire, Cuts: cuts}
		c, engine, l := session(p, below)
		data, err := io.ReadAll(c)
		if !bytes.Equal(data, p.data) {
			t.Errorf("%x: %d bytes were read of %d", steps, len(data), len(p.data))
		}
		switch {
		case p.close && err != nil, p.alert != handshake.AlertNone && !isAlert(p.alert)(err), p.wants != handshake.AlertNone && !notEnd(err),
			!p.ended && !errors.Is(err, handshake.ErrNoCloseNotify), p.wants == handshake.AlertNoRenegotiation && !errors.Is(err, handshake.ErrRenegotiation):
			t.Errorf("%x: read to %v", steps, err)
		}
		if _, err := c.Write([]byte("y")); (err == nil) != (p.wants == handshake.AlertNone) {
			t.Errorf("%x: written to %v", steps, err)
		}
		_ = c.Close()
		if n := engine.RecordBuffers(); n != 0 {
			t.Errorf("%x: %d bytes are lent", steps, n)
		}
		if l.AlertSent() != p.wants && p.wants != handshake.AlertNone {
			t.Errorf("%x: the ledger has %s", steps, l.AlertSent())
		}
		p.answered(t, below.Out.Bytes())
	})
}

// answered reads what the session has sent.
func (p *said) answered(t *testing.T, out []byte) {
	in := record.NewReader(&handshaketest.ScriptedConn{In: out}, &record.Buffers{})
	server := epoch(p.destination)
	if p.v12 {
		_, of12 := epoch12()
		in.Begin12()
		in.SetKeys12(of12)
	} else {
		in.SetKeys(server)
	}
	next := func(typ uint8, content ...byte) {
		if gotType, got, err := in.Next(); err != nil || gotType != typ || !bytes.Equal(got, content) {
			t.Errorf("type %d, %x, %v in place of type %d, %x", gotType, got, err, typ, content)
		}
	}
	if p.wants != handshake.AlertNone {
		next(handshake.RecordAlert, p.wants.Level(), byte(p.wants))
	} else {
		if p.asked {
			next(handshake.RecordHandshake, handshake.TypeKeyUpdate, 0, 0, 1, 0)
			in.SetKeys(server.Next())
		}
		next(handshake.RecordAppData, 'y')
		next(handshake.RecordAlert, 1, 0)
	}
	if _, _, err := in.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("something behind it: %v", err)
	}
}
