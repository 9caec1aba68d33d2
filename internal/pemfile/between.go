package pemfile

import (
	"bytes"
	"encoding/asn1"
	"errors"
	"strings"
	"unicode"
	"unicode/utf8"
)

// kinds are words in the labels of PEM blocks (RFC 7468, sections 4 to 13, and OpenSSL's
// own).
var kinds = []string{"CERTIFICATE", "CRL", "KEY", "PKCS", "CMS", "REQUEST", "PARAMETERS", "PGP", "SSH"}

// between checks a line outside of all blocks: it is a comment, or was meant to be part
// of a block.
func (r *reader) between(l []byte) error {
	if len(l) == 0 {
		return nil
	}
	if seen := disguised(l); seen != "" {
		return r.failf(r.line, "%s looks like a line %q but is none%s", quote(string(l)), seen, remedy(l, seen))
	}
	if r.bare.add(l) {
		return r.failf(r.line-r.bare.lines+1, "base64 text outside of a block, %s: a line %sCERTIFICATE%s (or of what else it is) is missing before it; a comment cannot be made of it",
			quote(string(l)), begin, dashes)
	}
	if i := bytes.IndexFunc(l, func(c rune) bool { return c < 0x20 && c != '\t' && c != '\v' && c != '\f' }); i >= 0 && (len(l) > 1 || l[0] != 0x1a || len(r.data) > 0) {
		return r.failf(r.line, "binary data (a byte %#02x): PEM is text. Where a file in DER was appended, take that out and convert it by itself", l[i])
	}
	return nil
}

// disguised says whether a person would take the line for "-----BEGIN ..." or "-----END
// ..." although it is not exactly that: it has other dashes or letters, fewer dashes, or
// something in front or behind. It returns "-----BEGIN " or "-----END ", or "".
func disguised(l []byte) string {
	// Quick for nearly every line, which has neither word.
	if !mayHide(l) {
		return ""
	}
	var b strings.Builder
	for _, c := range string(l) {
		switch {
		case unicode.Is(unicode.Pd, c), c == '\u2212', c == '\u2043', c == '_', c == '=', c == '~', c == '\u2500', c == '\u00af':
			b.WriteByte('-')
		case unicode.Is(unicode.Cf, c), unicode.Is(unicode.Mn, c), c == utf8.RuneError:
		case unicode.IsSpace(c):
			b.WriteByte(' ')
		case c >= utf8.RuneSelf:
			b.WriteRune(latin(unicode.ToUpper(c)))
		default:
			b.WriteRune(c)
		}
	}
	text := []byte(b.String())
	upper := bytes.Clone(text)
	for i, c := range upper {
		if c >= 'a' && c <= 'z' {
			upper[i] = c - 'a' + 'A'
		}
	}
	for _, word := range []string{"BEGIN", "END"} {
		for at := 0; ; at += len(word) {
			i := bytes.Index(upper[at:], []byte(word))
			if i < 0 {
				break
			}
			at += i
			after := upper[at+len(word):]
			// A hundred bytes on each side are enough, and keep this linear.
			if marked(string(upper[max(0, at-100):at]), string(after[:min(len(after), 100)]), string(text[at:at+len(word)]) == word) {
				return dashes + word + " "
			}
		}
	}
	return ""
}

// marked says whether the text around the word makes it a marker: dashes on one side and
// a kind of block behind it. as says that the word is in capitals.
func marked(before, after string, as bool) bool {
	if strings.HasSuffix(before, dashes) && strings.HasPrefix(after, " ") && strings.Contains(after, "--") {
		return true // whatever the kind of block
	}
	label, _, closed := strings.Cut(after, "--")
	kind, joined := false, false
	for _, k := range kinds {
		kind = kind || strings.Contains(label, k)
		joined = joined || strings.HasPrefix(label, k)
	}
	switch {
	case !kind || !joined && !strings.HasPrefix(label, " "):
		return false
	case strings.HasSuffix(before, "-"):
		return true
	case !as: // "--- end of the keys ---", a comment
		return false
	case closed, strings.HasSuffix(strings.TrimRight(before, " "), "-"):
		return true
	}
	// No dashes: then the line must be only the word and the kind.
	return strings.Trim(before, " >|#*;:") == "" && len(strings.Fields(label)) <= 3 && !strings.ContainsAny(label, ":.,;()")
}

// mayHide says whether a line can contain one of the words, in letters of any script.
func mayHide(l []byte) bool {
	for _, c := range l {
		if c >= utf8.RuneSelf {
			return true
		}
	}
	upper := bytes.ToUpper(l)
	return bytes.Contains(upper, []byte("BEGIN")) || bytes.Contains(upper, []byte("END"))
}

// latin returns the Latin capital that a letter looks like.
func latin(c rune) rune {
	if c >= 'Ａ' && c <= 'Ｚ' { // full width
		return c - 'Ａ' + 'A'
	}
	const other, same = "ВЕІІΒΕΙΝΝСТАКΚРΡХΧУΥОΟМΜΤΑΖНΗЅ", "BEIIBEINNCTAKKPPXXYYOOMMTAZHHS"
	for i, o := range []rune(other) {
		if o == c {
			return rune(same[i])
		}
	}
	return c
}

// remedy says what to do about such a line.
func remedy(l []byte, marker string) string {
	i := bytes.Index(l, []byte(strings.TrimSpace(marker)))
	switch {
	case i > 0 && bytes.IndexByte(l[:i], '>') >= 0:
		return ": it is quoted, as in a mail: take the quotes off with `(umask 077; sed 's/^[> ]*//' FILE > NEWFILE)`"
	case i > 0 && (l[0] == '#' || l[0] == ';'):
		return ": a PEM file has no comments: take the block out, or the comment sign off"
	case bytes.Contains(l, []byte(`\n`)):
		return ": its line ends are written as \\n: make lines of it with `(umask 077; printf '%b' \"$(cat FILE)\" > NEWFILE)`"
	case i >= 0 && bytes.Count(l, []byte(dashes)) > 2:
		return ": put it on a line of its own"
	}
	return `: it must stand alone in its line, five "-" (hyphen-minus) on each side`
}

func isHeader(name []byte) bool {
	name = bytes.TrimSpace(name)
	for _, c := range name {
		if (c|0x20 < 'a' || c|0x20 > 'z') && c != '-' && (c < '0' || c > '9') {
			return false
		}
	}
	return len(name) > 0 && len(name) <= 64
}

// run is consecutive lines outside of blocks that have only base64 text.
type run struct {
	lines, length int
	other         bool // it has more than the hexadecimal digits of a fingerprint
}

// enough is the length of base64 text that cannot be a word any more: less than two lines
// of a block.
const enough = 60

// longest returns the length of the longest piece of base64 text in a line, 0
// if that is a hexadecimal number.
func longest(l []byte) int {
	best, n, other := 0, 0, false
	for _, c := range l {
		lower := c | 0x20
		switch {
		case c >= '0' && c <= '9', lower >= 'a' && lower <= 'z', c == '+', c == '/', c == '=':
			n++
			other = other || lower >= 'g' && lower <= 'z'
			if other {
				best = max(best, n)
			}
		default:
			n, other = 0, false
		}
	}
	return best
}

// add adds a line and says whether the run is too long. Signs of quotes and comments in
// front of the text are skipped.
func (u *run) add(l []byte) bool {
	if longest(l) >= 3*enough {
		u.lines = 1
		return true
	}
	l = bytes.TrimRight(bytes.TrimLeft(l, ">|#*;:+\"' \t"), "\"', \t\\")
	other := false
	for _, c := range l {
		switch {
		case c >= '0' && c <= '9', c|0x20 >= 'a' && c|0x20 <= 'f':
		case c|0x20 >= 'g' && c|0x20 <= 'z', c == '+', c == '/':
			other = true
		case c == '=':
		default:
			*u = run{}
			return false
		}
	}
	if bytes.Trim(l, "=") == nil || len(bytes.Trim(l, "=/+")) == 0 { // a line drawn as decoration
		*u = run{}
		return false
	}
	u.lines, u.length, u.other = u.lines+1, u.length+len(l), u.other || other
	return u.length >= enough && u.other
}

// notText returns an error that says what the file is, if it is not text.
func notText(data []byte) error {
	i := bytes.IndexByte(data, 0)
	utf16 := bytes.HasPrefix(data, []byte("\xff\xfe")) || bytes.HasPrefix(data, []byte("\xfe\xff"))
	switch {
	case len(bytes.TrimSpace(data)) == 0:
		return errors.New("is empty")
	case i < 0 && !utf16:
		return nil
	case isDER(data):
		return ErrNone
	}
	i = max(i, 0)
	line := bytes.Count(data[:i], []byte("\n")) + 1
	// In UTF-16 every other byte of plain text is 0.
	part := data[i:min(len(data), i+64)]
	if utf16 || len(part) > 2 && bytes.Count(part, []byte{0})*3 >= len(part) {
		return &Error{line, "UTF-16 text begins here: save the file as UTF-8, or convert it with `(umask 077; iconv -f UTF-16 -t UTF-8 FILE > NEWFILE)`; where a shell has appended to a file in another encoding, write it anew"}
	}
	return &Error{line, "a NUL byte: PEM is text. Where a file in DER was appended, take that out and convert it by itself"}
}

// isDER says whether the data is one element in DER.
func isDER(data []byte) bool {
	var v asn1.RawValue
	rest, err := asn1.Unmarshal(data, &v)
	return err == nil && v.Tag == asn1.TagSequence && len(rest) == 0
}
