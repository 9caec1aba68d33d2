package handshaketest

import "github.com/sslgate/sslgate/handshake"

// ids are n numbers that nobody has assigned.
func ids(n int) []uint16 {
	out := make([]uint16, n)
	for i := range out {
		out[i] = uint16(0x4000 + i)
	}
	return out
}

// oneByteShares are key shares of one byte each.
func oneByteShares(groups []uint16) []byte {
	var list []byte
	for _, g := range groups {
		list = append(list, byte(g>>8), byte(g), 0, 1, 0)
	}
	return Prefixed(list...)
}

func alpnData(n int) []byte {
	var list []byte
	for i := range n {
		list = append(list, 3, 'p', byte(i>>8), byte(i))
	}
	return Prefixed(list...)
}

// emptyExtensions adds n extensions without content.
func (h *Hello) emptyExtensions(n int) *Hello {
	for i := range n {
		h = h.With(uint16(0x4000+i), nil)
	}
	return h
}

// CappedList is a list of a hello that has a cap.
type CappedList struct {
	Name string // of the list
	Cap  int    // entries that are allowed
	Most int    // entries that fit a hello
	// Make is a hello with n entries in the list.
	Make func(n int) *Hello
}

// CappedLists returns all of them. The caps are those in the documentation.
func CappedLists() []CappedList {
	return []CappedList{
		{"CipherSuites", 512, 32000, func(n int) *Hello {
			h := GoodHello()
			h.Suites = append(ids(n-1), 0x1301)
			return h
		}},
		{"extensions", 128, 16000, func(n int) *Hello {
			h := GoodHello()
			return h.emptyExtensions(n - len(h.Exts))
		}},
		{"groups", 128, 30000, func(n int) *Hello {
			return GoodHello().With(handshake.ExtSupportedGroups, List16(append(ids(n-1), 29)...))
		}},
		{"key shares", 32, 9300, func(n int) *Hello {
			groups := ids(n)
			return GoodHello().With(handshake.ExtSupportedGroups, List16(groups...)).With(handshake.ExtKeyShare, oneByteShares(groups))
		}},
		{"key shares, supported_groups after them", 32, 9300, func(n int) *Hello {
			groups := ids(n)
			return GoodHello().Without(handshake.ExtSupportedGroups).Without(handshake.ExtKeyShare).With(handshake.ExtKeyShare, oneByteShares(groups)).With(handshake.ExtSupportedGroups, List16(groups...))
		}},
		{"signature_algorithms", 128, 30000, func(n int) *Hello {
			return GoodHello().With(handshake.ExtSignatureAlgorithms, List16(append(ids(n-1), 0x0403)...))
		}},
		{"signature_algorithms_cert", 128, 30000, func(n int) *Hello {
			return GoodHello().With(handshake.ExtSignatureAlgsCert, List16(ids(n)...))
		}},
		{"ALPN", 64, 16000, func(n int) *Hello { return GoodHello().With(handshake.ExtALPN, alpnData(n)) }},
		{"pre-shared keys", 32, 1400, func(n int) *Hello {
			return GoodHello().With(handshake.ExtPSKModes, []byte{1, 1}).With(handshake.ExtPreSharedKey, PSKData(n, n))
		}},
		{"binders alone", 32, 1800, func(n int) *Hello {
			return GoodHello().With(handshake.ExtPSKModes, []byte{1, 1}).With(handshake.ExtPreSharedKey, PSKData(min(n, 32), n))
		}},
	}
}
