package certname

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"strconv"
	"strings"
	"testing"
	"unicode/utf16"

	"pgregory.net/rapid"
)

type attr struct {
	oid   string
	tag   byte
	value string // content
}

const (
	dc    = "0.9.2342.19200300.100.1.25"
	uid   = "0.9.2342.19200300.100.1.1"
	email = "1.2.840.113549.1.9.1"
)

func tlv(tag byte, content []byte) []byte {
	n := len(content)
	switch {
	case n < 0x80:
		return append([]byte{tag, byte(n)}, content...)
	case n < 0x100:
		return append([]byte{tag, 0x81, byte(n)}, content...)
	}
	return append([]byte{tag, 0x82, byte(n >> 8), byte(n)}, content...)
}

// nameDER writes a Name: relative names in the order of the certificate.
func nameDER(t testing.TB, rdns ...[]attr) []byte {
	t.Helper()
	var seq []byte
	for _, rdn := range rdns {
		var set []byte
		for _, a := range rdn {
			var oid asn1.ObjectIdentifier
			n := 0
			for _, c := range a.oid + "." {
				if c == '.' {
					oid, n = append(oid, n), 0
					continue
				}
				n = 10*n + int(c-'0')
			}
			id, err := asn1.Marshal(oid)
			if err != nil {
				t.Fatal(err)
			}
			set = append(set, tlv(0x30, append(id, tlv(a.tag, []byte(a.value))...))...)
		}
		seq = append(seq, tlv(0x31, set)...)
	}
	return tlv(0x30, seq)
}

func one(oid string, tag byte, value string) []attr { return []attr{{oid, tag, value}} }

func wideOf(s string, size int) string {
	var b []byte
	for _, r := range s {
		for i := size - 1; i >= 0; i-- {
			b = append(b, byte(uint32(r)>>(8*i)))
		}
	}
	return string(b)
}

func TestString(t *testing.T) {
	const u, p, ia5, t61, bmp, universal = 12, 19, 22, 20, 30, 28
	for want, rdns := range map[string][][]attr{
		"":                             {},
		"CN=admin,CN=joe":              {one(CommonName, u, "joe"), one(CommonName, u, "admin")},
		"C=DE,O=corp,OU=ops,CN=joe":    {one(CommonName, u, "joe"), one(OrganizationalUnit, p, "ops"), one(Organization, u, "corp"), one(Country, p, "DE")},
		"CN=joe,CN=Users,DC=corp,DC=x": {one(dc, ia5, "x"), one(dc, ia5, "corp"), one(CommonName, p, "Users"), one(CommonName, u, "joe")},
		"UID=jd+CN=Joe\\, D,L=\\#1,ST=\\ a\\ ,STREET=x\\+y\\;\\<\\>\\\"\\\\": {
			one("2.5.4.9", u, `x+y;<>"\`), one("2.5.4.8", u, " a "), one("2.5.4.7", u, "#1"), {{uid, u, "jd"}, {CommonName, u, "Joe, D"}},
		},
		"SERIALNUMBER=1,POSTALCODE=2": {one("2.5.4.17", p, "2"), one(SerialNumber, p, "1")},
		email + "=#16036a4078":        {one(email, ia5, "j@x")},
		"2.5.4.4=#0c02c3bc,CN=a":      {one(CommonName, u, "a"), one("2.5.4.4", u, "ü")},
		`CN=admin\00.evil`:            {one(CommonName, u, "admin\x00.evil")},
		`CN=a\0D\0A\1B[31m`:           {one(CommonName, p, "a\r\n\x1b[31m")},
		`CN=x\E2\80\AEy`:              {one(CommonName, u, "x\u202ey")},
		"CN=Müller":                   {one(CommonName, t61, "M\xfcller")},
		"CN=Łódź":                     {one(CommonName, bmp, wideOf("Łódź", 2))},
		`CN=end\00`:                   {one(CommonName, bmp, wideOf("end\x00", 2))},
		"CN=a\U0001F600":              {one(CommonName, universal, wideOf("a\U0001F600", 4))},
		"CN=#0c02c328":                {one(CommonName, u, "\xc3\x28")},
		"CN=#1e0100":                  {one(CommonName, bmp, "\x00")},
		"CN=#1e04d83dde00":            {one(CommonName, bmp, "\xd8\x3d\xde\x00")},
		"CN=#1303e4f6fc":              {one(CommonName, p, "\xe4\xf6\xfc")},
		"CN=#020105":                  {one(CommonName, 2, "\x05")},
		"CN=":                         {one(CommonName, u, "")},
		"CN=joe@corp_x*":              {one(CommonName, p, "joe@corp_x*")},
		"CN=a+CN=b,O=" + strings.Repeat("x", 300) + ",C=D": {one(Country, p, "D"), one(Organization, u, strings.Repeat("x", 300)), {{CommonName, u, "a"}, {CommonName, u, "b"}}},
	} {
		der := nameDER(t, rdns...)
		n, err := Parse(der)
		if err != nil || n.String() != want {
			t.Errorf("%x is %q, %v; want %q", der, n.String(), err, want)
			continue
		}
		if want == "" {
			continue
		}
		if again, err := Canonical(want); err != nil || again != want {
			t.Errorf("%q read back is %q, %v", want, again, err)
		}
	}
}

// Only returns the value of a type that occurs once, and All every value that is text.
func TestOnly(t *testing.T) {
	n, err := Parse(nameDER(t, one(CommonName, 12, "joe"), one(Organization, 12, "a"), []attr{{Organization, 19, "b"}, {Country, 2, "\x01"}}))
	if err != nil {
		t.Fatal(err)
	}
	if got := n.Only(CommonName); got != "joe" {
		t.Errorf("CN %q", got)
	}
	if got := n.Only(Organization); got != "" {
		t.Errorf("of two organizations %q", got)
	}
	if got := n.All(Organization); strings.Join(got, " ") != "a b" || n.All(Country) != nil {
		t.Errorf("organizations %q, countries %q", got, n.All(Country))
	}
	// A second value that is not text counts, because another reader may take it.
	if n, err = Parse(nameDER(t, one(CommonName, 12, "joe"), one(CommonName, 2, "\x01"))); err != nil || n.Only(CommonName) != "" {
		t.Errorf("beside one that is no text: %q, %v", n.Only(CommonName), err)
	}
}

func TestUndecodable(t *testing.T) {
	sound := nameDER(t, one(CommonName, 12, "a"))
	for what, der := range map[string][]byte{
		"nothing": nil, "behind it": append(sound[:len(sound):len(sound)], 0), "cut": sound[:len(sound)-1],
		"an empty relative name": tlv(0x30, tlv(0x31, nil)), "no set": tlv(0x30, tlv(0x30, nil)),
		"no value": tlv(0x30, tlv(0x31, tlv(0x30, []byte{6, 3, 0x55, 4, 3}))), "a bad OID": tlv(0x30, tlv(0x31, tlv(0x30, []byte{6, 1, 0x80, 12, 1, 'a'}))),
	} {
		if n, err := Parse(der); err == nil {
			t.Errorf("%s: %q", what, n)
		}
		if Of(der) != "(undecodable name)" {
			t.Errorf("%s is shown as %q", what, Of(der))
		}
	}
}

func TestCanonical(t *testing.T) {
	for in, want := range map[string]string{
		"cn=joe,dc=corp": "CN=joe,DC=corp", "2.5.4.3=joe": "CN=joe", `CN=jo\65`: "CN=joe", `CN=a\=b`: "CN=a=b", `CN=\C4\8D`: "CN=č",
		"CN=joe,CN=Users," + dc + "=#1604636f7270," + dc + "=#16076578616d706c65": "CN=joe,CN=Users,DC=corp,DC=example",
		"CN=#0C036A6F65": "CN=joe", `CN=a\,b+UID=x`: `CN=a\,b+UID=x`, `CN=\ a`: `CN=\ a`, `CN=\20a\20`: `CN=\ a\ `,
	} {
		if got, err := Canonical(in); err != nil || got != want {
			t.Errorf("%q is %q, %v; want %q", in, got, err, want)
		}
	}
	for in, want := range map[string]string{
		"": "is no attribute", "joe": "is no attribute", "CN=joe, O=x": "without spaces", "CN = joe": "without spaces", "CN= joe": "space", "CN=joe,": "is no attribute",
		"emailAddress=a@b": email, "GN=x": "2.5.4.42", "title=x": "OID", email + "=a@b": "#0c03614062", "CN=a;b": `\;`, `CN=a\`: `\`, `CN=a\x`: "hex digits",
		"CN=#zz": "hex", "CN=#0c05": "hex", "CN=a\x00": `\00`, `CN=\ff`: "UTF-8", "CN=\xff": "UTF-8", "CN=Corp, Inc,O=x": `\,`,
	} {
		if got, err := Canonical(in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is %q, %v; want %q", in, got, err, want)
		}
	}
}

// Shown is cut between characters and never longer than asked for.
func TestShown(t *testing.T) {
	der := nameDER(t, one(CommonName, 12, strings.Repeat("ü", 600)))
	for _, limit := range []int{0, 10, 11, 12} {
		s := Shown(der, limit)
		cut, ok := strings.CutSuffix(s, "...")
		if !ok || limit > 0 && len(cut) > limit || strings.ContainsRune(s, '\uFFFD') || strings.Trim(cut, "CN=ü") != "" {
			t.Errorf("to %d: %q", limit, s)
		}
	}
}

// Any name is printed so that it reads back as itself, shows nothing that is
// not printable, and differs from every other one.
func TestRoundTrip(t *testing.T) {
	types := []string{CommonName, Organization, Country, dc, uid, email, "2.5.4.4", "2.5.4.5", "1.3.6.1.4.1.99999.1"}
	char := rapid.OneOf(rapid.SampledFrom([]rune(` "#+,;<=>\a0F`)), rapid.RuneFrom([]rune{0, 0x1b, 0x7f, 0x85, 0x202e, 0xfeff, 0x10ffff}), rapid.Rune())
	rapid.Check(t, func(rt *rapid.T) {
		var rdns [][]attr
		for range rapid.IntRange(1, 4).Draw(rt, "relative names") {
			var rdn []attr
			for range rapid.IntRange(1, 3).Draw(rt, "attributes") {
				text := string(rapid.SliceOfN(char, 0, 6).Draw(rt, "value"))
				a := attr{rapid.SampledFrom(types).Draw(rt, "type"), rapid.SampledFrom([]byte{12, 19, 20, 22, 26, 28, 30, 2, 4}).Draw(rt, "tag"), text}
				switch a.tag {
				case 28:
					a.value = wideOf(text, 4)
				case 30:
					a.value = wideOf(text, 2)
				}
				rdn = append(rdn, a)
			}
			rdns = append(rdns, rdn)
		}
		n, err := Parse(nameDER(t, rdns...))
		if err != nil {
			rt.Fatal(err)
		}
		roundTrip(rt, n)
	})
}

type fataler interface {
	Fatalf(format string, args ...any)
}

func roundTrip(t fataler, n Name) {
	s := n.String()
	again, err := parseText(s)
	if err != nil || again.String() != s {
		t.Fatalf("%q reads back as %q, %v", s, again, err)
	}
	if len(again) != len(n) {
		t.Fatalf("%q has %d relative names, %d read back", s, len(n), len(again))
	}
	for i, rdn := range n {
		if len(rdn) != len(again[i]) {
			t.Fatalf("%q: an attribute is lost", s)
		}
		for j, a := range rdn {
			b := again[i][j]
			if a.Type != b.Type || a.Text != b.Text || a.Value != b.Value || !a.Text && hex.EncodeToString(a.DER) != hex.EncodeToString(b.DER) {
				t.Fatalf("%q: %+v reads back as %+v", s, a, b)
			}
		}
	}
	for _, r := range s {
		if r < ' ' || r == 0x7f || r == '\u202e' || r == '\ufeff' {
			t.Fatalf("%q shows %U", s, r)
		}
	}
}

// Whatever the bytes are: no panic, and what is read is printed and read back.
func FuzzParse(f *testing.F) {
	f.Add(nameDER(f, one(CommonName, 12, "joe"), one(dc, 22, "corp")))
	f.Add(nameDER(f, []attr{{CommonName, 30, wideOf("ü\x00", 2)}, {email, 22, "a@b"}}))
	f.Add([]byte{0x30, 0})
	f.Fuzz(func(t *testing.T, der []byte) {
		if n, err := Parse(der); err == nil && len(n) > 0 {
			roundTrip(t, n)
		}
	})
}

// Whatever the text is: what is read prints as something that reads the same.
func FuzzCanonical(f *testing.F) {
	f.Add("CN=joe,DC=corp")
	f.Add(`cn=\ a\,b+2.5.4.3=#0c0161`)
	f.Fuzz(func(t *testing.T, s string) {
		c, err := Canonical(s)
		if err != nil {
			return
		}
		if again, err := Canonical(c); err != nil || again != c {
			t.Fatalf("%q is %q, and that %q, %v", s, c, again, err)
		}
	})
}

func altExtension(names ...[]byte) []pkix.Extension {
	var all []byte
	for _, n := range names {
		all = append(all, n...)
	}
	return []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: tlv(0x30, all)}}
}

func TestAltNames(t *testing.T) {
	quote := func(s string) string { return strings.Trim(strconv.Quote(s), `"`) }
	upn := tlv(0xa0, append([]byte{6, 10, 0x2b, 6, 1, 4, 1, 0x82, 0x37, 20, 2, 3}, tlv(0xa0, tlv(12, []byte("joe@corp")))...))
	got := AltTexts(altExtension(
		tlv(0x82, []byte("A.example")), tlv(0x82, []byte("b\x00.example")), tlv(0x81, []byte("j@x")), tlv(0x86, []byte("spiffe://corp/%41")),
		tlv(0x87, []byte{192, 0, 2, 1}), tlv(0x87, append(append(make([]byte, 10), 0xff, 0xff), 192, 0, 2, 2)),
		tlv(0xa4, nameDER(t, one(dc, 22, "corp"), one(CommonName, 12, "a,b"))), tlv(0x88, []byte{0x2a, 3}), upn,
		tlv(0xa5, []byte{1, 2}), tlv(0xa4, tlv(0x30, tlv(0x31, nil))), tlv(0xa0, []byte{6, 1}),
	), quote)
	want := `dns:A.example|dns:b\x00.example|uri:spiffe://corp/%41|email:j@x|ip:192.0.2.1|ip:192.0.2.2|dirname:CN=a\,b,DC=corp|rid:1.2.3|` +
		`other:1.3.6.1.4.1.311.20.2.3=joe@corp|unknown:[5]#0102|unknown:[4]#30023100|unknown:[0]#0601`
	if strings.Join(got, "|") != want {
		t.Errorf("%q, want %q", strings.Join(got, "|"), want)
	}
	two := append(altExtension(), altExtension()...)
	for what, ext := range map[string][]pkix.Extension{
		"two": two, "an address of 5 bytes": altExtension(tlv(0x87, make([]byte, 5))), "no context tag": altExtension(tlv(12, []byte("a"))),
		"no sequence": {{Id: two[0].Id, Value: []byte{4, 0}}},
	} {
		if _, err := ReadAltNames(ext); err == nil {
			t.Errorf("%s: no error", what)
		}
		if got := AltTexts(ext, quote); len(got) != 1 || !strings.HasPrefix(got[0], "unknown:(") {
			t.Errorf("%s is shown as %q", what, got)
		}
	}
	if got := AltTexts(nil, quote); got != nil {
		t.Errorf("none: %q", got)
	}
}

func FuzzAltNames(f *testing.F) {
	f.Add(altExtension(tlv(0x82, []byte("a.example")))[0].Value)
	f.Fuzz(func(t *testing.T, value []byte) {
		n, err := ReadAltNames([]pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: value}})
		if err != nil {
			return
		}
		for _, a := range n.List() {
			if a.Kind == "dirname" {
				if again, err := Canonical(a.Name); err != nil || again != a.Name {
					t.Fatalf("%q reads back as %q, %v", a.Name, again, err)
				}
			}
		}
	})
}

// A name takes time in proportion to its length.
func BenchmarkString(b *testing.B) {
	var rdns [][]attr
	for range 200 {
		rdns = append(rdns, one(OrganizationalUnit, 12, string(utf16.Decode([]uint16{'o', 'u'}))))
	}
	der := nameDER(b, rdns...)
	b.SetBytes(int64(len(der)))
	for b.Loop() {
		_ = Of(der)
	}
}
