package gateway

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/sslgate/sslgate/stack"
)

// The sizes of a relay buffer in bytes, by how busy its direction is.
const (
	// bufferSmall is for a direction that carries requests. A waiting direction holds
	// no buffer if its connection can report that data has come (handshake.ReadWaiter).
	bufferSmall = 4 << 10
	// bufferMiddle and bufferLarge are one and four of the largest segments that the
	// stack hands to the device in one piece, less the overhead of 4 and 16 TLS records
	// (29 bytes each). So a read that fills the buffer becomes whole segments. Downloads
	// through 64 KiB ran at half the rate.
	bufferMiddle = stack.GSOPayload - 4*29
	bufferLarge  = 4*stack.GSOPayload - 16*29
	// bufferHuge is for data from a kernel socket that a quick client takes. Fewer reads
	// mean fewer window updates, and each update may wake the sender: eight parallel
	// downloads ran at 1.3 times the rate. The buffer is written in pieces of bufferLarge,
	// so that other flows need not wait for all of it.
	bufferHuge = 32*stack.GSOPayload - 128*29
)

// slowWrite is how long the write of one buffer may take in a direction that uses huge
// buffers. A receiver that takes longer for 2 MiB gains nothing by them.
const slowWrite = 100 * time.Millisecond

// lentMax bounds the bytes that all flows together hold in middle and large buffers:
// enough for a thousand busy directions. Flows beyond the bound relay through small
// buffers, at most two each. Where memory is short, SetBufferRoom lowers the bound.
// Huge buffers take a quarter of it at most.
const lentMax = 256 << 20

// bufferPool lends relay buffers. A buffer that nobody has borrowed for two garbage
// collections is freed.
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

// get lends a buffer of size bytes, or a smaller one if too much is lent already. The
// check is made at each loan, because a flow keeps its large size long after it was busy.
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

// back subtracts size bytes from what is lent.
func (p *bufferPool) back(size int) {
	p.lent.Add(-int64(size))
	if size == bufferHuge {
		p.lentHuge.Add(-bufferHuge)
	}
}

// fit returns the size for the next read after a read of k bytes into size bytes. A full
// buffer means busy, a nearly empty one idle; a factor of eight lies between the two, so
// that sizes do not flap. most is the largest size that the direction may have.
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
