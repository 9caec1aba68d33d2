package demo

import (
	"crypto/tls"
	"net"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/fielderr"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/reason"
)

// Scenarios is the whole demo, in its order. The gateway is killed last.
func Scenarios() []Scenario {
	all := goodClients()
	all = append(all, badCertificates()...)
	all = append(all, badHellos()...)
	all = append(all, destinationsToo()...)
	all = append(all, wholePaths()...)
	return append(all, packets()...)
}

// pay is a client of the rule pay.
func pay(cert func(*PKI) (tls.Certificate, error), set func(*tls.Config)) client {
	return client{dest: destPay, sni: namePay, cert: cert, set: set}
}

func allowed(rule string, code reason.Code, proof Proof) Want {
	return Want{Rule: rule, Reason: code, Alert: handshake.AlertNone, Saw: SeenAnswer, Proven: proof}
}

func refused(rule string, code reason.Code, saw Seen, proof Proof) Want {
	return Want{Rule: rule, Reason: code, Alert: handshake.AlertOf(code), Saw: saw, Proven: proof}
}

func goodClients() []Scenario {
	ok := allowed("pay", reason.OK, Proven)
	six := pay(good, nil)
	six.six = true
	slow := pay(good, nil)
	slow.wrap = func(c net.Conn) net.Conn { return &byteByByte{Conn: c} }
	return []Scenario{
		{Name: "good-tls13", Title: "a good client, TLS 1.3", Want: ok, client: pay(good, only(tls.VersionTLS13))},
		{Name: "good-tls12", Title: "a good client, TLS 1.2", Want: ok, client: pay(good, only(tls.VersionTLS12))},
		{Name: "good-ipv6", Title: "a good client, IPv6", Want: ok, client: six},
		{Name: "good-mlkem", Title: "a good client, ML-KEM key share only", Want: ok, client: pay(good, func(c *tls.Config) {
			c.CurvePreferences = []tls.CurveID{tls.X25519MLKEM768}
		})},
		{Name: "byte-by-byte", Title: "a good client whose ClientHello comes byte by byte", Want: ok, client: slow},
		{
			Name: "optional-none", Title: "no certificate where one is optional",
			Want:   allowed("optional", reason.OKNoCertificate, NotShown),
			client: client{dest: destOptional, sni: nameOptional},
		},
		{
			Name: "origin-tls", Title: "TLS to the destination too, its certificate verified",
			Want:   allowed("origin", reason.OK, Proven),
			client: client{dest: destOrigin, sni: nameOrigin, cert: good},
		},
	}
}

func badCertificates() []Scenario {
	bad := func(code reason.Code) Want { return refused("pay", code, SeenAlert, Claimed) }
	return []Scenario{
		{Name: "no-certificate", Title: "no certificate where one is required", Want: refused("pay", reason.NoCertificate, SeenAlert, NotShown), client: pay(nil, nil)},
		{
			Name: "optional-bad", Title: "a bad certificate where one is optional",
			Want:   refused("optional", reason.UnknownCA, SeenAlert, Claimed),
			client: client{dest: destOptional, sni: nameOptional, cert: ofOther},
		},
		{Name: "other-ca", Title: "a certificate of another CA", Want: bad(reason.UnknownCA), client: pay(ofOther, nil)},
		{Name: "expired", Title: "an expired certificate", Want: bad(reason.Expired), client: pay(with((*testpki.CA).Expired), nil)},
		{Name: "not-yet-valid", Title: "a certificate that is not valid yet", Want: bad(reason.NotYetValid), client: pay(with((*testpki.CA).NotYetValid), nil)},
		{Name: "wrong-eku", Title: "a certificate for servers only", Want: bad(reason.WrongUsage), client: pay(with((*testpki.CA).WrongEKU), nil)},
		{Name: "rsa-1024", Title: "a certificate with an RSA key of 1024 bits", Want: bad(reason.WeakKey), client: pay(with((*testpki.CA).RSA1024), nil)},
		{Name: "not-allowed", Title: "a sound certificate of somebody who may not pay", Want: bad(reason.NotAllowed), client: pay(named(otherID), nil)},
		{Name: "foreign-name", Title: "a name that the CA may not speak for", Want: bad(reason.AuthorityNotNamed), client: pay(named(foreignID), nil)},
		{Name: "thief-tls13", Title: "a thief: the right certificate, a wrong key, TLS 1.3", Want: bad(reason.NoPossession), client: pay(stolen, only(tls.VersionTLS13))},
		{Name: "thief-tls12", Title: "a thief: the right certificate, a wrong key, TLS 1.2", Want: bad(reason.NoPossession), client: pay(stolen, only(tls.VersionTLS12))},
	}
}

func badHellos() []Scenario {
	unknown, without := pay(good, nil), pay(good, nil)
	unknown.sni, without.sni = nameUnknown, ""
	early := func(rule string, code reason.Code, saw Seen) Want { return refused(rule, code, saw, NotShown) }
	return []Scenario{
		{Name: "tls11-only", Title: "a client that speaks TLS 1.1 only", Want: early("pay", reason.ProtocolVersion, SeenAlert), client: pay(good, only(tls.VersionTLS11))},
		{Name: "forbidden-suite", Title: "a client with a forbidden CipherSuite only", Want: early("pay", reason.NoCommonSuite, SeenAlert), client: pay(good, func(c *tls.Config) {
			only(tls.VersionTLS12)(c)
			c.CipherSuites = []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA}
		})},
		{Name: "unknown-name", Title: "a server name (SNI) that no rule knows", Want: early("", reason.SNIUnknown, SeenAlert), client: unknown},
		{Name: "no-name", Title: "no server name (SNI) at all", Want: early("", reason.SNIMissing, SeenAlert), client: without},
		{
			Name: "plain-http", Title: "plain HTTP on the TLS port", Want: early("", reason.PlainHTTP, SeenAlert),
			client: client{dest: destPay, raw: []byte("GET / HTTP/1.1\r\nHost: pay.demo.test\r\n\r\n")},
		},
		{
			Name: "garbage", Title: "garbage instead of TLS", Want: early("", reason.NotTLS, SeenAlert),
			client: client{dest: destPay, raw: []byte("\x00\xff\x13garbage\x1b[2J, not TLS\r\n")},
		},
		{
			Name: "silent", Title: "a client that says nothing", Want: early("", reason.HelloTimeout, SeenReset),
			client: client{dest: destPay, silent: true},
		},
	}
}

func destinationsToo() []Scenario {
	failed := func(rule string, code reason.Code) Want { return refused(rule, code, SeenReset, Proven) }
	name := failed("wrong-name", reason.UpstreamName)
	// Refused on the SYN, before there is anything to carry an alert.
	syn := refused("", reason.NoRule, SeenRefused, NotShown)
	syn.Alert = handshake.AlertNone
	return []Scenario{
		{
			Name: "bypass", Title: "a bypass rule: the client sees the destination's own certificate",
			Want:    allowed("bypass", reason.Bypassed, NotShown),
			special: bypass,
		},
		{Name: "destination-down", Title: "the destination is down", Want: failed("down", reason.DialRefused), client: client{dest: destDown, sni: nameDown, cert: good}},
		{Name: "wrong-name", Title: "the destination's certificate is for another name", Want: name, client: client{dest: destWrongName, sni: nameWrong, cert: good}},
		{Name: "default-deny", Title: "a destination that no rule names", Want: syn, client: client{dest: destNoRule, sni: namePay, cert: good}},
	}
}

func wholePaths() []Scenario {
	two := allowed("shop", reason.Originated, NotShown)
	return []Scenario{
		{Name: "two-gateways", Title: "client and server in the clear, mutual TLS between two gateways", Want: two, special: twoGateways},
	}
}

func packets() []Scenario {
	answered := Want{Alert: handshake.AlertNone, Saw: SeenRefused, NoRecord: true, Text: "answered, nothing passes"}
	again := allowed("pay", reason.OK, Proven)
	again.Text = "nothing passes; then verified"
	return []Scenario{
		{Name: "fragments", Title: "a SYN in two IP fragments", Want: answered, special: fragments(false)},
		{Name: "fragments-ipv6", Title: "a SYN in two IP fragments, IPv6", Want: answered, special: fragments(true)},
		{Name: "killed", Title: "the gateway is killed with -9 while a client tries", Want: again, special: killed},
	}
}

func suggest(name string, all []Scenario) string {
	var names []string
	for _, s := range all {
		names = append(names, s.Name)
	}
	return fielderr.Suggest(name, names)
}
