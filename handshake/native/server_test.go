package native

import (
	"crypto/tls"
	"fmt"
	"testing"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/handshake/native/keys"
)

func TestAgreement(t *testing.T) {
	for _, suite := range handshake.Suites13() {
		for _, group := range keys.Groups() {
			t.Run(fmt.Sprintf("%s %s", handshake.SuiteName(suite), handshake.GroupName(group)), func(t *testing.T) {
				p := params(func(p *handshake.ServerParams) {
					p.Profile.Suites13, p.Profile.Groups, p.ALPN = []uint16{suite}, []uint16{group}, []string{"h2", "http/1.1"}
				})
				config := clientConfig(alice())
				config.NextProtos = []string{"http/1.1", "h2"}
				config.CurvePreferences = []tls.CurveID{tls.CurveID(group)}
				o, cs, err := newRig(p).withGo(t, config)
				switch {
				case err != nil || o.err != nil:
					t.Fatal(err, o.err)
				case cs.CipherSuite != suite || cs.CurveID != tls.CurveID(group) || cs.NegotiatedProtocol != "h2" || cs.Version != tls.VersionTLS13:
					t.Errorf("the client has %+v", cs)
				case o.s.Suite != suite || o.s.Group != group || o.s.ALPN != "h2" || o.s.ServerName != "gateway.test" || o.s.HelloRetry || o.s.Resumed:
					t.Errorf("the server has %+v", o.s.State)
				case !o.s.Peer.Proven || o.s.Peer.Authority != "staff" || o.s.Peer.SignatureScheme != uint16(tls.ECDSAWithP256AndSHA256):
					t.Errorf("the client is %+v", o.s.Peer)
				case o.asked != 1 || !o.proven:
					t.Errorf("asked %d times, proven %v", o.asked, o.proven)
				case o.l.Reached() != handshake.StepApplicationData || o.l.AlertSent() != handshake.AlertNone:
					t.Errorf("reached %v, sent %s", o.l.Reached(), o.l.AlertSent())
				}
			})
		}
	}
}
