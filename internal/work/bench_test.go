package work

import (
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/mldsa"
	"crypto/mlkem"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"
)

// key makes a key of a kind.
func key(t testing.TB, kind string) crypto.Signer {
	var k crypto.Signer
	var err error
	switch kind {
	case "RSA-2048":
		k, err = rsa.GenerateKey(rand.Reader, 2048)
	case "RSA-4096":
		k, err = rsa.GenerateKey(rand.Reader, 4096)
	case "P-256":
		k, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "P-384":
		k, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "P-521":
		k, err = ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case "Ed25519":
		_, k, err = ed25519.GenerateKey(rand.Reader)
	case "ML-DSA-44":
		k, err = mldsa.GenerateKey(mldsa.MLDSA44())
	case "ML-DSA-65":
		k, err = mldsa.GenerateKey(mldsa.MLDSA65())
	case "ML-DSA-87":
		k, err = mldsa.GenerateKey(mldsa.MLDSA87())
	default:
		err = fmt.Errorf("no kind %q", kind)
	}
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func certificate(t testing.TB, k crypto.Signer, names int) *x509.Certificate {
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "x"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	for i := range names {
		c.DNSNames = append(c.DNSNames, fmt.Sprintf("a%d.example", i))
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

// BenchmarkWeights is where weights.go comes from.
func BenchmarkWeights(b *testing.B) {
	for _, kind := range []string{"RSA-2048", "RSA-4096", "P-256", "P-384", "P-521", "Ed25519", "ML-DSA-44", "ML-DSA-65", "ML-DSA-87"} {
		k := key(b, kind)
		c := certificate(b, k, 0)
		b.Run("verify/"+kind, func(b *testing.B) {
			for b.Loop() {
				if err := c.CheckSignatureFrom(c); err != nil {
					b.Fatal(err)
				}
			}
		})
		digest, hash := sha256.Sum256([]byte("x")), crypto.SHA256
		if kind == "Ed25519" || strings.HasPrefix(kind, "ML-DSA") {
			hash = 0
		}
		b.Run("sign/"+kind, func(b *testing.B) {
			for b.Loop() {
				if _, err := k.Sign(rand.Reader, digest[:], hash); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	for name, curve := range map[string]ecdh.Curve{"X25519": ecdh.X25519(), "P-256": ecdh.P256(), "P-384": ecdh.P384(), "P-521": ecdh.P521()} {
		peer, err := curve.GenerateKey(rand.Reader)
		if err != nil {
			b.Fatal(err)
		}
		b.Run("exchange/"+name, func(b *testing.B) {
			for b.Loop() {
				own, err := curve.GenerateKey(rand.Reader)
				if err == nil {
					_, err = own.ECDH(peer.PublicKey())
				}
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	dk, err := mlkem.GenerateKey768()
	if err != nil {
		b.Fatal(err)
	}
	encoded := dk.EncapsulationKey().Bytes()
	b.Run("exchange/ML-KEM-768, to be added", func(b *testing.B) {
		for b.Loop() {
			ek, err := mlkem.NewEncapsulationKey768(encoded)
			if err != nil {
				b.Fatal(err)
			}
			ek.Encapsulate()
		}
	})
	full := certificate(b, key(b, "P-256"), 4000)
	b.Run(fmt.Sprintf("parse/%d KiB", len(full.Raw)>>10), func(b *testing.B) {
		for b.Loop() {
			if _, err := x509.ParseCertificate(full.Raw); err != nil {
				b.Fatal(err)
			}
		}
	})
	benchHandshake(b)
}

// benchHandshake is both sides of an ordinary handshake in one process: half
// of what it takes, less the parts above, is fixed.
func benchHandshake(b *testing.B) {
	k := key(b, "P-256")
	cert := certificate(b, k, 1)
	pair := tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: k, Leaf: cert}
	server := &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAnyClientCert, SessionTicketsDisabled: true}
	client := &tls.Config{Certificates: []tls.Certificate{pair}, InsecureSkipVerify: true, ServerName: "a.example"}
	b.Run("handshake, both sides", func(b *testing.B) {
		for b.Loop() {
			near, far := net.Pipe()
			done := make(chan error, 1)
			go func() {
				s := tls.Server(far, server)
				_, err := s.Write([]byte("x"))
				done <- err
			}()
			c := tls.Client(near, client)
			if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
				b.Fatal(err)
			}
			if err := <-done; err != nil {
				b.Fatal(err)
			}
			_, _ = near.Close(), far.Close()
		}
	})
}
