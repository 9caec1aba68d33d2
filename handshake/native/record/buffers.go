package record

import (
	"sync"
	"sync/atomic"

	"github.com/sslgate/sslgate/handshake"
)

// The sizes of the buffers that are lent, in bytes.
const (
	// oneSize has room for the largest record.
	oneSize = handshake.RecordHeader + MaxCiphertext
	// outSize is 45 full segments of 1448, one packet of segmentation offload:
	// stack.GSOPayload. Four records fill it exactly, see Writer.bulkChunk.
	outSize = 45 * 1448
	// inSize is how much of a kernel socket is read at once while large records come:
	// sixteen of them and the beginning of the next.
	inSize = 272 << 10
	// roomMax bounds what all connections of an engine together hold in these buffers.
	// Those over it go without, a record at a time.
	roomMax = 128 << 20
)

// Buffers lends the buffers of many connections. Safe for many goroutines. The zero
// value lends as much as is allowed at most, 128 MiB.
type Buffers struct {
	one, out, in sync.Pool
	lent         atomic.Int64 // bytes
	room         atomic.Int64 // bytes; 0 is roomMax
}

// SetRoom bounds what the buffers together take, in bytes, from the next loan on.
func (b *Buffers) SetRoom(room int64) { b.room.Store(min(room, roomMax)) }

// Lent is what they take now, in bytes.
func (b *Buffers) Lent() int64 { return b.lent.Load() }

// record lends room for one record. It is lent over the bound too: without it nothing
// goes on.
func (b *Buffers) record() *[]byte {
	b.lent.Add(oneSize)
	return lend(&b.one, oneSize)
}

// large lends a buffer of another size, nil if too much is lent already.
func (b *Buffers) large(pool *sync.Pool, size int) *[]byte {
	most := b.room.Load()
	if most <= 0 {
		most = roomMax
	}
	if b.lent.Add(int64(size)) > most {
		b.lent.Add(-int64(size))
		return nil
	}
	return lend(pool, size)
}

func lend(pool *sync.Pool, size int) *[]byte {
	if p, ok := pool.Get().(*[]byte); ok {
		return p
	}
	p := make([]byte, size)
	return &p
}

// back takes any of them.
func (b *Buffers) back(p *[]byte) {
	b.lent.Add(-int64(len(*p)))
	switch len(*p) {
	case oneSize:
		b.one.Put(p)
	case outSize:
		b.out.Put(p)
	case inSize:
		b.in.Put(p)
	}
}
