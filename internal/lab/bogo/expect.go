package bogo

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"

	"github.com/sslgate/sslgate/handshake"
)

// check holds a session against what the flags expect of it. hello is nil on the client's
// side.
func check(o *options, s *handshake.Session, hello *handshake.ClientHello) error {
	var wrong []error
	unlike := func(what string, got, want any) {
		wrong = append(wrong, fmt.Errorf("%s: %v, expected %v", what, got, want))
	}
	for _, n := range []struct {
		flag string
		got  uint16
	}{
		{"expect-version", s.Version}, {"expect-curve-id", s.Group}, {"expect-cipher", s.Suite}, {"expect-cipher-aes", s.Suite},
		{"expect-peer-signature-algorithm", schemeOf(s)},
	} {
		want, err := o.number(n.flag, int(n.got))
		if err != nil {
			return err
		}
		if want != int(n.got) {
			unlike(n.flag, n.got, want)
		}
	}
	if want := o.text("expect-alpn"); want != "" && s.ALPN != want {
		unlike("protocol", s.ALPN, want)
	}
	for flag, fits := range map[string]bool{
		"expect-hrr": s.HelloRetry, "expect-no-hrr": !s.HelloRetry, "expect-session-miss": !s.Resumed,
		"expect-extended-master-secret": s.ExtendedMasterSecret, "expect-no-peer-cert": s.Peer == nil,
	} {
		if o.has(flag) && !fits {
			unlike(flag, false, true)
		}
	}
	return errors.Join(append(wrong, checkPeer(o, s), checkHello(o, hello))...)
}

func schemeOf(s *handshake.Session) uint16 {
	if s.Peer == nil {
		return 0
	}
	return s.Peer.SignatureScheme
}

// checkPeer is about the certificate that the peer has shown.
func checkPeer(o *options, s *handshake.Session) error {
	if want := o.text("expect-ocsp-response"); want != "" {
		staple, err := base64.StdEncoding.DecodeString(want)
		if err != nil {
			return err
		}
		if s.Peer == nil || !bytes.Equal(s.Peer.OCSPStaple, staple) {
			return errors.New("another OCSP response than expected")
		}
	}
	file := o.text("expect-peer-cert-file")
	if file == "" {
		return nil
	}
	want, err := readCertificates(file)
	if err != nil {
		return err
	}
	if s.Peer == nil || !slices.EqualFunc(s.Peer.Shown, want, (*x509.Certificate).Equal) {
		return errors.New("another certificate of the peer than expected")
	}
	return nil
}

// checkHello is about what the client has sent.
func checkHello(o *options, hello *handshake.ClientHello) error {
	if hello == nil {
		return nil
	}
	if want := o.text("expect-server-name"); want != "" && hello.ServerName != want {
		return fmt.Errorf("server name %q, expected %q", hello.ServerName, want)
	}
	offered, err := protocols(o.text("expect-advertised-alpn"))
	if err != nil {
		return err
	}
	if offered != nil && !slices.Equal(offered, hello.ALPN) {
		return fmt.Errorf("offered protocols %q, expected %q", hello.ALPN, offered)
	}
	prefs, err := ids(o.values["expect-peer-verify-pref"])
	if err != nil {
		return err
	}
	if prefs != nil && !slices.Equal(prefs, hello.SignatureSchemes) {
		return fmt.Errorf("signature schemes %v, expected %v", hello.SignatureSchemes, prefs)
	}
	return nil
}

// checkNames is about the names of a CertificateRequest.
func checkNames(o *options, l *handshake.Ledger) error {
	list := o.text("expect-client-ca-list")
	if list == "" {
		return nil
	}
	want, err := names(list)
	if err != nil {
		return err
	}
	if got := l.CANames(); len(got) != len(want) {
		return fmt.Errorf("%d acceptable CAs, expected %d", len(got), len(want))
	}
	return nil
}
