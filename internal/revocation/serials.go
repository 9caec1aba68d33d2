package revocation

import (
	"bytes"
	"crypto/sha256"
	"slices"
	"sort"
)

// maxSerial is the longest serial number in octets (RFC 5280, section 4.1.2.2).
const maxSerial = 20

// serial is a serial number, big endian, padded with zeros in front.
type serial [maxSerial]byte

// newSerial converts the content octets of a DER INTEGER. It fails for a number that is
// negative, empty or longer than maxSerial.
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

// listSerial is newSerial for the entry of a list. A number longer than maxSerial breaks
// RFC 5280, but crypto/x509 accepts certificates with one, and their revocation must be
// found: it is replaced by a digest. listSerial fails for a number that is negative or
// empty, which crypto/x509 does not accept.
func listSerial(content []byte) (serial, bool) {
	if len(content) == 0 || content[0]&0x80 != 0 {
		return serial{}, false
	}
	if content = bytes.TrimLeft(content, "\x00"); len(content) > maxSerial {
		return longSerial(content), true
	}
	return newSerial(append([]byte{0}, content...)) // the zero in front keeps newSerial from reading it as negative
}

// longSerial is the digest for a number longer than maxSerial, given big endian without
// leading zeros. No CA can choose a number that has the digest of another.
func longSerial(number []byte) serial {
	sum := sha256.Sum256(number)
	return serial(sum[:maxSerial])
}

// serials is an immutable set of serial numbers: one sorted run of octets,
// each number as wide as the longest one in the set. A million random serials
// of 16 octets cost 16 MB and no pointer for the garbage collector to follow.
type serials struct {
	width int // octets of each, 0 for the empty set
	flat  []byte

	// index gives the range of flat whose numbers share the two octets behind the common
	// ones. Without it a search in a large set would miss the cache twenty times. 256
	// KiB; nil for a small set.
	index  []uint32
	common int // number of leading octets that all numbers share
}

// indexFrom is the smallest set for which an index is worth its 256 KiB.
const indexFrom = 4096

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
	if len(list) >= indexFrom {
		s.makeIndex()
	}
	return s
}

// makeIndex fills index: entry k is the position of the first number whose two octets are
// at least k. In a set of indexFrom numbers at least two octets differ.
func (s *serials) makeIndex() {
	first, last := s.at(0), s.at(s.len()-1)
	for first[s.common] == last[s.common] && s.common < s.width-2 {
		s.common++
	}
	s.index = make([]uint32, 1<<16+1)
	next := 0
	for i := range s.len() {
		for k := s.key(s.at(i)); next <= k; next++ {
			s.index[next] = uint32(i)
		}
	}
	for ; next < len(s.index); next++ {
		s.index[next] = uint32(s.len())
	}
}

func (s *serials) at(i int) []byte { return s.flat[i*s.width : (i+1)*s.width] }

func (s *serials) key(n []byte) int { return int(n[s.common])<<8 | int(n[s.common+1]) }

// len is how many numbers there are.
func (s *serials) len() int {
	if s.width == 0 {
		return 0
	}
	return len(s.flat) / s.width
}

// has says whether the number is in the set.
func (s *serials) has(n serial) bool {
	if s.width == 0 {
		return false
	}
	for _, b := range n[:maxSerial-s.width] {
		if b != 0 {
			return false
		}
	}
	want, from, to := n[maxSerial-s.width:], 0, s.len()
	if s.index != nil {
		if !bytes.Equal(want[:s.common], s.at(0)[:s.common]) {
			return false
		}
		k := s.key(want)
		from, to = int(s.index[k]), int(s.index[k+1])
	}
	i := from + sort.Search(to-from, func(i int) bool { return bytes.Compare(s.at(from+i), want) >= 0 })
	return i < to && bytes.Equal(s.at(i), want)
}
