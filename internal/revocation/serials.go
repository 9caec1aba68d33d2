package revocation

import (
	"bytes"
	"slices"
	"sort"
)

// maxSerial is the longest serial number in octets (RFC 5280, section 4.1.2.2).
const maxSerial = 20

// serial is a serial number, big endian, padded with zeros in front.
type serial [maxSerial]byte

// newSerial takes the content octets of a DER INTEGER. It fails for a number
// that is negative, empty or longer than maxSerial: no certificate that
// crypto/x509 reads has such a number.
func newSerial(content []byte) (s serial, ok bool) {
	if len(content) == 0 || content[0]&0x80 != 0 {
		return s, false
	}
	content = bytes.TrimLeft(content, "\x00")
	if len(content) > maxSerial {
		return s, false
	}
	copy(s[maxSerial-len(content):], content)
	return s, true
}

// serials is an immutable set of serial numbers: one sorted run of octets,
// each number as wide as the longest one in the set. A million random serials
// of 16 octets cost 16 MB and no pointer for the garbage collector to follow.
type serials struct {
	width int // octets of each, 0 for the empty set
	flat  []byte
}

// newSerials sorts list in place and drops repeated numbers.
func newSerials(list []serial) serials {
	compare := func(a, b serial) int { return bytes.Compare(a[:], b[:]) }
	if !slices.IsSortedFunc(list, compare) {
		slices.SortFunc(list, compare)
	}
	list = slices.Compact(list)
	if len(list) == 0 {
		return serials{}
	}
	longest := list[len(list)-1]
	s := serials{width: max(1, len(bytes.TrimLeft(longest[:], "\x00")))}
	s.flat = make([]byte, 0, len(list)*s.width)
	for i := range list {
		s.flat = append(s.flat, list[i][maxSerial-s.width:]...)
	}
	return s
}

// len is how many numbers there are.
func (s serials) len() int {
	if s.width == 0 {
		return 0
	}
	return len(s.flat) / s.width
}

// has says whether the number is in the set.
func (s serials) has(n serial) bool {
	for _, b := range n[:maxSerial-s.width] {
		if b != 0 {
			return false
		}
	}
	want := n[maxSerial-s.width:]
	i := sort.Search(s.len(), func(i int) bool { return bytes.Compare(s.flat[i*s.width:(i+1)*s.width], want) >= 0 })
	return i < s.len() && bytes.Equal(s.flat[i*s.width:(i+1)*s.width], want)
}
