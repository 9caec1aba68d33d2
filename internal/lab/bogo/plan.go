package bogo

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/pemfile"
)

// serverName is in every certificate of BoGo.
const serverName = "test"

// minRSABits lets the certificates of BoGo pass, one of which has so few, in bits.
const minRSABits = 1024

// maxChain is how many certificates the longest chain of BoGo has, and some.
const maxChain = 100

// params are what the plans of both sides have in common.
func (s *shim) params(o *options) (handshake.Params, error) {
	p := handshake.Params{MaxChain: maxChain}
	var err error
	if p.Profile, err = s.profile(o); err != nil {
		return p, err
	}
	if p.Certificates, err = certificates(o); err != nil {
		return p, err
	}
	if p.Profile.Signatures, err = signatures(o, p.Certificates); err != nil {
		return p, err
	}
	if file := o.text("trust-cert"); file != "" {
		roots, err := readCertificates(file)
		if err != nil {
			return p, err
		}
		p.Authorities = []*handshake.Authority{{Name: "BoGo", Roots: roots}}
	}
	if p.ALPN, err = protocols(o.text("advertise-alpn")); err != nil {
		return p, err
	}
	if p.MaxChainBytes, err = o.number("max-cert-list", 0); err != nil {
		return p, err
	}
	delay, err := o.number("resumption-delay", 0)
	if err != nil {
		return p, err
	}
	p.Now = func() time.Time { return time.Now().Add(time.Duration(delay) * time.Second) }
	return p, nil
}

// profile allows what the engine has, within what the flags say.
func (s *shim) profile(o *options) (handshake.Profile, error) {
	p := handshake.Profile{
		Name: "bogo", Engine: s.kind, Order: handshake.OrderClient, MinVersion: tls.VersionTLS12, MaxVersion: tls.VersionTLS13, MinRSABits: minRSABits,
		Groups: []uint16{uint16(tls.X25519MLKEM768), uint16(tls.X25519), uint16(tls.CurveP256), uint16(tls.CurveP384)},
	}
	if o.has("server-preference") {
		p.Order = handshake.OrderServer
	}
	able := s.engine.Capabilities().Of(s.kind)
	for _, id := range able.Suites {
		name := handshake.SuiteName(id)
		if handshake.IsECDHE(id) && (strings.Contains(name, "_GCM_") || strings.Contains(name, "_CHACHA20_")) {
			p.Suites12 = append(p.Suites12, id)
		}
	}
	if err := versions(o, &p); err != nil {
		return p, err
	}
	if o.has("curves") {
		all, err := ids(o.values["curves"])
		if err != nil {
			return p, err
		}
		p.Groups = slices.DeleteFunc(all, func(id uint16) bool { return !slices.Contains(able.Groups, id) })
		if len(p.Groups) == 0 {
			return p, unimplemented("none of the groups %v", all)
		}
	}
	if list := o.text("cipher"); list != "" {
		var err error
		p.Suites12, err = suites(list, able)
		return p, err
	}
	return p, nil
}

// signatures are those of -verify-prefs, or what BoringSSL accepts by itself. A profile
// has one list for the proofs of peers, for ours and for the certificates of chains, so
// what our own keys and the roots of BoGo sign with stands behind.
func signatures(o *options, own []tls.Certificate) ([]uint16, error) {
	list, err := ids(o.values["verify-prefs"])
	if err != nil {
		return nil, err
	}
	if list == nil {
		for _, s := range []tls.SignatureScheme{
			tls.ECDSAWithP256AndSHA256, tls.PSSWithSHA256, tls.PKCS1WithSHA256, tls.ECDSAWithP384AndSHA384, tls.PSSWithSHA384,
			tls.PKCS1WithSHA384, tls.PSSWithSHA512, tls.PKCS1WithSHA512,
		} {
			list = append(list, uint16(s))
		}
	}
	besides := []tls.SignatureScheme{tls.PKCS1WithSHA256, tls.ECDSAWithP256AndSHA256}
	for i := range own {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			besides = append(besides, handshake.SchemesOf(version, handshake.KeyOf(&own[i]))...)
		}
	}
	for _, s := range besides {
		if !slices.Contains(list, uint16(s)) {
			list = append(list, uint16(s))
		}
	}
	return list, nil
}

// versions narrows the versions.
func versions(o *options, p *handshake.Profile) error {
	lowest, err := o.number("min-version", 0)
	if err != nil {
		return err
	}
	highest, err := o.number("max-version", tls.VersionTLS13)
	if err != nil {
		return err
	}
	p.MinVersion, p.MaxVersion = max(p.MinVersion, uint16(lowest)), min(p.MaxVersion, uint16(highest))
	if o.has("no-tls12") {
		p.MinVersion = max(p.MinVersion, tls.VersionTLS13)
	}
	if o.has("no-tls13") {
		p.MaxVersion = min(p.MaxVersion, tls.VersionTLS12)
	}
	if p.MinVersion > p.MaxVersion {
		return unimplemented("versions older than TLS 1.2")
	}
	return nil
}

// suites reads a list of IANA's names; those of equal preference stand in brackets. Those
// that the engine has not, CBC among them, fall away.
func suites(list string, able *handshake.Capabilities) ([]uint16, error) {
	var out []uint16
	for _, name := range strings.FieldsFunc(list, func(r rune) bool { return strings.ContainsRune(":[|]", r) }) {
		if id, err := able.SuiteByName(name); err == nil && handshake.IsECDHE(id) && !strings.Contains(name, "_CBC_") {
			out = append(out, id)
		}
	}
	if len(out) == 0 {
		return nil, unimplemented("none of the CipherSuites %s", list)
	}
	return out, nil
}

// certificates are ours: those of -new-x509-credential, and behind them that of the plain
// flags.
func certificates(o *options) ([]tls.Certificate, error) {
	var out []tls.Certificate
	for _, c := range append(slices.Clone(o.credentials), credential(o.values)) {
		if len(c["must-match-issuer"]) > 0 && o.has("server") {
			return nil, unimplemented("certificates chosen by the client's certificate_authorities")
		}
		if len(c["cert-file"]) == 0 || len(c["key-file"]) == 0 {
			continue
		}
		cert, err := tls.LoadX509KeyPair(c["cert-file"][0], c["key-file"][0])
		if err != nil {
			return nil, err
		}
		prefs, err := ids(c["signing-prefs"])
		if err != nil {
			return nil, err
		}
		for _, id := range prefs {
			cert.SupportedSignatureAlgorithms = append(cert.SupportedSignatureAlgorithms, tls.SignatureScheme(id))
		}
		if staple := c["ocsp-response"]; len(staple) > 0 {
			if cert.OCSPStaple, err = base64.StdEncoding.DecodeString(staple[0]); err != nil {
				return nil, fmt.Errorf("-ocsp-response: %w", err)
			}
		}
		out = append(out, cert)
	}
	return out, nil
}

// readCertificates reads a PEM file.
func readCertificates(file string) ([]*x509.Certificate, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var out []*x509.Certificate
	err = pemfile.Each(text, func(b pemfile.Block) error {
		c, err := x509.ParseCertificate(b.Bytes)
		out = append(out, c)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return out, nil
}

// protocols reads a list of names with a byte of length in front of each.
func protocols(list string) ([]string, error) {
	var out []string
	for list != "" {
		n := int(list[0])
		if n == 0 || n >= len(list) {
			return nil, fmt.Errorf("the protocols %q cannot be read", list)
		}
		out, list = append(out, list[1:1+n]), list[1+n:]
	}
	return out, nil
}

// names reads a list of distinguished names: DER in hexadecimal, with commas between.
func names(list string) ([][]byte, error) {
	if list == "<EMPTY>" || list == "<NULL>" {
		return [][]byte{}, nil
	}
	var out [][]byte
	for word := range strings.SplitSeq(list, ",") {
		der, err := hex.DecodeString(word)
		if err != nil {
			return nil, err
		}
		out = append(out, der)
	}
	return out, nil
}

// serverPlan is that of a server.
func (s *shim) serverPlan(o *options) (*handshake.ServerParams, error) {
	params, err := s.params(o)
	if err != nil {
		return nil, err
	}
	p := &handshake.ServerParams{Params: params, ClientAuth: handshake.ClientAuthNone}
	if len(p.Certificates) == 0 {
		return nil, unimplemented("a server without a certificate")
	}
	switch {
	case o.has("require-any-client-certificate"):
		p.ClientAuth = handshake.ClientAuthRequired
	case o.has("verify-peer"):
		p.ClientAuth = handshake.ClientAuthOptional
	}
	p.AcceptableCAs = [][]byte{} // none, as BoringSSL's shim announces
	if list := o.text("use-client-ca-list"); list != "" {
		if p.AcceptableCAs, err = names(list); err != nil {
			return nil, err
		}
	}
	switch {
	case o.has("reject-alpn"):
		p.ALPN = []string{"nobody-offers-this"}
	case o.has("decline-alpn"):
		p.ALPN = nil
	case o.has("select-alpn"):
		if o.text("select-alpn") == "" {
			return nil, unimplemented("an empty protocol")
		}
		p.ALPN = []string{o.text("select-alpn")}
	}
	if !o.has("no-ticket") {
		p.Ticket = &handshake.TicketRule{Binding: []byte("bogo"), Keys: s.tickets}
	}
	return p, nil
}

// clientPlan is that of a client.
func (s *shim) clientPlan(o *options) (*handshake.ClientParams, error) {
	params, err := s.params(o)
	if err != nil {
		return nil, err
	}
	p := &handshake.ClientParams{Params: params, ServerName: o.text("host-name"), VerifyName: serverName}
	if s.kind == handshake.EngineNative {
		// The native engine's client is for profiles of TLS 1.3 alone.
		if p.Profile.MinVersion, p.Profile.Suites12 = tls.VersionTLS13, nil; p.Profile.MaxVersion < tls.VersionTLS13 {
			return nil, unimplemented("TLS 1.2 towards destinations")
		}
	}
	if p.ServerName != "" {
		p.VerifyName = p.ServerName
	}
	return p, nil
}
