package keys

import (
	"bytes"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"testing"
)

// Nothing that prints a secret by mistake shows it: an error, a log, a dump (as rustls did,
// RUSTSEC-2026-0346).
func TestSecretsAreNotPrinted(t *testing.T) {
	suite, suite12 := SuiteOf(tls.TLS_AES_128_GCM_SHA256), Suite12Of(tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256)
	psk, sum := bytes.Repeat([]byte{7}, suite.HashSize), make([]byte, suite.HashSize)
	early := NewEarly(suite, psk)
	hs := NewEarly(suite, psk).Handshake([]byte("shared"))
	client, master := hs.Client(sum), NewEarly(suite, psk).Handshake([]byte("shared")).Master()
	resumption := master.Resumption(sum)
	var random [32]byte
	master12 := NewMaster12(suite12, []byte("shared"), &random, &random)
	traffic12, _ := master12.Expand(&random, &random)
	for name, c := range map[string]struct {
		value  any
		secret []byte
	}{
		"early": {early, early.value()}, "handshake": {hs, hs.value()}, "traffic": {client, client.value()}, "master": {master, master.value()},
		"resumption": {resumption, resumption.value()}, "master of TLS 1.2": {master12, master12.value}, "keys of TLS 1.2": {traffic12, traffic12.key},
		"not a pointer": {*client, client.value()}, "not a pointer, TLS 1.2": {*master12, master12.value},
		"in a struct": {struct{ Secret *Traffic }{client}, client.value()}, "in a list": {[]any{client}, client.value()},
	} {
		usual := []string{string(c.secret), hex.EncodeToString(c.secret), strings.ToUpper(hex.EncodeToString(c.secret)), strings.Trim(fmt.Sprint(c.secret), "[]"), strconv.Quote(string(c.secret))}
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%o", "%b", "%c", "%U"} {
			text := fmt.Sprintf(verb, c.value)
			for _, shape := range append(usual, strings.Trim(fmt.Sprintf(verb, c.secret), "[]")) {
				if strings.Contains(text, shape) {
					t.Errorf("%s: %s shows it: %s", name, verb, text)
				}
			}
		}
	}
}
