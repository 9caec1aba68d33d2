package gateway

import (
	"sync"
	"sync/atomic"

	"github.com/sslgate/sslgate/stack"
)

// The sizes of a relay buffer in bytes, by how busy its direction is.
const (
	// bufferSmall is for a direction that carries requests. One that waits holds
	// none, where the connection can say that something has come.
	bufferSmall = 4 << 10
	// bufferMiddle and bufferLarge are one and four of the largest segments that
	// the stack hands to the device in one piece, less what four and sixteen TLS records of 29 bytes overhead add:
	// a read that fills one becomes whole segments. Downloads through 64 KiB ran
	// at half the rate.
	bufferMiddle = stack.GSOPayload - 4*29
	bufferLarge  = 4*stack.GSOPayload - 16*29
)

// lentMax bounds what all flows together hold in middle and large buffers, in
// bytes: a thousand busy directions. Those over it relay through small ones,
// of which no flow holds more than two. Where memory is short the bound is
// lower: see SetBufferRoom.
const lentMax = 256 << 20

// bufferPool lends relay buffers. Those that nobody has borrowed for two
// garbage collections are freed.
type bufferPool struct {
	small, middle, large sync.Pool
	lent, most           atomic.Int64 // bytes
}

func newBufferPool() *bufferPool {
	p := &bufferPool{}
	p.most.Store(lentMax)
	p.small.New = func() any { b := make([]byte, bufferSmall); return &b }
	p.middle.New = func() any { b := make([]byte, bufferMiddle); return &b }
	p.large.New = func() any { b := make([]byte, bufferLarge); return &b }
	return p
}

func (p *bufferPool) of(size int) *sync.Pool {
	switch size {
	case bufferLarge:
		return &p.large
	case bufferMiddle:
		return &p.middle
	}
	return &p.small
}

// get lends a buffer of size bytes, a small one where that is too much. Asked
// at each loan: a flow remembers for long that it was busy.
func (p *bufferPool) get(size int) *[]byte {
	if p.lent.Add(int64(size)) > p.most.Load() && size > bufferSmall {
		p.lent.Add(int64(bufferSmall - size))
		size = bufferSmall
	}
	return p.of(size).Get().(*[]byte)
}

func (p *bufferPool) put(b *[]byte) {
	p.lent.Add(-int64(len(*b)))
	p.of(len(*b)).Put(b)
}

// fit is the size for the next read after one of k bytes into size: full means
// busy, little means idle. Between the two lies a factor of eight, so that sizes
// do not flap.
func fit(size, k int) int {
	switch {
	case k == size && size == bufferSmall:
		return bufferMiddle
	case k == size && size == bufferMiddle:
		return bufferLarge
	case k <= bufferMiddle/8 && size == bufferLarge:
		return bufferMiddle
	case k <= bufferSmall/4 && size == bufferMiddle:
		return bufferSmall
	}
	return size
}
