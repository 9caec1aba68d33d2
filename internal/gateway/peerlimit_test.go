package gateway

import (
	"crypto/tls"
	"io"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/peerlimit"
	"github.com/sslgate/sslgate/internal/reason"
)

// limits of one identity count what it has proven, whatever certificate of it, and nobody
// else's: a thief of its certificate uses nothing up.
func TestLimitsPerIdentity(t *testing.T) {
	for _, version := range versions {
		h := newHouse(t, mtls(), nil, func(c *Config) { c.Limits.PerIdentity = peerlimit.Limits{Flows: 2} })
		with := func(c *tls.Config) { c.MinVersion, c.MaxVersion = version, version }
		setLimits := func(l peerlimit.Limits) {
			s := settingsOf(h.gw)
			s.Limits.PerIdentity = l
			h.gw.Put(s)
		}
		alice := testpki.Leaf{CN: "alice", DNS: []string{"alice.example"}}
		first, renewed := testpki.Must(h.ca.Issue(alice)), testpki.Must(h.ca.Issue(alice)).TLS()
		own, bob := first.TLS(), testpki.Must(h.ca.Issue(testpki.Leaf{CN: "bob", DNS: []string{"bob.example"}})).TLS()
		thief := testpki.Thief(first, testpki.Must(testpki.NewKey(testpki.P256)))
		for range 5 {
			if err := h.tryWith(&thief, with); err == nil {
				t.Fatal("a thief got in")
			}
		}
		open := func(cert *tls.Certificate) *tls.Conn {
			c, err := h.tlsClient(server4, cert, with)
			if err != nil {
				t.Fatal(err)
			}
			echo(t, c)
			return c
		}
		a, b := open(&own), open(&renewed)
		if err := h.tryWith(&own, with); err == nil {
			t.Errorf("%x: a third flow got in", version)
		}
		h.wantsAlert(h.recordOf(reason.IdentityFlowLimit))
		if s := h.gw.Identities(); s.Known != 1 || s.Flows != 2 || s.Refused != 1 {
			t.Errorf("%x: %+v", version, s)
		}
		_ = open(&bob).Close()
		_ = a.Close()
		testenv.Eventually(t, "a flow less makes room", func() bool { return h.tryWith(&renewed, with) == nil })
		_ = b.Close()
		testenv.Eventually(t, "nobody holds anything", func() bool { return h.gw.Identities().Flows == 0 })

		setLimits(peerlimit.Limits{Handshakes: 1})
		refused := 0
		for range 20 {
			if h.tryWith(&own, with) != nil {
				refused++
			}
		}
		if refused == 0 {
			t.Errorf("%x: twenty handshakes at once", version)
		}
		h.wantsAlert(h.recordOf(reason.IdentityHandshakeLimit))
		if err := h.tryWith(&bob, with); err != nil {
			t.Errorf("%x: another identity: %v", version, err)
		}

		setLimits(peerlimit.Limits{Bytes: 256 << 10})
		c := open(&bob)
		began := time.Now()
		for range 8 { // 4 KiB each, and back
			if _, err := c.Write(make([]byte, 4<<10)); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(c, make([]byte, 4<<10)); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(began); took < 80*time.Millisecond {
			t.Errorf("%x: 64 KiB at 256 KiB/s took %s", version, took)
		}
		_ = c.Close()
		h.stop()
	}
}
