package native

import (
	"bytes"
	"crypto/tls"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/lab/handshaketest"
	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/work"
)

// manyNames are names of CAs of 60 KiB together.
func manyNames(p *handshake.ServerParams) {
	for i := range 500 {
		name := append([]byte{0x30, 120}, bytes.Repeat([]byte{byte(i), byte(i >> 8)}, 60)...)
		p.AcceptableCAs = append(p.AcceptableCAs, name)
	}
}

// While a client of TLS 1.2 has not answered, little of the flight is kept, however many
// CAs it named: no copy of the names.
func TestKeepsLittle12(t *testing.T) {
	for name, change := range map[string]func(*handshake.ServerParams){"few names": nil, "many names": manyNames} {
		p := params12()
		if change != nil {
			change(p)
		}
		near, far := testenv.TCPPair(t)
		raw := newRaw12(t, near)
		raw.sendHello(raw.hi())
		hello, conn, err := handshake.Peek(t.Context(), far, 0)
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan bool)
		go func() { defer close(done); raw.readFlight() }()
		s := New(nil).newServer(t.Context(), conn, hello, p, nil, handshake.NewLedger(time.Now()))
		if refused := s.prepare(); refused != nil {
			t.Fatal(refused)
		}
		st := state(expectHello{})
		for {
			if e, ok := st.(expectCertificate12); ok {
				kept := 0
				for _, part := range e.messages.parts {
					kept += len(part.bytes)
				}
				if whole, err := e.messages.all(); kept > 2<<10 || err != nil || change != nil && len(whole) < 60<<10 {
					t.Errorf("%s: %d bytes are kept, %d are signed, %v", name, kept, len(whole), err)
				}
				break
			}
			if st, err = st.step(s); err != nil {
				t.Fatal(err)
			}
		}
		s.in.Release()
		<-done
	}
}

// What a client signs is all that was sent, the names of many CAs too, with a hash and
// without one (Ed25519).
func TestSignedMessages12(t *testing.T) {
	for _, kind := range []testpki.KeyKind{testpki.P384, testpki.RSA2048, testpki.Ed25519} {
		o, _, err := newRig(params12(manyNames)).withGo(t, config12(issued(t, kind, "bob")))
		if err != nil || o.err != nil || !o.s.Peer.Proven || len(o.l.CANames()) == 0 {
			t.Errorf("%s: %v, %v", kind, err, o.err)
		}
	}
}

// A client of TLS 1.2 is charged for the half of the key exchange that was computed for it.
func TestChargedWhenMade12(t *testing.T) {
	spent := func(goesOn bool) work.Units {
		o := newRig(params12(func(p *handshake.ServerParams) {
			p.ClientAuth, p.Profile.Groups = handshake.ClientAuthNone, []uint16{uint16(tls.CurveP521)}
		})).with(t, func(conn *net.TCPConn) {
			raw := newRaw12(t, conn)
			raw.sendHello(raw.hi().With(handshake.ExtSupportedGroups, handshaketest.List16(uint16(tls.CurveP521))))
			raw.readFlight()
			if goesOn {
				raw.say(raw.keyExchange())
			}
		})
		if o.err == nil {
			t.Fatal("half a handshake was taken")
		}
		return o.l.Spent()
	}
	exchange := work.KeyExchange(tls.CurveP521, nil)
	signed := work.Sign(handshake.KeyOf(&params12().Certificates[0]))
	const records = 16 // what reading a few costs
	if got, want := spent(false), exchange/2+signed; got < want || got > want+records {
		t.Errorf("the flight alone costs %d, not %d", got, want)
	}
	if got, want := spent(true), exchange+signed; got < want || got > want+records {
		t.Errorf("with the client's part it costs %d, not %d", got, want)
	}
}

// What waits for the grant is in the ledger when it has left: our end of TLS 1.2, and a
// ticket. Somebody who is refused before gets none of it.
func TestLedgerUntilGrant(t *testing.T) {
	for name, c := range map[string]struct {
		plan   *handshake.ServerParams
		config func(...tls.Certificate) *tls.Config
		before handshake.Step
		after  string // what is noted then
	}{
		"TLS 1.2":          {ticketed12(), config12, handshake.StepClientFinished, "NewSessionTicket ChangeCipherSpec Finished "},
		"TLS 1.2, brief":   {ticketed12(func(p *handshake.ServerParams) { p.Ledger = handshake.LedgerSteps }), config12, handshake.StepClientFinished, ""},
		"TLS 1.3":          {ticketed(), clientConfig, handshake.StepApplicationData, "NewSessionTicket"},
		"TLS 1.3, brief":   {ticketed(func(p *handshake.ServerParams) { p.Ledger = handshake.LedgerSteps }), clientConfig, handshake.StepApplicationData, ""},
		"TLS 1.2, no more": {params12(), config12, handshake.StepClientFinished, "ChangeCipherSpec Finished "},
	} {
		for _, granted := range []bool{true, false} {
			r := newRig(c.plan)
			var before, after int
			var reached [2]handshake.Step
			l := handshake.NewLedger(time.Now())
			r.after = func(s *handshake.Session) {
				l = s.Conn.(*conn).ledger
				before, reached[0] = len(l.Entries()), l.Reached()
				if granted {
					s.Grant()
				}
				after, reached[1] = len(l.Entries()), l.Reached()
				_ = s.Conn.Close()
			}
			config := c.config(alice())
			config.ClientSessionCache = tls.NewLRUClientSessionCache(1)
			r.with(t, func(conn *net.TCPConn) { _, _ = goClient(conn, config) })
			var noted []string
			for _, e := range l.Entries()[before:after] {
				noted = append(noted, e.Message)
			}
			want, then := c.before, ""
			if granted {
				want, then = handshake.StepApplicationData, c.after
			}
			if got := strings.Join(noted, " "); reached[0] != c.before || reached[1] != want || got != then {
				t.Errorf("%s, granted %v: reached %v and then %v, noted %q", name, granted, reached[0], reached[1], got)
			}
		}
	}
}
