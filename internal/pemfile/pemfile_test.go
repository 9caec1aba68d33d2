package pemfile

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf16"
)

// der is what the blocks of the tests hold; it need not be a certificate here.
func der(n int) []byte {
	r := rand.New(rand.NewPCG(1, uint64(n)))
	b := make([]byte, 300+n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func block(n int) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der(n)}))
}

func read(text string) (blocks []Block, err error) {
	err = Each([]byte(text), func(b Block) error { blocks = append(blocks, b); return nil })
	return blocks, err
}

func utf16Of(s string, order binary.ByteOrder) string {
	var b bytes.Buffer
	for _, u := range utf16.Encode([]rune(s)) {
		_ = binary.Write(&b, order, u)
	}
	return b.String()
}

func indent(s, with string) string {
	return with + strings.ReplaceAll(strings.TrimSuffix(s, "\n"), "\n", "\n"+with) + "\n"
}

// Files that are read although they are a mess, and text between blocks.
func TestRead(t *testing.T) {
	one, two := block(1), block(2)
	for name, text := range map[string]string{
		"plain":              one + two,
		"bom":                bom + one + two,
		"bom between":        one + bom + two,
		"two boms":           bom + bom + one + bom + two,
		"bom inside":         strings.Replace(one, "CATE-----\n", "CATE-----\n"+bom, 1) + two,
		"indented":           indent(one, "    ") + indent(two, "\t"),
		"second indented":    one + indent(two, "  "),
		"no-break spaces":    one + indent(two, "\u00a0\u00a0"),
		"crlf":               strings.ReplaceAll(one+two, "\n", "\r\n"),
		"cr":                 strings.ReplaceAll(one+two, "\n", "\r"),
		"mixed line ends":    strings.ReplaceAll(one, "\n", "\r\n") + strings.ReplaceAll(two, "\n", "\r"),
		"trailing spaces":    strings.ReplaceAll(one+two, "\n", "   \n"),
		"blank lines":        strings.ReplaceAll(one+two, "\n", "\n\n"),
		"end and begin":      strings.TrimSuffix(one, "\n") + two,
		"end, bom and begin": strings.TrimSuffix(one, "\n") + bom + two,
		"no last line end":   one + strings.TrimSuffix(two, "\n"),
		"text of openssl":    "Certificate:\n    Data:\n        Version: 3 (0x2)\n        Issuer: CN = x\n            URI:http://front-end.example/crl/vendor.crl\n            00:af:9b:22:11\n" + one + "subject=O = K, CN = END\nissuer=/CN=begin\n\n" + two,
		"bag attributes":     "Bag Attributes\n    localKeyID: 54 69 6D 65 20\nKey Attributes: <No Attributes>\n" + one + two,
		"comments":           "# ---- BEGIN staff CA ----\n" + one + "# the end of the certificates of staff\n--- end of keys ---\n# begin of the certificate of pay\n" + two,
		"rules for the eye":  "=====================================================================\n" + one + "//////////////////////////////////////////////////////////////////////\n" + two,
		"a fingerprint":      "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\n" + one + two,
		"other encodings":    "Autoridade de Certifica\xe7\xe3o\n" + one + "F\u0151tan\u00fas\u00edtv\u00e1ny\n" + two,
		"the end of DOS":     one + two + "\x1a",
		"base64 on one line": unwrap(one) + two,
		"base64 with spaces": spread(one) + two,
		"s_client":           "CONNECTED(00000003)\n---\nCertificate chain\n 0 s:CN = x\n---\nServer certificate\n" + one + "---\nNo client certificate CA names sent\n" + two,
	} {
		got, err := read(text)
		if err != nil || len(got) != 2 || !bytes.Equal(got[0].Bytes, der(1)) || !bytes.Equal(got[1].Bytes, der(2)) || got[0].Type != "CERTIFICATE" {
			t.Errorf("%s: %d blocks, %v", name, len(got), err)
		}
	}
}

func unwrap(b string) string {
	lines := strings.Split(strings.TrimSpace(b), "\n")
	return lines[0] + "\n" + strings.Join(lines[1:len(lines)-1], "") + "\n" + lines[len(lines)-1] + "\n"
}

func spread(b string) string {
	lines := strings.Split(strings.TrimSpace(b), "\n")
	for i := 1; i < len(lines)-1; i++ {
		lines[i] = lines[i][:len(lines[i])/3] + " " + lines[i][len(lines[i])/3:]
	}
	return strings.Join(lines, "\n") + "\n"
}

// Files that are refused, with the line and what to type.
func TestRefused(t *testing.T) {
	one, two := block(1), block(2)
	n := strings.Count(one, "\n") // lines of the first block
	quoted := indent(two, "> ")
	for name, c := range map[string]struct {
		text string
		line int
		want string
	}{
		"quoted":                {one + quoted, n + 1, "sed"},
		"quoted twice":          {one + indent(two, ">> > "), n + 1, "sed"},
		"commented out":         {one + indent(two, "# "), n + 1, "no comments"},
		"utf-16 with bom":       {utf16Of(bom+one+two, binary.LittleEndian), 1, "iconv"},
		"utf-16be with bom":     {utf16Of(bom+one+two, binary.BigEndian), 1, "iconv"},
		"utf-16":                {utf16Of(one+two, binary.LittleEndian), 1, "iconv"},
		"utf-16be":              {utf16Of(one+two, binary.BigEndian), 1, "iconv"},
		"utf-16 appended":       {one + utf16Of(two, binary.LittleEndian), n + 1, "iconv"},
		"utf-16, bom, appended": {one + utf16Of(bom+two, binary.LittleEndian), n + 1, "iconv"},
		"utf-32":                {one + strings.ReplaceAll(utf16Of(two, binary.LittleEndian), "\x00", "\x00\x00\x00"), n + 1, "iconv"},
		"nul":                   {one + "\x00" + two, n + 1, "NUL"},
		"four dashes":           {one + strings.Replace(two, "-----BEGIN", "----BEGIN", 1), n + 1, "five"},
		"six dashes":            {one + strings.Replace(two, "-----BEGIN", "------BEGIN", 1), n + 1, "five"},
		"dashes behind missing": {one + strings.Replace(two, "CATE-----\n", "CATE\n", 1), n + 1, "five"},
		"no dashes":             {one + strings.ReplaceAll(two, "-----", ""), n + 1, "five"},
		"en dashes":             {one + strings.ReplaceAll(two, "-----", "–––––"), n + 1, "five"},
		"minus signs":           {one + strings.ReplaceAll(two, "-----", "−−−−−"), n + 1, "five"},
		"lower case":            {one + strings.ToLower("-----BEGIN CERTIFICATE-----") + two[27:], n + 1, "five"},
		"cyrillic":              {one + strings.Replace(two, "BEGIN", "ВЕGIN", 1), n + 1, "five"},
		"zero width":            {one + strings.Replace(two, "BEGIN", "BE\u200bGIN", 1), n + 1, "five"},
		"text before":           {one + "root: " + two, n + 1, "five"},
		"text behind":           {one + strings.Replace(two, "CATE-----\n", "CATE----- root\n", 1), n + 1, "five"},
		"one line":              {one + strings.ReplaceAll(two, "\n", ""), n + 1, "own"},
		"escaped":               {one + strings.ReplaceAll(two, "\n", `\n`), n + 1, "printf"},
		"no begin line":         {one + two[28:], n + 1, "missing before"},
		"no end line":           {one + strings.Replace(two, "-----END CERTIFICATE-----\n", "", 1), n + 1, "cut short"},
		"first without end":     {strings.Replace(one, "-----END CERTIFICATE-----\n", "", 1) + two, 1, "not ended"},
		"cut":                   {one + two[:200], n + 1, "cut short"},
		"cut in the end line":   {one + strings.TrimSuffix(two, "--\n"), n + strings.Count(two, "\n"), "nothing else"},
		"other end":             {one + strings.Replace(two, "END CERTIFICATE", "END X509 CRL", 1), n + strings.Count(two, "\n"), "ends as"},
		"broken base64":         {one + strings.Replace(two, "\n", "\n!!!!", 1), n + 2, "no base64"},
		"a comment inside":      {one + strings.Replace(two, "\n", "\n# root\n", 1), n + 2, "no base64"},
		"empty block":           {one + "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n", n + 1, "is empty"},
		"begin among headers":   {one + "-----BEGIN CERTIFICATE-----\nx: -----BEGIN CERTIFICATE-----\n" + two[28:], n + 2, "no header"},
		"der behind":            {one + "\x30\x82\x01\x01\x02\x03\x04", n + 1, "binary"},
		"base64 of pem":         {one + wrap(base64.StdEncoding.EncodeToString([]byte(two)), 76), n + 1, "missing before"},
		"narrow base64":         {one + wrap(base64.StdEncoding.EncodeToString(der(2)), 20), n + 1, "missing before"},
		"end alone":             {one + "-----END CERTIFICATE-----\n" + two, n + 1, "five"},
		"line separator":        {one + "root\u2028" + two, n + 1, "five"},
	} {
		got, err := read(c.text)
		var e *Error
		if !errors.As(err, &e) || e.Line != c.line || !strings.Contains(e.Msg, c.want) {
			t.Errorf("%s: %d blocks, error %v; want %q in line %d", name, len(got), err, c.want, c.line)
		}
	}
	if _, err := read("hello\n"); !errors.Is(err, ErrNone) {
		t.Errorf("%v", err)
	}
	for _, text := range []string{"", " \n\t", "\r\n"} {
		if _, err := read(text); err == nil || err.Error() != "is empty" {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func wrap(s string, n int) string {
	var b strings.Builder
	for len(s) > n {
		b.WriteString(s[:n] + "\n")
		s = s[n:]
	}
	return b.String() + s + "\n"
}

// Whatever encoding/pem writes is read back, headers included.
func TestRoundTrip(t *testing.T) {
	for n := range 200 {
		want := &pem.Block{Type: "RSA PRIVATE KEY", Headers: map[string]string{"Proc-Type": "4,ENCRYPTED", "DEK-Info": "AES-128-CBC,00"}, Bytes: der(n)[:n+1]}
		got, err := read(string(pem.EncodeToMemory(want)))
		if err != nil || len(got) != 1 || !bytes.Equal(got[0].Bytes, want.Bytes) || len(got[0].Headers) != 2 || got[0].Headers["DEK-Info"] != "AES-128-CBC,00" {
			t.Fatalf("%d bytes: %v, %v", n+1, got, err)
		}
	}
}

// disguises turn a good block into one of the messes that people have.
var disguises = []func(r *rand.Rand, b string) string{
	func(_ *rand.Rand, b string) string { return b },
	func(_ *rand.Rand, b string) string { return bom + b },
	func(r *rand.Rand, b string) string { return indent(b, strings.Repeat(" ", 1+r.IntN(20))) },
	func(r *rand.Rand, b string) string {
		return indent(b, []string{"> ", ">", "| ", "# ", "; ", "* ", "\t", "\u00a0", "+ ", "- "}[r.IntN(10)])
	},
	func(_ *rand.Rand, b string) string { return utf16Of(b, binary.LittleEndian) },
	func(_ *rand.Rand, b string) string { return utf16Of(bom+b, binary.BigEndian) },
	func(_ *rand.Rand, b string) string { return strings.ReplaceAll(b, "\n", "\r\n") },
	func(_ *rand.Rand, b string) string { return strings.ReplaceAll(b, "\n", "\r") },
	func(_ *rand.Rand, b string) string { return strings.ReplaceAll(b, "\n", "") },
	func(_ *rand.Rand, b string) string { return strings.ReplaceAll(b, "\n", `\n`) },
	func(_ *rand.Rand, b string) string { return strings.TrimSuffix(b, "\n") },
	func(r *rand.Rand, b string) string {
		return strings.Replace(b, "-", strings.Repeat("-", r.IntN(3)), 1+r.IntN(20))
	},
	func(r *rand.Rand, b string) string { return b[:r.IntN(len(b))] + b[r.IntN(len(b)):] },
	func(r *rand.Rand, b string) string {
		i := r.IntN(len(b))
		return b[:i] + string(rune(r.IntN(0x3000))) + b[i:]
	},
	func(r *rand.Rand, b string) string { i := r.IntN(len(b)); return b[:i] + "\x00" + b[i:] },
	func(_ *rand.Rand, b string) string { return strings.ToLower(b[:27]) + b[27:] },
	func(r *rand.Rand, b string) string {
		return strings.ReplaceAll(b, "-----", []string{"–––––", "—————", "_____", "=====", "----", "- - - - -", ""}[r.IntN(7)])
	},
	func(_ *rand.Rand, b string) string { return strings.Replace(b, "BEGIN ", "BEGIN", 1) },
	func(_ *rand.Rand, b string) string { return base64.StdEncoding.EncodeToString([]byte(b)) },
	func(_ *rand.Rand, b string) string { return "Subject: CN=x\n" + b + "subject=/CN=y\n" },
	func(_ *rand.Rand, b string) string {
		return strings.ReplaceAll(b, "CERTIFICATE", "TRUSTED CERTIFICATE")
	},
}

// property: a block in any disguise is read, or the file is refused; it is never skipped.
// What is read equals what was written.
func property(t *testing.T, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 2))
	var text string
	n := 1 + r.IntN(4)
	for i := range n {
		text += disguises[r.IntN(len(disguises))](r, block(i))
		if r.IntN(2) == 0 {
			text += "\n"
		}
	}
	got, err := read(text)
	if err != nil {
		return // refused, aloud
	}
	if len(got) != n {
		t.Fatalf("seed %d: %d of %d blocks were read and nothing was said:\n%s", seed, len(got), n, text)
	}
}

func TestNothingIsPassedOver(t *testing.T) {
	for seed := range uint64(3000) {
		property(t, seed)
	}
}

func FuzzNothingIsPassedOver(f *testing.F) {
	f.Add(uint64(1))
	f.Fuzz(property)
}

// Any bytes: no panic, lines within the file, and at least what encoding/pem
// finds.
func FuzzEach(f *testing.F) {
	f.Add([]byte(block(1) + bom + block(2)))
	f.Add([]byte(indent(block(1), "> ")))
	f.Add([]byte("-----BEGIN A-----\nx: y\n\nAAAA\n-----END A----------BEGIN B-----\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var got []Block
		err := Each(data, func(b Block) error { got = append(got, b); return nil })
		lines := 1 + bytes.Count(data, []byte("\n")) + bytes.Count(data, []byte("\r"))
		var e *Error
		if errors.As(err, &e) && (e.Line < 1 || e.Line > lines) {
			t.Fatalf("line %d of %d", e.Line, lines)
		}
		if err != nil && !errors.Is(err, ErrNone) {
			return
		}
		n := 0
		for b, rest := pem.Decode(data); b != nil; b, rest = pem.Decode(rest) {
			if len(b.Bytes) > 0 {
				n++
			}
		}
		if n > len(got) {
			t.Fatalf("encoding/pem finds %d blocks, this %d, in %q", n, len(got), data)
		}
	})
}

func BenchmarkEach(b *testing.B) {
	text := pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der(8 << 20)})
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		if err := Each(text, func(Block) error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
}
