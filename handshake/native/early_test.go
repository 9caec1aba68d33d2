package native

import (
	"bytes"
	"net"
	"strings"
	"testing"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/lab/handshaketest"
	"github.com/sslgate/sslgate/internal/reason"
)

// Early data is skipped (RFC 8446, section 4.2.10), with and without
// HelloRetryRequest, and no more of it than is said.
func TestEarlyData(t *testing.T) {
	for name, c := range map[string]struct {
		retry   bool
		before  int             // bytes sent behind the first hello
		after   int             // behind the flight, in its epoch
		refused handshake.Alert // none: let through
	}{
		"some":                           {false, 100, 0, 0},
		"none":                           {false, 0, 0, 0},
		"less than a record has":         {false, 4, 0, 0},
		"less than a record has, late":   {false, 0, 4, 0},
		"some, with no PSK":              {false, 100, 0, 0},
		"some, with no PSK, retried":     {true, 100, 0, 0},
		"the most":                       {false, 16 << 10, 0, 0},
		"late":                           {false, 0, 5000, 0},
		"in two parts":                   {false, 8 << 10, 8 << 10, 0},
		"a byte too many":                {false, 16<<10 + 1, 0, handshake.AlertUnexpectedMessage},
		"too many in parts":              {false, 16 << 10, 100, handshake.AlertUnexpectedMessage},
		"some, retried":                  {true, 100, 0, 0},
		"the most, retried":              {true, 16 << 10, 0, 0},
		"too many, retried":              {true, 16<<10 + 1, 0, handshake.AlertUnexpectedMessage},
		"none, retried":                  {true, 0, 0, 0},
		"late, which a retry ends first": {true, 0, 100, handshake.AlertBadRecordMAC},
	} {
		t.Run(name, func(t *testing.T) {
			var got []byte
			alert := handshake.AlertNone
			o := newRig(params()).with(t, func(conn *net.TCPConn) {
				raw := newRaw(t, conn)
				h := early(raw.hi())
				if strings.Contains(name, "no PSK") { // section 4.2.10: it is ignored all the same
					h.Without(handshake.ExtPreSharedKey)
				}
				if c.retry {
					h.With(handshake.ExtKeyShare, []byte{0, 0})
				}
				raw.sendHello(h)
				raw.garbage(c.before)
				if c.retry {
					if c.refused == handshake.AlertUnexpectedMessage {
						raw.readRetry()
						alert = raw.end()
						return
					}
					raw.readRetry()
					raw.sendHello(h.With(handshake.ExtKeyShare, raw.share(raw.own.PublicKey().Bytes())).Without(handshake.ExtEarlyData))
				}
				raw.readFlight()
				raw.garbage(c.after)
				application := raw.master.Client(raw.transcript.Sum())
				raw.answer()
				raw.out.SetKeys(application)
				typ, content, err := raw.in.Next()
				switch {
				case err == nil && typ == handshake.RecordAppData:
					got = bytes.Clone(content)
				case err == nil && typ == handshake.RecordAlert:
					alert = handshake.Alert(content[1])
				}
				raw.send(handshake.RecordAlert, 1, 0)
				raw.end()
			})
			if c.refused != 0 {
				if o.err == nil || o.err.Reason != reason.HandshakeFailed || alert != c.refused {
					t.Errorf("%v, the client got %s", o.err, alert)
				}
				return
			}
			if o.err != nil || string(got) != "ok" || o.s.HelloRetry != c.retry || o.s.Resumed {
				t.Errorf("%v, the client got %q", o.err, got)
			}
		})
	}
}

// Early data may stand between messages and not inside one: the second hello ends it with its
// first byte (RFC 8446, sections 4.2.10 and 5.1).
func TestEarlyDataInsideAMessage(t *testing.T) {
	got := handshake.AlertNone
	o := newRig(params()).with(t, func(conn *net.TCPConn) {
		raw := newRaw(t, conn)
		h := early(raw.hi()).With(handshake.ExtKeyShare, []byte{0, 0})
		raw.sendHello(h)
		raw.garbage(20)
		raw.readRetry()
		second := h.With(handshake.ExtKeyShare, raw.share(raw.own.PublicKey().Bytes())).Without(handshake.ExtEarlyData).Bytes()
		raw.send(handshake.RecordHandshake, second[:16]...)
		raw.garbage(20)
		raw.send(handshake.RecordHandshake, second[16:]...)
		got = raw.end()
	})
	if o.err == nil || got != handshake.AlertUnexpectedMessage || o.err.Step != handshake.StepClientHello {
		t.Errorf("%v, the client got %s", o.err, got)
	}
}

// A second hello must be the first one again (RFC 8446, section 4.1.2).
func TestSecondHello(t *testing.T) {
	for name, c := range map[string]struct {
		change func(c *rawClient, h *handshaketest.Hello)
		alert  handshake.Alert
	}{
		"the same":       {func(*rawClient, *handshaketest.Hello) {}, handshake.AlertNone},
		"no share again": {func(_ *rawClient, h *handshaketest.Hello) { h.With(handshake.ExtKeyShare, []byte{0, 0}) }, handshake.AlertIllegalParameter},
		"another suite":  {func(_ *rawClient, h *handshaketest.Hello) { h.Suites = []uint16{0x1302, 0x1301} }, handshake.AlertIllegalParameter},
		"another name": {func(_ *rawClient, h *handshaketest.Hello) {
			h.With(handshake.ExtServerName, handshaketest.SNIData("other.example"))
		}, handshake.AlertIllegalParameter},
		"no name":            {func(_ *rawClient, h *handshaketest.Hello) { h.Without(handshake.ExtServerName) }, handshake.AlertIllegalParameter},
		"another session ID": {func(_ *rawClient, h *handshaketest.Hello) { h.SID = nil }, handshake.AlertIllegalParameter},
		"early data":         {func(_ *rawClient, h *handshaketest.Hello) { early(h) }, handshake.AlertIllegalParameter},
		"undecodable":        {func(_ *rawClient, h *handshaketest.Hello) { h.With(handshake.ExtKeyShare, []byte{0, 9}) }, handshake.AlertDecodeError},
	} {
		t.Run(name, func(t *testing.T) {
			got := handshake.AlertNone
			o := newRig(params()).with(t, func(conn *net.TCPConn) {
				raw := newRaw(t, conn)
				h := raw.hi().With(handshake.ExtKeyShare, []byte{0, 0})
				raw.sendHello(h)
				raw.readRetry()
				h.With(handshake.ExtKeyShare, raw.share(raw.own.PublicKey().Bytes()))
				c.change(raw, h)
				raw.sendHello(h)
				if c.alert != handshake.AlertNone {
					got = raw.end()
					return
				}
				raw.readFlight()
				raw.answer()
				raw.end()
			})
			switch {
			case c.alert == handshake.AlertNone && (o.err != nil || !o.s.HelloRetry):
				t.Error(o.err)
			case got != c.alert || c.alert != handshake.AlertNone && (o.err == nil || o.err.Step != handshake.StepClientHello || o.asked != 0):
				t.Errorf("%v, the client got %s", o.err, got)
			}
		})
	}
}
