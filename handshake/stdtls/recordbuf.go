package stdtls

import (
	"sync"
	"sync/atomic"
)

const (
	// segmentSize is what records are gathered to, in bytes: 45 full segments
	// of 1448, one packet of segmentation offload: stack.GSOPayload, which this
	// package may not import.
	segmentSize = 45 * 1448
	// inboundSize is how much of a kernel socket is read at once while large
	// records come, in bytes: sixteen of them and the beginning of the next. With
	// four it was 0.95 of the rate.
	inboundSize = 272 << 10
	// buffersMax bounds what all connections of an engine together hold in
	// these buffers, in bytes: 2000 that send, or 480 that receive. Those over it go without,
	// a record at a time. Where memory is short the bound is lower, see
	// SetBufferRoom.
	buffersMax = 128 << 20
)

// recordBuffers lends the buffers of step 9.
type recordBuffers struct {
	out, in sync.Pool
	lent    atomic.Int64 // bytes
	room    atomic.Int64 // bytes; 0 is buffersMax
}

// SetBufferRoom bounds what all record buffers together take, in bytes, from
// the next loan on; 128 MiB, which 0 means too, is the most.
func (e *Engine) SetBufferRoom(room int64) { e.buffers.room.Store(min(room, buffersMax)) }

// RecordBuffers is what they take now, in bytes.
func (e *Engine) RecordBuffers() int64 { return e.buffers.lent.Load() }

func (r *recordBuffers) most() int64 {
	if room := r.room.Load(); room > 0 {
		return room
	}
	return buffersMax
}

// take lends a buffer of exactly size bytes, nil if too much is lent already.
func (r *recordBuffers) take(pool *sync.Pool, size int) *[]byte {
	if r.lent.Add(int64(size)) > r.most() {
		r.lent.Add(-int64(size))
		return nil
	}
	if b, ok := pool.Get().(*[]byte); ok {
		return b
	}
	b := make([]byte, size)
	return &b
}

func (r *recordBuffers) giveBack(pool *sync.Pool, b *[]byte) {
	r.lent.Add(-int64(len(*b)))
	pool.Put(b)
}
