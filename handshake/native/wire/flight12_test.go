package wire_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/tls"
	"testing"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/handshake/native/wire"
	"github.com/sslgate/sslgate/internal/lab/handshaketest"
	"github.com/sslgate/sslgate/internal/lab/testpki"
)

func TestBadMessages12(t *testing.T) {
	for name, c := range map[string]struct {
		msg  []byte
		want handshake.Alert
	}{
		"TLS 1.1":                          {of(2, []byte{3, 2}, make([]byte, 32), []byte{0, 0xc0, 0x2b, 0}), handshake.AlertProtocolVersion},
		"TLS 1.3 in legacy_version":        {of(2, []byte{3, 4}, make([]byte, 32), []byte{0, 0xc0, 0x2b, 0}), handshake.AlertProtocolVersion},
		"compressed":                       {of(2, []byte{3, 3}, make([]byte, 32), []byte{0, 0xc0, 0x2b, 1}), handshake.AlertIllegalParameter},
		"supported_versions":               {serverHello(selected13), handshake.AlertIllegalParameter},
		"unknown":                          {serverHello(ext(0x4a4a)), handshake.AlertUnsupportedExtension},
		"extended_master_secret with data": {serverHello(ext(handshake.ExtExtendedMasterSecret, 0)), handshake.AlertDecodeError},
		"only compressed points":           {serverHello(ext(handshake.ExtPointFormats, 1, 1)), handshake.AlertIllegalParameter},
		"no points":                        {serverHello(ext(handshake.ExtPointFormats, 0)), handshake.AlertDecodeError},
		"renegotiated":                     {serverHello(ext(handshake.ExtRenegotiationInfo, 1, 7)), handshake.AlertHandshakeFailure},
		"twice":                            {serverHello(ext(handshake.ExtSessionTicket), ext(handshake.ExtSessionTicket)), handshake.AlertIllegalParameter},
		"explicit curve":                   {of(12, []byte{1, 0, 29, 1, 9, 4, 3, 0, 0}), handshake.AlertIllegalParameter},
		"an empty point":                   {of(12, []byte{3, 0, 29, 0, 4, 3, 0, 0}), handshake.AlertDecodeError},
		"an empty point of the client":     {of(16, []byte{0}), handshake.AlertDecodeError},
		"no certificate types":             {of(13, []byte{0, 0, 2, 4, 3, 0, 0}), handshake.AlertDecodeError},
		"no schemes":                       {of(13, []byte{1, 64, 0, 0, 0, 0}), handshake.AlertDecodeError},
		"half a scheme":                    {of(13, []byte{1, 64, 0, 1, 4, 0, 0}), handshake.AlertDecodeError},
		"an empty name":                    {of(13, []byte{1, 64, 0, 2, 4, 3, 0, 2, 0, 0}), handshake.AlertDecodeError},
		"something in ServerHelloDone":     {of(14, []byte{0}), handshake.AlertDecodeError},
		"an empty certificate":             {of(11, []byte{0, 0, 3, 0, 0, 0}), handshake.AlertDecodeError},
		"an empty staple":                  {of(22, []byte{1, 0, 0, 0}), handshake.AlertDecodeError},
		"a staple of another kind":         {of(22, []byte{2, 0, 0, 1, 1}), handshake.AlertDecodeError},
		"13 bytes of verify_data":          {of(20, make([]byte, 13)), handshake.AlertDecryptError},
		"a certificate of TLS 1.3":         {of(11, []byte{0, 0, 0, 6, 0, 0, 1, 0x30, 0, 0}), handshake.AlertDecodeError},
	} {
		t.Run(name, func(t *testing.T) {
			for _, parse := range parsers12[c.msg[0]] {
				if got := checkParse(t, parse, c.msg); got != c.want {
					t.Errorf("alert %v, not %v", got, c.want)
				}
			}
		})
	}
}

// A first flight of crypto/tls in TLS 1.2 is read, and its signature is over
// SignedContent.
func TestFlightOfCryptoTLS(t *testing.T) {
	ca := testpki.Must(testpki.NewCA(testpki.Options{}))
	leaf := testpki.Must(ca.Issue(testpki.Leaf{DNS: []string{"shop.example"}})).TLS()
	leaf.OCSPStaple = []byte{0x30, 0}
	client := handshaketest.Hello12().With(handshake.ExtStatusRequest, []byte{1, 0, 0, 0, 0}).With(handshake.ExtALPN, []byte{0, 3, 2, 'h', '2'}).With(handshake.ExtExtendedMasterSecret, nil)
	c := &handshaketest.ScriptedConn{In: handshaketest.InRecords(client.Bytes(), handshake.MaxPlaintext)}
	srv := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{leaf}, MaxVersion: tls.VersionTLS12, NextProtos: []string{"h2"}, ClientAuth: tls.RequireAnyClientCert, ClientCAs: ca.Pool()})
	if err := srv.Handshake(); err == nil {
		t.Fatal("the client has sent a hello alone")
	}
	flight := c.Out.Bytes()
	next := func() []byte {
		n := handshake.RecordLen(flight)
		msg := flight[handshake.RecordHeader : handshake.RecordHeader+n]
		flight = flight[handshake.RecordHeader+n:]
		return msg
	}
	h, err := wire.ParseServerHello12(next())
	if err != nil || h.ALPN != "h2" || !h.StatusRequest || !h.ExtendedMasterSecret || h.Suite != tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 {
		t.Fatalf("%+v, %v", h, err)
	}
	certs, err := wire.ParseCertificate12(next())
	if err != nil || len(certs.Certificates) != len(leaf.Certificate) || !bytes.Equal(certs.Certificates[0], leaf.Certificate[0]) {
		t.Errorf("%v", err)
	}
	status, err := wire.ParseCertificateStatus(next())
	if err != nil || !bytes.Equal(status.Response, leaf.OCSPStaple) {
		t.Errorf("%v, %v", status, err)
	}
	exchange, err := wire.ParseServerKeyExchange(next())
	if err != nil {
		t.Fatal(err)
	}
	clientRandom := [32]byte(client.Bytes()[6:38])
	signed, err := exchange.SignedContent(&clientRandom, &h.Random)
	sum := sha256.Sum256(signed)
	if key, ok := leaf.Leaf.PublicKey.(*ecdsa.PublicKey); err != nil || !ok || exchange.Scheme != uint16(tls.ECDSAWithP256AndSHA256) || !ecdsa.VerifyASN1(key, sum[:], exchange.Signature) {
		t.Errorf("the signature of %+v does not fit (%v)", exchange, err)
	}
	request, err := wire.ParseCertificateRequest12(next())
	if err != nil || !bytes.Equal(request.Types, []byte{wire.CertTypeRSASign, wire.CertTypeECDSASign}) {
		t.Fatalf("%+v, %v", request, err)
	}
	names := 0
	for der := range request.Authorities.All() {
		if names++; !bytes.Equal(der, ca.Cert.RawSubject) {
			t.Errorf("%x", der)
		}
	}
	if names != 1 {
		t.Errorf("%d names", names)
	}
	if _, err := wire.ParseServerHelloDone(next()); err != nil {
		t.Error(err)
	}
}
