package tun

import (
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"

	"github.com/sslgate/sslgate/tun/nftname"
)

func accept() []expr.Any { return []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}} }
func drop() []expr.Any {
	return []expr.Any{&expr.Counter{}, &expr.Verdict{Kind: expr.VerdictDrop}}
}

func load(key expr.MetaKey) []expr.Any { return []expr.Any{&expr.Meta{Key: key, Register: 1}} }
func ct(key expr.CtKey) []expr.Any     { return []expr.Any{&expr.Ct{Key: key, Register: 1}} }
func proto(p byte) []expr.Any          { return concat(load(expr.MetaKeyL4PROTO), equal([]byte{p})) }

func name(key expr.MetaKey, ifc string) []expr.Any {
	return concat(load(key), equal(nftname.Interface(ifc)))
}

func family(f byte) []expr.Any { return concat(load(expr.MetaKeyNFPROTO), equal([]byte{f})) }

func port(offset uint32) []expr.Any { return transport(offset, 2) }

func network(offset, n uint32) []expr.Any {
	return []expr.Any{&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: n}}
}

// transport loads n bytes at offset in the transport header.
func transport(offset, n uint32) []expr.Any {
	return []expr.Any{&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: offset, Len: n}}
}

func equal(data []byte) []expr.Any {
	return []expr.Any{&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: data}}
}

func notEqual(data []byte) []expr.Any {
	return []expr.Any{&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: data}}
}

// bits clears the bits of the register that are not in mask.
func bits(mask []byte) []expr.Any {
	return []expr.Any{&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: uint32(len(mask)), Mask: mask, Xor: make([]byte, len(mask))}}
}

// masked matches if a bit of mask is set in the register.
func masked(mask []byte) []expr.Any { return concat(bits(mask), notEqual(make([]byte, len(mask)))) }

func in(set *nftables.Set) []expr.Any {
	return []expr.Any{&expr.Lookup{SourceRegister: 1, SetName: set.Name, SetID: set.ID}}
}

func notIn(set *nftables.Set) []expr.Any {
	return []expr.Any{&expr.Lookup{SourceRegister: 1, SetName: set.Name, SetID: set.ID, Invert: true}}
}

// setLabel adds a label to the connection and keeps its other labels
// (nf_connlabels_replace).
func setLabel(label []byte) []expr.Any {
	return []expr.Any{
		&expr.Immediate{Register: 1, Data: label},
		&expr.Ct{Key: expr.CtKeyLABELS, SourceRegister: true, Register: 1},
	}
}

func concat(parts ...[]expr.Any) []expr.Any { return slices.Concat(parts...) }
