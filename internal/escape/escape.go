// Package escape makes text from a peer safe to show. An attacker chooses names in
// certificates, server names and first bytes, and a terminal or a log viewer obeys
// control characters, bidirectional overrides and line ends.
package escape

import (
	"strconv"
	"unicode/utf8"
)

// MaxString is the length in bytes to which a peer's string is cut if no other bound is
// given: longer than any DNS name (253) and most distinguished names.
const MaxString = 512

// String returns s with everything but printable ASCII and printable Unicode characters
// written as a Go escape (\x00, \u202e) and backslashes doubled. It cuts the result to at
// most max bytes, with "..." at the cut. max <= 0 means MaxString.
func String(s string, max int) string { return escaped(s, max, `\\`) }

// Text is String with the bound MaxString.
func Text(s string) string { return String(s, 0) }

// Shown is String for a text that is escaped already, such as a distinguished name (RFC
// 4514): a backslash stays as it is.
func Shown(s string, max int) string { return escaped(s, max, `\`) }

// escaped is String with backslash as the replacement of each backslash.
func escaped(s string, max int, backslash string) string {
	if max <= 0 {
		max = MaxString
	}
	if plain(s) && len(s) <= max {
		return s
	}
	out := make([]byte, 0, min(len(s), max)+8)
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		mark := len(out)
		switch {
		case r == utf8.RuneError && n == 1:
			out = append(out, `\x`+hex2(s[0])...)
		case r == '\\':
			out = append(out, backslash...)
		case r == '"' || strconv.IsPrint(r):
			out = append(out, s[:n]...)
		default:
			q := strconv.AppendQuoteRuneToASCII(nil, r)
			out = append(out, q[1:len(q)-1]...)
		}
		if len(out) > max {
			return string(out[:mark]) + "..."
		}
		s = s[n:]
	}
	return string(out)
}

func plain(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < 0x20 || c >= 0x7f || c == '\\' {
			return false
		}
	}
	return true
}

func hex2(b byte) string {
	const digits = "0123456789abcdef"
	return string([]byte{digits[b>>4], digits[b&15]})
}

// Original reverses String: it turns the text in a record back into what the peer sent,
// to be compared. A text that String cannot have made stays as it is, and so does the end
// of one that was cut.
func Original(s string) string {
	out := make([]byte, 0, len(s))
	for rest := s; rest != ""; {
		r, multibyte, tail, err := strconv.UnquoteChar(rest, 0)
		if err != nil {
			return s
		}
		if multibyte {
			out = utf8.AppendRune(out, r)
		} else {
			out = append(out, byte(r))
		}
		rest = tail
	}
	return string(out)
}
