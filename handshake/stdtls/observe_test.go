package stdtls

import (
	"crypto/tls"
	"net"
	"testing"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/lab/handshaketest"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/reason"
)

// Under Observe the certificate is asked for and judged, and the flow goes on:
// the peer is proven, its chain is not verified.
func TestObserve(t *testing.T) {
	f := handshaketest.Fixtures()
	expired := testpki.Must(f.CA.Expired(testpki.Leaf{CN: "late"}))
	foreign := testpki.Must(f.Other.Issue(testpki.Leaf{CN: "mallory"}))
	ed := testpki.Must(f.CA.Issue(testpki.Leaf{CN: "ed", Key: testpki.Ed25519}))
	for _, version := range bothVersions {
		for name, tt := range map[string]struct {
			certs []tls.Certificate
			want  reason.Code // "" is good
		}{
			"good":       {[]tls.Certificate{f.Client.TLS()}, ""},
			"absent":     {nil, reason.NoCertificate},
			"expired":    {[]tls.Certificate{expired.TLS()}, reason.Expired},
			"unknown CA": {[]tls.Certificate{foreign.TLS()}, reason.UnknownCA},
			"scheme":     {[]tls.Certificate{ed.TLS()}, reason.WeakSignature},
		} {
			var asked *handshake.Peer
			var state handshake.State
			var err error
			check := func(p *handshake.Peer, s *handshake.State) error { asked, state = p, *s; return nil }
			o := handshakeWith(t, handshaketest.ServerParams(func(p *handshake.ServerParams) {
				p.Observe, p.Profile.Signatures = true, []uint16{uint16(tls.ECDSAWithP256AndSHA256)}
			}), check, func(c *net.TCPConn) {
				err = goClient(clientConfig(version, tt.certs...), nil)(c)
			})
			if o.err != nil || err != nil {
				t.Errorf("%s %s: client %v, server %v", handshake.VersionName(version), name, err, o.err)
				continue
			}
			if name == "scheme" {
				state.Observed = o.s.Observed // found after CheckPeer was asked
			}
			for _, s := range []*handshake.State{&state, &o.s.State} {
				if tt.want == "" && s.Observed != nil || tt.want != "" && (s.Observed == nil || s.Observed.Reason != tt.want) {
					t.Errorf("%s %s: observed %v", handshake.VersionName(version), name, s.Observed)
				}
			}
			if (asked == nil) != (len(tt.certs) == 0) {
				t.Errorf("%s %s: asked about %v", handshake.VersionName(version), name, asked)
			}
			if p := o.s.Peer; p != nil && (!p.Proven || p.Refusal != o.s.Observed || (p.Chain != nil) != (tt.want == "") || (p.Authority != "") != (tt.want == "")) {
				t.Errorf("%s %s: peer %+v", handshake.VersionName(version), name, p)
			}
		}
	}
}

// What says nothing about the client ends the flow still.
func TestObserveStillRefuses(t *testing.T) {
	f := handshaketest.Fixtures()
	thief := f.Client.TLS()
	thief.PrivateKey = testpki.Must(testpki.NewKey(testpki.P256))
	broken := f.Client.TLS()
	broken.Certificate = [][]byte{[]byte("no certificate")}
	long := testpki.Must(f.CA.LongChain(testpki.Leaf{}, 12)).TLS()
	observe := handshaketest.ServerParams(func(p *handshake.ServerParams) { p.Observe = true })
	for _, version := range bothVersions {
		for name, tt := range map[string]struct {
			cert tls.Certificate
			want reason.Code
		}{"thief": {thief, reason.NoPossession}, "unparsable": {broken, reason.BadCertificate}, "too long": {long, reason.ChainTooLong}} {
			o, _, err := withGo(t, observe, clientConfig(version, tt.cert))
			if o.err == nil || o.err.Reason != tt.want || err == nil {
				t.Errorf("%s %s: client %v, server %v", handshake.VersionName(version), name, err, o.err)
			}
		}
	}
	no := handshake.Refuse(handshake.StepClientVerified, reason.NotAllowed, "")
	var err error
	o := handshakeWith(t, observe, func(*handshake.Peer, *handshake.State) error { return no }, goClientOn(clientConfig(tls.VersionTLS13, f.Client.TLS()), &err))
	if o.err != no {
		t.Errorf("CheckPeer's refusal: %v", o.err)
	}
}

// The destination is only observed, too: its chain and its name.
func TestObserveDestination(t *testing.T) {
	f := handshaketest.Fixtures()
	for _, version := range bothVersions {
		for name, tt := range map[string]struct {
			cert *testpki.Cert
			want reason.Code
		}{
			"good":       {f.Gateway, ""},
			"unknown CA": {testpki.Must(f.Other.Issue(testpki.Leaf{DNS: []string{"gateway.test"}})), reason.UpstreamUnknownCA},
			"name":       {testpki.Must(f.CA.Issue(testpki.Leaf{DNS: []string{"elsewhere.test"}})), reason.UpstreamName},
		} {
			s, e, _, err := dialed(t, clientParams(func(p *handshake.ClientParams) { p.Observe = true }), serverConfig(version, tt.cert))
			if e != nil || err != nil {
				t.Errorf("%s %s: %v, server %v", handshake.VersionName(version), name, e, err)
				continue
			}
			if got := s.Peer.Refusal; (got == nil) != (tt.want == "") || got != nil && (got.Reason != tt.want || s.Peer.Chain != nil) || got != s.Observed {
				t.Errorf("%s %s: peer %+v", handshake.VersionName(version), name, s.Peer)
			}
		}
	}
}
