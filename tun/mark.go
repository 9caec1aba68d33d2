package tun

import (
	"encoding/binary"
	"fmt"

	"github.com/google/nftables/expr"
)

// The firewall mark of a packet has 32 bits. All programs on a host share them, and most
// own only some (docs/architecture.md has the table). So a mark of ours is a value within
// SteerConfig.Mask: we set and compare only the bits of the mask.

// nextMark is the value after mark within mask, 0 if there is none.
func nextMark(mark, mask uint32) uint32 { return ((mark | ^mask) + 1) & mask }

// SocketMark is the mark (SO_MARK) of sockets that connect under a client's address: the
// value after ReturnMark within Mask.
func (c *SteerConfig) SocketMark() uint32 { return nextMark(c.ReturnMark, c.Mask) }

func (c *SteerConfig) checkMark() error {
	switch {
	case c.Mark == 0:
		return fmt.Errorf("mark 0 is what every other packet has")
	case c.Mark&^c.Mask != 0:
		return fmt.Errorf("mark %#x has bits outside of the mask %#x", c.Mark, c.Mask)
	}
	return nil
}

// isMark matches packets with our mark m, whatever their other bits are.
func (b *tableBuilder) isMark(m uint32) []expr.Any {
	return concat(load(expr.MetaKeyMARK), bits(native32(b.cfg.Mask)), equal(native32(m)))
}

// setMark gives a packet our mark m and leaves its other bits as they are.
func (b *tableBuilder) setMark(m uint32) []expr.Any {
	return concat(load(expr.MetaKeyMARK), []expr.Any{
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: native32(^b.cfg.Mask), Xor: native32(m)},
		&expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: 1},
	})
}

func native32(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }
