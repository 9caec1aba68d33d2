package gateway

import (
	"sync"
	"sync/atomic"
	"time"

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
	// bufferHuge is for data of a kernel socket that a quick client takes: the
	// fewer reads, the fewer window updates, each of which may wake the sender.
	// Eight downloads at once ran at 1.3 of the rate. It is written in pieces of
	// bufferLarge, so that other flows need not wait for all of it.
	bufferHuge = 32*stack.GSOPayload - 128*29
)

// slowWrite is how long the writing of one buffer may take in a direction that
// has huge ones: who takes 2 MiB more slowly gains nothing by them.
const slowWrite = 100 * time.Millisecond

// lentMax bounds what all flows together hold in middle and large buffers, in
// bytes: a thousand busy directions. Those over it relay through small ones,
// of which no flow holds more than two. Where memory is short the bound is
// lower: see SetBufferRoom. Huge buffers take a quarter of it at most.
const lentMax = 256 << 20

// bufferPool lends relay buffers. Those that nobody has borrowed for two
// garbage collections are freed.
type bufferPool struct {
	small, middle, large, huge sync.Pool
	lent, most                 atomic.Int64 // bytes
	lentHuge                   atomic.Int64 // of lent
}

func newBufferPool() *bufferPool {
	p := &bufferPool{}
	p.most.Store(lentMax)
	p.small.New = func() any { b := make([]byte, bufferSmall); return &b }
	p.middle.New = func() any { b := make([]byte, bufferMiddle); return &b }
	p.large.New = func() any { b := make([]byte, bufferLarge); return &b }
	p.huge.New = func() any { b := make([]byte, bufferHuge); return &b }
	return p
}

func (p *bufferPool) of(size int) *sync.Pool {
	switch size {
	case bufferHuge:
		return &p.huge
	case bufferLarge:
		return &p.large
	case bufferMiddle:
		return &p.middle
	}
	return &p.small
}

// get lends a buffer of size bytes, a smaller one where that is too much. Asked
// at each loan: a flow remembers for long that it was busy.
func (p *bufferPool) get(size int) *[]byte {
	most := p.most.Load()
	if size == bufferHuge && p.lentHuge.Add(bufferHuge) > most/4 {
		p.lentHuge.Add(-bufferHuge)
		size = bufferLarge
	}
	if p.lent.Add(int64(size)) > most && size > bufferSmall {
		p.back(size)
		size = bufferSmall
		p.lent.Add(bufferSmall)
	}
	return p.of(size).Get().(*[]byte)
}

func (p *bufferPool) put(b *[]byte) {
	p.back(len(*b))
	p.of(len(*b)).Put(b)
}

// back takes size bytes off what is lent.
func (p *bufferPool) back(size int) {
	p.lent.Add(-int64(size))
	if size == bufferHuge {
		p.lentHuge.Add(-bufferHuge)
	}
}

// fit is the size for the next read after one of k bytes into size: full means
// busy, little means idle. Between the two lies a factor of eight, so that sizes
// do not flap. most is the largest that the direction may have.
func fit(size, k, most int) int {
	switch {
	case size > most:
		return most
	case k == size && size == bufferLarge:
		return most
	case k <= bufferLarge/8 && size == bufferHuge:
		return bufferLarge
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
