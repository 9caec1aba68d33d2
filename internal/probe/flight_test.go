package probe

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/sslgate/sslgate/handshake"
)

func TestReadFlight12(t *testing.T) {
	// Cut at every place into two records: a message may span them.
	whole := flight12()
	for at := 1; at < len(whole); at++ {
		in := append(record(recordHandshake, whole[:at]), record(recordHandshake, whole[at:])...)
		f, err := readFlight(bytes.NewReader(in))
		if err != nil {
			t.Fatalf("cut at %d: %v", at, err)
		}
		if f.hello.suite != 0xc02f || f.hello.version != 0x0303 || f.hello.alpn != "h2" || !f.hello.has(extExtendedMasterSecret) {
			t.Fatalf("hello %+v", f.hello)
		}
		if len(f.certs) != 1 || !f.stapled || f.keys.group != 0x17 || !f.done {
			t.Fatalf("flight %+v", f)
		}
		if q := f.request; q == nil || string(q.types) != "\x01\x40" || len(q.schemes) != 1 || q.schemes[0] != 0x0403 || len(q.names) != 1 {
			t.Fatalf("request %+v", q)
		}
	}
}

func TestReadFlight13(t *testing.T) {
	for _, retry := range []bool{false, true} {
		in := record(recordHandshake, message(typeServerHello, hello13(retry).marshal()))
		in = append(in, record(recordChangeCipherSpec, []byte{1})...)
		in = append(in, record(recordApplicationData, []byte("sealed"))...)
		r := bytes.NewReader(in)
		f, err := readFlight(r)
		if err != nil {
			t.Fatal(err)
		}
		if f.hello.version != 0x0304 || f.hello.retry != retry || f.hello.group != 0x1d || f.hello.suite != 0x1302 {
			t.Errorf("hello %+v", f.hello)
		}
		if r.Len() == 0 {
			t.Error("it read on behind the ServerHello")
		}
	}
}

func TestReadFlightAlert(t *testing.T) {
	in := append(record(recordAlert, []byte{1, 112}), record(recordAlert, []byte{2, 70})...)
	f, err := readFlight(bytes.NewReader(in))
	if err != nil || f.alert != handshake.AlertProtocolVersion || f.answered() {
		t.Errorf("%+v, %v", f, err)
	}
}

func TestReadFlightRefuses(t *testing.T) {
	sh := message(typeServerHello, hello12(0xc02f).marshal())
	twice := append(append([]byte{}, sh...), sh...)
	huge := append(append([]byte{}, sh...), typeCertificate, 0xff, 0xff, 0xff)
	dup := hello12(0xc02f)
	dup.extensions = append(dup.extensions, dup.extensions[0])
	endless := record(recordHandshake, sh)
	for range 40 {
		endless = append(endless, record(recordHandshake, append([]byte{typeCertificate, 3, 0xff, 0xff}, make([]byte, 1<<14-4)...))...)
	}
	for name, in := range map[string][]byte{
		"nothing":                   nil,
		"HTTP":                      []byte("HTTP/1.1 400 Bad Request\r\n\r\n"),
		"half a record":             record(recordHandshake, sh)[:20],
		"an empty record":           {22, 3, 3, 0, 0},
		"a record over the bound":   record(recordHandshake, make([]byte, maxRecord+1)),
		"an alert of three bytes":   record(recordAlert, []byte{2, 40, 0}),
		"alert 255":                 record(recordAlert, []byte{2, 255}),
		"application data":          record(recordApplicationData, []byte("x")),
		"a certificate first":       record(recordHandshake, message(typeCertificate, []byte{0, 0, 0})),
		"two hellos":                record(recordHandshake, twice),
		"a message over the bound":  record(recordHandshake, huge),
		"an extension twice":        record(recordHandshake, message(typeServerHello, dup.marshal())),
		"a certificate cut short":   record(recordHandshake, append(append([]byte{}, sh...), message(typeCertificate, []byte{0, 0, 9})...)),
		"a request cut short":       record(recordHandshake, append(append([]byte{}, sh...), message(typeCertificateRequest, []byte{9})...)),
		"hello done with something": record(recordHandshake, append(append([]byte{}, sh...), message(typeServerHelloDone, []byte{1})...)),
		"no end":                    endless,
	} {
		if f, err := readFlight(bytes.NewReader(in)); err == nil || f != nil {
			t.Errorf("%s: taken as %+v", name, f)
		}
	}
}

func TestKeyExchange(t *testing.T) {
	p := make([]byte, 129) // a leading zero byte, then 1024 bits
	p[1] = 0x80
	dhe := append(binary.BigEndian.AppendUint16(nil, uint16(len(p))), p...)
	if k, ok := parseKeyExchange("TLS_DHE_RSA_WITH_AES_128_GCM_SHA256", dhe); !ok || k.dhBits != 1024 {
		t.Errorf("%+v", k)
	}
	if k, ok := parseKeyExchange("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", []byte{1, 2, 3}); !ok || k.group != 0 {
		t.Errorf("an explicit curve: %+v", k) // it has no number
	}
	for _, n := range []int{0, 1, 8, 9, 1023} {
		if n > 0 && bits(append([]byte{0, 1 << ((n - 1) % 8)}, make([]byte, (n-1)/8)...)) != n {
			t.Errorf("bits of a number of %d bits", n)
		}
	}
}

// Our own offers are hellos by our own strict parser, and hold what they say.
func TestOffers(t *testing.T) {
	for _, v := range []uint16{0x0301, 0x0302, 0x0303, 0x0304} {
		o := usual(v, suites12())
		o.name, o.alpn = "pay.example", []string{"h2"}
		b, err := o.record()
		if err != nil {
			t.Fatal(err)
		}
		if len(b) > 16<<10 {
			t.Errorf("a hello of %d bytes", len(b))
		}
		h, err := handshake.ParseClientHello(b[5:])
		if err != nil {
			t.Fatalf("%#x: %v", v, err)
		}
		if h.SupportedVersions[0] != v || v > 0x0303 && len(h.SupportedVersions) != 1 || h.ServerName != "pay.example" || h.ALPN[0] != "h2" {
			t.Errorf("%#x: %v", v, h.Summary())
		}
	}
	all := usual(0x0304, nil)
	all.shares = shareable()
	b, err := all.record()
	if err != nil {
		t.Fatal(err)
	}
	if h, err := handshake.ParseClientHello(b[5:]); err != nil || len(h.KeyShares) != len(all.shares) {
		t.Errorf("all key shares: %v", err)
	}
	none := usual(0x0304, nil)
	none.shares = nil
	b, err = none.record()
	if err != nil {
		t.Fatal(err)
	}
	if h, err := handshake.ParseClientHello(b[5:]); err != nil || len(h.KeyShares) != 0 {
		t.Errorf("an empty list of key shares: %v", err)
	}
}

func TestSuites12(t *testing.T) {
	all := suites12()
	if len(all) < 100 || len(all) > 300 {
		t.Fatalf("%d CipherSuites", len(all))
	}
	for _, s := range all {
		name := handshake.SuiteName(s)
		if strings.Contains(name, "PSK") || strings.Contains(name, "SCSV") || handshake.IsTLS13Suite(s) {
			t.Errorf("%s is offered", name)
		}
	}
	if first := handshake.SuiteName(all[0]); !strings.HasPrefix(first, "TLS_ECDHE_") || !strings.Contains(first, "GCM") {
		t.Errorf("the first is %s", first)
	}
}
