package stdtls

import (
	"crypto/tls"
	"fmt"
	"testing"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/lab/handshaketest"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/reason"
)

// The verdict before the handshake is the one that crypto/tls comes to in it:
// every kind of client against every kind of profile.
func TestAcceptableIsWhatCryptoTLSFinds(t *testing.T) {
	f := handshaketest.Fixtures()
	rsa := testpki.Must(f.CA.Issue(testpki.Leaf{DNS: []string{"gateway.test"}, Key: testpki.RSA2048}))
	versions := [][2]uint16{{0x0303, 0x0303}, {0x0304, 0x0304}, {0x0303, 0x0304}, {0x0301, 0x0302}}
	groupSets := [][]uint16{{0x1d}, {0x17, 0x18}, {0x11ec}, {0x11ed, 0x19}, New().Capabilities().Groups}
	suiteSets := [][]uint16{{0xc02b}, {0xc030, 0xcca9}, {0x009c}, {0x009c, 0xc02f, 0xc02c}}
	var profiles []handshake.Profile
	for _, v := range versions[:3] {
		for _, g := range groupSets {
			for i, s := range suiteSets {
				if v[0] > tls.VersionTLS12 && i > 0 {
					break // TLS 1.3 alone has no use for them
				}
				profiles = append(profiles, handshake.Profile{MinVersion: v[0], MaxVersion: v[1], Groups: g, Suites12: s})
			}
		}
	}
	yes, no := 0, 0
	for _, v := range versions {
		for _, g := range groupSets {
			for i, s := range suiteSets {
				if i > 0 && (v[1] < tls.VersionTLS12 || v[0] > tls.VersionTLS12) {
					break
				}
				if v[1] < tls.VersionTLS12 {
					s = []uint16{0xc009} // crypto/tls offers no AEAD suite without TLS 1.2
				}
				//nolint:gosec // clients of every kind
				client := &tls.Config{RootCAs: f.CA.Pool(), ServerName: "gateway.test", MinVersion: v[0], MaxVersion: v[1], CipherSuites: s, CurvePreferences: curves(g)}
				in := handshaketest.RecordedHello(t, client)
				h, err := handshake.ParseClientHello(in[handshake.RecordHeader:])
				if err != nil {
					t.Fatal(err)
				}
				for _, p := range profiles {
					//nolint:gosec // the profile's versions
					server := &tls.Config{
						Certificates: []tls.Certificate{f.Gateway.TLS(), rsa.TLS()},
						MinVersion:   p.MinVersion, MaxVersion: p.MaxVersion, CipherSuites: p.Suites12, CurvePreferences: curves(p.Groups),
					}
					conn := &handshaketest.ScriptedConn{In: in}
					_ = tls.Server(conn, server).Handshake() // ends with io.EOF at the latest
					answer := conn.Out.Bytes()
					e := h.Acceptable(p)
					switch {
					case len(answer) == 0:
						t.Fatal("crypto/tls does not answer")
					case answer[0] == handshake.RecordHandshake && e != nil:
						t.Errorf("%s is refused, crypto/tls takes it: %v", describe(h, p), e)
					case answer[0] == handshake.RecordAlert && e == nil:
						t.Errorf("%s passes, crypto/tls answers %v", describe(h, p), handshake.Alert(answer[6]))
					case e == nil:
						yes++
					default:
						no++
						if (handshake.Alert(answer[6]) == handshake.AlertProtocolVersion) != (e.Reason == reason.ProtocolVersion) {
							t.Errorf("%s: %v, crypto/tls answers %v", describe(h, p), e, handshake.Alert(answer[6]))
						}
					}
				}
			}
		}
	}
	if yes < 100 || no < 100 {
		t.Errorf("%d accepted, %d refused: the cases are too few to mean something", yes, no)
	}
}

func curves(groups []uint16) []tls.CurveID {
	var out []tls.CurveID
	for _, g := range groups {
		out = append(out, tls.CurveID(g))
	}
	return out
}

func describe(h *handshake.ClientHello, p handshake.Profile) string {
	return fmt.Sprintf("%s (groups %x) against %s to %s, %x, %x", h.Summary(), h.Groups,
		handshake.VersionName(p.MinVersion), handshake.VersionName(p.MaxVersion), p.Suites12, p.Groups)
}
