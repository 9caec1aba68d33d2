package gateway

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"slices"
	"testing"

	"github.com/sslgate/sslgate/internal/acmeclient"
	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/reason"
	"github.com/sslgate/sslgate/policy"
)

// A CA's validator is answered while it is awaited, also where no rule would let its SYN pass,
// and nothing of it is dialled. Nobody else gets any further by that: a client that the rules
// refuse is refused for the same reason as ever.
func TestChallengeComesBeforeTheRules(t *testing.T) {
	refusing, terminating := mtls(), mtls()
	refusing.Rules[0].From = []string{"198.51.100.0/24"}
	for name, spec := range map[string]policy.Spec{"refused at the SYN": refusing, "terminated": terminating} {
		for _, version := range versions {
			challenges := &acmeclient.Challenges{}
			h := newHouse(t, spec, nil, func(c *Config) { c.Challenges = challenges })
			proof := testpki.Must(h.ca.Issue(testpki.Leaf{DNS: []string{"pay.example"}})).TLS()
			seen := 0
			// try says what came of a connection with these protocols, and the reason in its record.
			try := func(sni string, protocols ...string) (shown []byte, why string) {
				t.Helper()
				raw, err := h.client.Dial(testenv.Context(t), server4)
				if err == nil {
					_ = raw.SetDeadline(testenv.Deadline())
					conn := tls.Client(raw, &tls.Config{InsecureSkipVerify: true, ServerName: sni, NextProtos: protocols, MinVersion: version, MaxVersion: version})
					if err = conn.Handshake(); err == nil {
						if s := conn.ConnectionState(); s.NegotiatedProtocol == validatorProtocol {
							shown = s.PeerCertificates[0].Raw
						}
						if _, err := conn.Read(make([]byte, 1)); shown != nil && !errors.Is(err, io.EOF) {
							t.Errorf("%s: after the proof: %v", name, err)
						}
					}
					_ = raw.Close()
				}
				seen++
				return shown, h.record(seen).str("reason")
			}
			_, before := try("pay.example", validatorProtocol)
			_, plain := try("pay.example")
			over := challenges.Await("pay.example", &proof)
			for _, who := range []struct {
				sni       string
				protocols []string
			}{
				{"pay.example", nil},
				{"pay.example", []string{"h2"}},
				{"pay.example", []string{validatorProtocol, "h2"}},
				{"other.example", []string{validatorProtocol}},
			} {
				shown, why := try(who.sni, who.protocols...)
				if shown != nil || why == string(reason.ACMEChallenge) {
					t.Errorf("%s: %v got the proof: %s", name, who, why)
				}
				if slices.Equal(who.protocols, nil) && why != plain {
					t.Errorf("%s: %v: %s, and without a challenge %s", name, who, why, plain)
				}
			}
			if shown, why := try("PAY.example", validatorProtocol); !bytes.Equal(shown, proof.Certificate[0]) || why != string(reason.ACMEChallenge) {
				t.Errorf("%s: the validator got %d bytes of a certificate: %s", name, len(shown), why)
			}
			over()
			if shown, why := try("pay.example", validatorProtocol); shown != nil || why != before {
				t.Errorf("%s: after the challenge: %s, before %s", name, why, before)
			}
			if n := h.dials.Load(); n != 0 {
				t.Errorf("%s: %d dials", name, n)
			}
			h.stop()
		}
	}
}
