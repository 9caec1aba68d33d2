package wire_test

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/handshake/native/wire"
	"github.com/sslgate/sslgate/internal/lab/handshaketest"
	"github.com/sslgate/sslgate/internal/lab/testpki"
)

// What is built by hand is read again with the same fields, and each message that
// is cut, or has a byte more anywhere behind its header, is refused with an alert.
func TestRoundTrip(t *testing.T) {
	for i, made := range []map[string]message{handmade(), handmade12()} {
		for name, m := range made {
			t.Run(fmt.Sprintf("1.%d, %s", 3-i, name), func(t *testing.T) { roundTrip(t, m, versions[i]) })
		}
	}
}

func roundTrip(t *testing.T, m message, parsers map[uint8][]func([]byte) (message, error)) {
	msg, err := m.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	taken := 0
	for _, parse := range parsers[msg[0]] {
		got, err := parse(msg)
		if err != nil {
			continue
		}
		taken++
		if a, b := fields(got), fields(m); a != b {
			t.Errorf("read\n%s, was\n%s", a, b)
		}
	}
	if taken != 1 {
		t.Fatalf("%d parsers take it", taken)
	}
	for n := range msg {
		for _, parse := range parsers[msg[0]] {
			if a := checkParse(t, parse, msg[:n]); a == handshake.AlertNone {
				t.Errorf("cut to %d bytes it is taken", n)
			}
		}
	}
	for _, parse := range parsers[msg[0]] {
		if a := checkParse(t, parse, resized(append(bytes.Clone(msg), 0))); a == handshake.AlertNone {
			t.Error("with a byte behind its end it is taken")
		}
	}
}

// fields prints a message without Extensions: as they came they are nil by hand.
func fields(m message) string {
	v := reflect.New(reflect.TypeOf(m).Elem()).Elem()
	v.Set(reflect.ValueOf(m).Elem())
	if c, ok := m.(*wire.Certificate); ok {
		v.FieldByName("Entries").Set(reflect.ValueOf(slices.Clone(c.Entries)))
		for i := range c.Entries {
			v.FieldByName("Entries").Index(i).FieldByName("Extensions").SetZero()
		}
	}
	if h, ok := m.(*wire.ServerHello); ok && h.Retry {
		v.FieldByName("Random").SetZero()
	}
	if f := v.FieldByName("Extensions"); f.IsValid() {
		f.SetZero()
	}
	return fmt.Sprintf("%x", v.Interface())
}

// resized corrects the length in the header.
func resized(msg []byte) []byte {
	n := len(msg) - 4
	msg[1], msg[2], msg[3] = byte(n>>16), byte(n>>8), byte(n)
	return msg
}

// of is a message of that type.
func of(typ byte, body ...[]byte) []byte {
	return resized(append([]byte{typ, 0, 0, 0}, bytes.Join(body, nil)...))
}

func ext(typ uint16, data ...byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, typ)
	return append(binary.BigEndian.AppendUint16(b, uint16(len(data))), data...)
}

func block(exts ...[]byte) []byte {
	b := bytes.Join(exts, nil)
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...)
}

// serverHello has what stands before the extensions.
func serverHello(exts ...[]byte) []byte {
	return of(2, []byte{3, 3}, make([]byte, 32), []byte{0, 0x13, 1, 0}, block(exts...))
}

func retry(exts ...[]byte) []byte {
	msg, err := (&wire.ServerHello{Retry: true}).Marshal()
	if err != nil {
		panic(err)
	}
	return of(2, msg[4:4+2+32], []byte{0, 0x13, 1, 0}, block(exts...))
}

var (
	selected13 = ext(handshake.ExtSupportedVersions, 3, 4)
	share      = ext(handshake.ExtKeyShare, 0, 29, 0, 1, 9)
	schemes    = ext(handshake.ExtSignatureAlgorithms, 0, 2, 4, 3)
)

// The alert is the one that the RFC names for the fault.
func TestBadMessages(t *testing.T) {
	many := make([][]byte, 129)
	for i := range many {
		many[i] = ext(0x4000 + uint16(i))
	}
	entry := func(exts ...[]byte) []byte {
		e := append([]byte{0, 0, 1, 0x30}, block(exts...)...)
		return of(11, []byte{0, 0, 0, byte(len(e))}, e)
	}
	crowd := bytes.Repeat([]byte{0, 0, 1, 0x30, 0, 0}, 257)
	for name, c := range map[string]struct {
		msg  []byte
		want handshake.Alert
	}{
		"ServerHello of TLS 1.2":              {serverHello(ext(handshake.ExtExtendedMasterSecret)), handshake.AlertProtocolVersion},
		"ServerHello without extensions":      {of(2, []byte{3, 3}, make([]byte, 32), []byte{0, 0x13, 1, 0}), handshake.AlertProtocolVersion},
		"TLS 1.4 selected":                    {serverHello(ext(handshake.ExtSupportedVersions, 3, 5), share), handshake.AlertIllegalParameter},
		"TLS 1.2 selected by extension":       {serverHello(ext(handshake.ExtSupportedVersions, 3, 3), share), handshake.AlertIllegalParameter},
		"a list of versions":                  {serverHello(ext(handshake.ExtSupportedVersions, 2, 3, 4), share), handshake.AlertDecodeError},
		"legacy_version 1.3":                  {of(2, []byte{3, 4}, make([]byte, 32), []byte{0, 0x13, 1, 0}, block(selected13, share)), handshake.AlertIllegalParameter},
		"compressed":                          {of(2, []byte{3, 3}, make([]byte, 32), []byte{0, 0x13, 1, 1}, block(selected13, share)), handshake.AlertIllegalParameter},
		"33 bytes of session ID":              {of(2, []byte{3, 3}, make([]byte, 32), []byte{33}, make([]byte, 33), []byte{0x13, 1, 0}, block(selected13, share)), handshake.AlertDecodeError},
		"two key shares":                      {serverHello(selected13, share, share), handshake.AlertIllegalParameter},
		"no key share":                        {serverHello(selected13), handshake.AlertMissingExtension},
		"an empty key share":                  {serverHello(selected13, ext(handshake.ExtKeyShare, 0, 29, 0, 0)), handshake.AlertDecodeError},
		"key share of a retry in ServerHello": {serverHello(selected13, ext(handshake.ExtKeyShare, 0, 29)), handshake.AlertDecodeError},
		"ALPN in ServerHello":                 {serverHello(selected13, share, ext(handshake.ExtALPN, 0, 3, 2, 'h', '2')), handshake.AlertIllegalParameter},
		"cookie in ServerHello":               {serverHello(selected13, share, ext(handshake.ExtCookie, 0, 1, 1)), handshake.AlertIllegalParameter},
		"ticket of TLS 1.2 in ServerHello":    {serverHello(selected13, share, ext(handshake.ExtSessionTicket)), handshake.AlertIllegalParameter},
		"unknown in ServerHello":              {serverHello(selected13, share, ext(0x4a4a)), handshake.AlertUnsupportedExtension},
		"GREASE in a retry":                   {retry(selected13, ext(handshake.ExtKeyShare, 0, 24), ext(0x0a0a)), handshake.AlertUnsupportedExtension},
		"a retry for nothing":                 {retry(selected13), handshake.AlertIllegalParameter},
		"pre_shared_key in a retry":           {retry(selected13, ext(handshake.ExtKeyShare, 0, 24), ext(handshake.ExtPreSharedKey, 0, 0)), handshake.AlertIllegalParameter},
		"a retry with a whole share":          {retry(selected13, share), handshake.AlertDecodeError},
		"an empty cookie":                     {retry(selected13, ext(handshake.ExtCookie, 0, 0)), handshake.AlertDecodeError},
		"129 extensions":                      {of(8, block(many...)), handshake.AlertIllegalParameter},
		"key_share encrypted":                 {of(8, block(share)), handshake.AlertIllegalParameter},
		"signature_algorithms encrypted":      {of(8, block(schemes)), handshake.AlertIllegalParameter},
		"unknown encrypted":                   {of(8, block(ext(0x4a4a))), handshake.AlertUnsupportedExtension},
		"two protocols":                       {of(8, block(ext(handshake.ExtALPN, 0, 4, 1, 'a', 1, 'b'))), handshake.AlertDecodeError},
		"no protocol":                         {of(8, block(ext(handshake.ExtALPN, 0, 0))), handshake.AlertDecodeError},
		"a name sent back":                    {of(8, block(ext(handshake.ExtServerName, 0))), handshake.AlertDecodeError},
		"half a group":                        {of(8, block(ext(handshake.ExtSupportedGroups, 0, 1, 0))), handshake.AlertDecodeError},
		"request with a context":              {of(13, []byte{1, 7}, block(schemes)), handshake.AlertIllegalParameter},
		"request without schemes":             {of(13, []byte{0}, block()), handshake.AlertMissingExtension},
		"request with an empty list":          {of(13, []byte{0}, block(ext(handshake.ExtSignatureAlgorithms, 0, 0))), handshake.AlertDecodeError},
		"request with 513 schemes":            {of(13, []byte{0}, block(ext(handshake.ExtSignatureAlgorithms, append([]byte{4, 2}, make([]byte, 1026)...)...))), handshake.AlertIllegalParameter},
		"an empty name of a CA":               {of(13, []byte{0}, block(schemes, ext(47, 0, 4, 0, 0, 0, 0))), handshake.AlertDecodeError},
		"no names of CAs":                     {of(13, []byte{0}, block(schemes, ext(47, 0, 0))), handshake.AlertDecodeError},
		"server_name in a request":            {of(13, []byte{0}, block(schemes, ext(handshake.ExtServerName))), handshake.AlertIllegalParameter},
		"a responder in a request":            {of(13, []byte{0}, block(schemes, ext(handshake.ExtStatusRequest, 1, 0, 0, 0, 0))), handshake.AlertDecodeError},
		"Certificate with a context":          {of(11, []byte{1, 7, 0, 0, 0}), handshake.AlertIllegalParameter},
		"an empty certificate":                {of(11, []byte{0, 0, 0, 5, 0, 0, 0, 0, 0}), handshake.AlertDecodeError},
		"257 certificates":                    {of(11, []byte{0, 0, byte(len(crowd) >> 8), byte(len(crowd))}, crowd), handshake.AlertBadCertificate},
		"an empty staple":                     {entry(ext(handshake.ExtStatusRequest, 1, 0, 0, 0)), handshake.AlertDecodeError},
		"a staple of type 2":                  {entry(ext(handshake.ExtStatusRequest, 2, 0, 0, 1, 1)), handshake.AlertDecodeError},
		"two staples":                         {entry(ext(handshake.ExtStatusRequest, 1, 0, 0, 1, 1), ext(handshake.ExtStatusRequest, 1, 0, 0, 1, 1)), handshake.AlertIllegalParameter},
		"server_name at a certificate":        {entry(ext(handshake.ExtServerName)), handshake.AlertIllegalParameter},
		"an SCT at a certificate":             {entry(ext(handshake.ExtSCT, 0, 3, 0, 1, 1)), handshake.AlertUnsupportedExtension},
		"unknown at a certificate":            {entry(ext(0x4a4a)), handshake.AlertUnsupportedExtension},
		"33 bytes of verify_data":             {of(20, make([]byte, 33)), handshake.AlertDecryptError},
		"an empty ticket":                     {of(4, make([]byte, 8), []byte{0, 0, 0, 0, 0}), handshake.AlertDecodeError},
		"early data of three bytes":           {of(4, make([]byte, 8), []byte{0, 0, 1, 1}, block(ext(handshake.ExtEarlyData, 0, 0, 0))), handshake.AlertDecodeError},
		"key_share at a ticket":               {of(4, make([]byte, 8), []byte{0, 0, 1, 1}, block(share)), handshake.AlertIllegalParameter},
		"KeyUpdate of 2":                      {of(24, []byte{2}), handshake.AlertIllegalParameter},
		"KeyUpdate of nothing":                {of(24), handshake.AlertDecodeError},
	} {
		t.Run(name, func(t *testing.T) {
			for _, parse := range parsers[c.msg[0]] {
				if got := checkParse(t, parse, c.msg); got != c.want {
					t.Errorf("alert %v, not %v", got, c.want)
				}
			}
		})
	}
}

// A message of another type is no decode_error.
func TestOtherType(t *testing.T) {
	for _, version := range versions {
		for typ, all := range version {
			for _, parse := range all {
				if got := checkParse(t, parse, of(typ+100)); got != handshake.AlertUnexpectedMessage {
					t.Errorf("type %d: alert %v", typ, got)
				}
				if got := checkParse(t, parse, nil); got != handshake.AlertDecodeError {
					t.Errorf("type %d, nothing: alert %v", typ, got)
				}
			}
		}
	}
}

// What is too long to be said is an error, not a message with a wrong length.
func TestMarshalTooLong(t *testing.T) {
	for name, m := range map[string]message{
		"session ID": &wire.ServerHello{SessionID: make([]byte, 256)},
		"ticket":     &wire.NewSessionTicket{Ticket: make([]byte, 1<<16)},
		"nonce":      &wire.NewSessionTicket{Nonce: make([]byte, 256), Ticket: []byte{1}},
		"protocol":   &wire.EncryptedExtensions{ALPN: strings.Repeat("x", 256)},
		"CA names":   &wire.CertificateRequest{Signatures: []uint16{1}, Authorities: make(wire.Names, 1<<16-2)},
		"signature":  &wire.CertificateVerify{Signature: make([]byte, 1<<16)},
		"point":      &wire.ServerKeyExchange{Public: make([]byte, 256)},
		"types":      &wire.CertificateRequest12{Types: make([]byte, 256)},
		"ticket 1.2": &wire.NewSessionTicket12{Ticket: make([]byte, 1<<16)},
		"name":       &wire.ClientHello{ServerName: strings.Repeat("x", 1<<16)},
		"shares":     &wire.ClientHello{KeyShares: []wire.KeyShare{{Group: 1, Key: make([]byte, 40000)}, {Group: 2, Key: make([]byte, 40000)}}},
	} {
		if msg, err := m.Marshal(); err == nil {
			t.Errorf("%s: %d bytes", name, len(msg))
		}
	}
}

func TestAnswers(t *testing.T) {
	list := []handshake.Extension{{Type: handshake.ExtALPN}, {Type: handshake.ExtCookie}}
	for name, c := range map[string]struct {
		message string
		asked   []uint16
		want    handshake.Alert
	}{
		"asked":                 {"EncryptedExtensions", []uint16{handshake.ExtALPN, handshake.ExtCookie}, handshake.AlertNone},
		"not asked":             {"EncryptedExtensions", []uint16{handshake.ExtServerName}, handshake.AlertUnsupportedExtension},
		"a cookie of its own":   {handshake.MsgHelloRetryRequest, []uint16{handshake.ExtALPN}, handshake.AlertNone},
		"a cookie in the wrong": {"EncryptedExtensions", []uint16{handshake.ExtALPN}, handshake.AlertUnsupportedExtension},
	} {
		if got := alertOf(t, wire.Answers(c.message, list, c.asked)); got != c.want {
			t.Errorf("%s: alert %v, not %v", name, got, c.want)
		}
	}
}

// A signature that crypto/tls makes verifies over SignedContent: see the example of
// RFC 8446, section 4.4.3, for its bytes.
func TestSignedContent(t *testing.T) {
	got := wire.SignedContent(true, bytes.Repeat([]byte{1}, 32))
	want := append(bytes.Repeat([]byte{0x20}, 64), "TLS 1.3, server CertificateVerify\x00"...)
	if want = append(want, bytes.Repeat([]byte{1}, 32)...); !bytes.Equal(got, want) {
		t.Errorf("%x", got)
	}
	if other := wire.SignedContent(false, bytes.Repeat([]byte{1}, 32)); !bytes.Contains(other, []byte("client CertificateVerify")) || len(other) != len(got) {
		t.Errorf("%x", other)
	}
}

func TestMessageHash(t *testing.T) {
	if got := wire.MessageHash([]byte{7, 8}); !bytes.Equal(got, []byte{254, 0, 0, 2, 7, 8}) {
		t.Errorf("%x", got)
	}
}

// A ServerHello and a HelloRetryRequest of crypto/tls are read with what it chose.
func TestServerHelloOfCryptoTLS(t *testing.T) {
	ca := testpki.Must(testpki.NewCA(testpki.Options{}))
	leaf := testpki.Must(ca.Issue(testpki.Leaf{DNS: []string{"shop.example"}})).TLS()
	for group, again := range map[tls.CurveID]bool{tls.X25519: false, tls.CurveP384: true} {
		c := &handshaketest.ScriptedConn{In: handshaketest.InRecords(handshaketest.GoodHello().With(handshake.ExtSupportedGroups, handshaketest.List16(29, 24)).With(handshake.ExtKeyShare, append([]byte{0, 36, 0, 29, 0, 32, 9}, make([]byte, 31)...)).Bytes(), handshake.MaxPlaintext)}
		srv := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{leaf}, CurvePreferences: []tls.CurveID{group}, MinVersion: tls.VersionTLS13})
		if err := srv.Handshake(); err == nil {
			t.Fatal("the client has sent a hello alone")
		}
		out := c.Out.Bytes()
		h, err := wire.ParseServerHello(out[handshake.RecordHeader : handshake.RecordHeader+handshake.RecordLen(out)])
		if err != nil {
			t.Fatal(err)
		}
		if h.Retry != again || h.KeyShare.Group != uint16(group) || (len(h.KeyShare.Key) == 0) != again || h.Suite != tls.TLS_AES_128_GCM_SHA256 {
			t.Errorf("%v: read %+v", group, h)
		}
	}
}
