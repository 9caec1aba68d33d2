package gateway

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/reason"
)

// Buffers grow with full reads, one size at a time, shrink with small ones, and
// do not flap in between.
func TestBufferSizes(t *testing.T) {
	for _, tt := range []struct{ size, k, want int }{
		{bufferSmall, 0, bufferSmall}, {bufferSmall, bufferSmall - 1, bufferSmall}, {bufferSmall, bufferSmall, bufferMiddle},
		{bufferMiddle, bufferMiddle, bufferLarge}, {bufferMiddle, bufferMiddle - 1, bufferMiddle},
		{bufferMiddle, bufferSmall/4 + 1, bufferMiddle}, {bufferMiddle, bufferSmall / 4, bufferSmall}, {bufferMiddle, 0, bufferSmall},
		{bufferLarge, bufferLarge, bufferHuge}, {bufferHuge, bufferHuge, bufferHuge},
		{bufferHuge, bufferLarge/8 + 1, bufferHuge}, {bufferHuge, bufferLarge / 8, bufferLarge}, {bufferLarge, bufferMiddle/8 + 1, bufferLarge}, {bufferLarge, bufferMiddle / 8, bufferMiddle},
	} {
		if got := fit(tt.size, tt.k, bufferHuge); got != tt.want {
			t.Errorf("%d of %d: %d, want %d", tt.k, tt.size, got, tt.want)
		}
		if got := fit(tt.size, tt.k, bufferLarge); got != min(tt.want, bufferLarge) {
			t.Errorf("%d of %d, large at most: %d", tt.k, tt.size, got)
		}
	}
	// What grew one size does not shrink at once under the same load.
	for _, size := range []int{bufferSmall, bufferMiddle, bufferLarge} {
		if bigger := fit(size, size, bufferHuge); fit(bigger, size, bufferHuge) < bigger {
			t.Errorf("from %d it grows to %d and back", size, bigger)
		}
	}
}

// However many flows were busy once and want their large buffers at the same
// time, the bound holds, and each still gets a small one.
func TestBuffersAreBounded(t *testing.T) {
	p := newBufferPool()
	const flows = 2 * lentMax / bufferLarge
	var wg sync.WaitGroup
	got := make(chan *[]byte, flows)
	for w := range 4 {
		wg.Go(func() {
			for range flows / 4 {
				got <- p.get([]int{bufferMiddle, bufferLarge, bufferLarge, bufferLarge}[w])
			}
		})
	}
	wg.Wait()
	close(got)
	sum, large, small := 0, 0, 0
	var all []*[]byte
	for b := range got {
		all = append(all, b)
		sum += len(*b)
		if len(*b) == bufferSmall {
			small += len(*b)
		} else {
			large += len(*b)
		}
	}
	if large > lentMax || large < lentMax*9/10 || small == 0 {
		t.Errorf("%d bytes of large and middle buffers, %d of small ones, %d is the bound", large, small, lentMax)
	}
	if n := p.lent.Load(); n != int64(sum) {
		t.Errorf("%d bytes counted of %d", n, sum)
	}
	for _, b := range all {
		p.put(b)
	}
	if n := p.lent.Load(); n != 0 {
		t.Errorf("%d bytes are still counted", n)
	}
}

// Huge buffers take a quarter at most; then there are large ones.
func TestHugeBuffersAreBounded(t *testing.T) {
	p := newBufferPool()
	const most = 40 << 20
	p.most.Store(most)
	var all []*[]byte
	sizes := map[int]int{}
	for range 40 {
		b := p.get(bufferHuge)
		all = append(all, b)
		sizes[len(*b)]++
	}
	if sizes[bufferHuge] != most/4/bufferHuge || sizes[bufferHuge]+sizes[bufferLarge] != 40 {
		t.Errorf("lent: %v", sizes)
	}
	p.most.Store(0)
	if b := p.get(bufferHuge); len(*b) != bufferSmall {
		t.Errorf("without room: %d bytes", len(*b))
	} else {
		p.put(b)
	}
	for _, b := range all {
		p.put(b)
	}
	if n, huge := p.lent.Load(), p.lentHuge.Load(); n != 0 || huge != 0 {
		t.Errorf("%d bytes are still counted, %d of huge ones", n, huge)
	}
	p.most.Store(bufferHuge - 1) // a quarter has room for none
	b := p.get(bufferHuge)
	if len(*b) != bufferLarge {
		t.Errorf("little room: %d bytes", len(*b))
	}
	p.put(b)
}

// Only a plain socket whose data is taken quickly is read into huge buffers.
func TestMostBuffer(t *testing.T) {
	for _, tt := range []struct {
		plain, slow bool
		want        int
	}{{false, false, bufferLarge}, {true, false, bufferHuge}, {true, true, bufferLarge}, {false, true, bufferLarge}} {
		if got := (&direction{plain: tt.plain, slow: tt.slow}).most(); got != tt.want {
			t.Errorf("%+v: %d", tt, got)
		}
	}
}

// cutConn is a side that gives one piece, and cannot be written to.
type cutConn struct {
	handshake.Conn
	gives []byte
}

func (c *cutConn) Read(b []byte) (int, error) {
	n := copy(b, c.gives)
	c.gives = c.gives[n:]
	return n, nil
}

func (*cutConn) Write([]byte) (int, error) { return 0, errors.New("cut off") }

func (*cutConn) SetReadDeadline(time.Time) error  { return nil }
func (*cutConn) SetWriteDeadline(time.Time) error { return nil }

// takes is a receiver that has taken and acknowledged the given numbers of bytes.
type takes struct{ written, acked uint64 }

func (r *takes) Written() uint64       { return r.written }
func (r *takes) Acked() (uint64, bool) { return r.acked, false }

// After a failed write the acknowledged bytes count; if they are unknown, all bytes.
func TestFailedWriteCounts(t *testing.T) {
	for _, c := range []struct {
		name string
		to   receiver
		want int64
	}{
		{"unknown", nil, 100},
		{"nothing", &takes{written: 7, acked: 7}, 0},
		{"a part", &takes{written: 7, acked: 7}, 40},
	} {
		side := func(gives []byte) relayEnd {
			return relayEnd{
				Conn: &cutConn{gives: gives}, reset: func() {}, onErr: reason.EndClientError,
				sideState: sideState{done: make(chan struct{})},
			}
		}
		r := &relay{
			pool: newBufferPool(), memory: unmeasured{}, over: make(chan struct{}), dead: make(chan struct{}), ctx: t.Context(),
			client: side(nil), dest: side(make([]byte, 100)),
		}
		r.down.aim(c.to, true)
		r.copy(&r.client, &r.dest, &r.down)
		if to, ok := c.to.(*takes); ok {
			to.written, to.acked = 107, 7+uint64(c.want)
		}
		if n := r.down.moved.Load(); n != 100 || r.down.delivered() != c.want || r.end != reason.EndClientError {
			t.Errorf("%s: %d bytes, %d delivered, end %q", c.name, n, r.down.delivered(), r.end)
		}
	}
}

// A lower bound holds from the next loan on, and can be taken back.
func TestBufferRoom(t *testing.T) {
	p := newBufferPool()
	g := &Gateway{buffers: p}
	g.SetBufferRoom(2 * bufferLarge)
	var got []*[]byte
	for range 3 {
		got = append(got, p.get(bufferLarge))
	}
	if a, b, c := len(*got[0]), len(*got[1]), len(*got[2]); a != bufferLarge || b != bufferLarge || c != bufferSmall {
		t.Errorf("%d, %d and %d bytes", a, b, c)
	}
	g.SetBufferRoom(1 << 40)
	if n := p.most.Load(); n != lentMax {
		t.Errorf("the bound is %d", n)
	}
	if b := p.get(bufferLarge); len(*b) != bufferLarge {
		t.Errorf("%d bytes", len(*b))
	}
}
