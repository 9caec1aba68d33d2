package tun

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// defrag puts fragments together. The kernel does so before it routes and
// takes them apart again, in the same sizes, when it writes them to a device.
type defrag struct {
	parts map[uint32]*parts
}

type parts struct {
	header []byte
	body   []byte
	have   int // bytes
	want   int // bytes; 0: the last fragment is not there yet
}

// add returns p if it is whole, the whole packet if p completes it, or nil.
// Fragments must not overlap.
func (d *defrag) add(p []byte) []byte {
	var id uint32
	var off, headLen int
	var more bool
	switch {
	case p[0]>>4 == 4:
		frag := binary.BigEndian.Uint16(p[6:])
		if frag&0x3fff == 0 {
			return p
		}
		id, off, more, headLen = uint32(binary.BigEndian.Uint16(p[4:])), int(frag&0x1fff)*8, frag&0x2000 != 0, int(p[0]&15)*4
	case p[0]>>4 == 6 && p[6] == unix.IPPROTO_FRAGMENT:
		frag := binary.BigEndian.Uint16(p[42:])
		if frag&0xfff9 == 0 {
			return p
		}
		id, off, more, headLen = binary.BigEndian.Uint32(p[44:]), int(frag&0xfff8), frag&1 != 0, 48
	default:
		return p
	}
	if d.parts == nil {
		d.parts = map[uint32]*parts{}
	}
	w := d.parts[id]
	if w == nil {
		w = &parts{body: make([]byte, 65536)}
		d.parts[id] = w
	}
	if off == 0 {
		w.header = append([]byte(nil), p[:headLen]...)
	}
	w.have += copy(w.body[off:], p[headLen:])
	if !more {
		w.want = off + len(p) - headLen
	}
	if w.want == 0 || w.have < w.want {
		return nil
	}
	delete(d.parts, id)
	h := w.header
	if p[0]>>4 == 4 {
		h[6], h[7] = 0, 0
	} else {
		next := h[40]
		h = h[:40]
		h[6] = next
	}
	return append(h, w.body[:w.want]...)
}
