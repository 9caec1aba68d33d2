package revocation

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/sslgate/sslgate/internal/memory"
)

// minListBytes is the least bound for a list, however small limits.memory is.
const minListBytes = 1 << 20

// ListBytes is the bound in bytes of one file or answer with lists: a sixteenth of
// ceiling, the bound of resident memory in bytes (0: none). Loading a list takes at most
// three and a quarter times its bytes (see parseTaken), so a fifth of the ceiling.
func ListBytes(ceiling int64) int64 {
	if ceiling <= 0 {
		return MaxListBytes
	}
	return min(max(ceiling/16, minListBytes), MaxListBytes)
}

const (
	// maxParses is how many lists are parsed at once, of files and of URLs each: parsing
	// one keeps a processor busy.
	maxParses = 2
	// maxFetches is how many URLs are fetched at once. A slow server holds one slot for
	// paceEvery, and blocks nothing else that waits.
	maxFetches = 64
)

// slots bound the work under way. Files and URLs have separate slots, and a fetch that
// waits for a server holds none of those for parsing.
type slots struct{ files, fetches, parses chan struct{} }

func newSlots() slots {
	return slots{files: make(chan struct{}, maxParses), fetches: make(chan struct{}, maxFetches), parses: make(chan struct{}, maxParses)}
}

// within runs f in a slot, or not at all if ctx ends first.
func within(ctx context.Context, slot chan struct{}, f func() error) error {
	select {
	case slot <- struct{}{}:
		defer func() { <-slot }()
		return f()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// read gets the lists of a source. ctx and room must be of one loan.
func (c *Checker) read(ctx context.Context, room *memory.Loan, src *source) (got loaded, err error) {
	cas := src.authority.cas()
	if !IsURL(src.location) {
		err = within(ctx, c.slots.files, func() (err error) {
			got.lists, got.file, err = readFile(ctx, room, src.authority.files(), src.location, c.o.MaxBytes, cas)
			return err
		})
		return got, unread(err)
	}
	c.mu.Lock()
	known := src.tags
	c.mu.Unlock()
	err = within(ctx, c.slots.fetches, func() (err error) {
		src.counters.fetches.Add(1)
		got.data, got.tags, err = c.fetch(ctx, room, src.location, known)
		return err
	})
	if err != nil {
		return got, unread(err)
	}
	err = within(ctx, c.slots.parses, func() (err error) {
		got.lists, err = parseTaken(ctx, room, got.data, cas)
		return err
	})
	return got, unread(err)
}

// unread marks failures of the gateway itself, which say nothing about what the source
// carries: a list larger than the bound, or for which there is no memory, has not
// vanished.
func unread(err error) error {
	if errors.Is(err, memory.ErrNoRoom) || errors.Is(err, ErrTooLarge) {
		return unreachable{err}
	}
	return err
}

const (
	// paceEvery is how often a server's progress is checked, and paceBytes how many bytes
	// it must have sent since the last check. A slow server holds a connection, and the
	// memory of the part that has come.
	paceEvery = 10 * time.Second
	paceBytes = 10 << 10
)

var errTooSlow = fmt.Errorf("the server sends less than %d bytes in %s", paceBytes, paceEvery)

// paced returns a reader of r. It calls slow when less than paceBytes have come within
// every. The caller must call stop.
func paced(r io.Reader, every time.Duration, slow func(error)) (_ io.Reader, stop func() bool) {
	p := &pacedReader{r: r}
	var last int64
	var timer *time.Timer
	start := make(chan struct{})
	timer = time.AfterFunc(every, func() {
		<-start // wait until timer is assigned
		n := p.n.Load()
		if n-last < paceBytes {
			slow(errTooSlow)
			return
		}
		last = n
		timer.Reset(every)
	})
	close(start)
	return p, timer.Stop
}

type pacedReader struct {
	r io.Reader
	n atomic.Int64
}

func (p *pacedReader) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	p.n.Add(int64(n))
	return n, err
}
