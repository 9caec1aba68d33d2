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

// minListBytes is the least that a list may have, whatever limits.memory is.
const minListBytes = 1 << 20

// ListBytes is the bound of one file or answer with lists where the resident
// memory is to stay below ceiling bytes, 0 for no bound: a sixteenth of it. Loading
// a list takes three and a quarter times its bytes at most (see parseLists), so
// it takes a fifth of the ceiling.
func ListBytes(ceiling int64) int64 {
	if ceiling <= 0 {
		return MaxListBytes
	}
	return min(max(ceiling/16, minListBytes), MaxListBytes)
}

const (
	// maxParses is how many lists are parsed at the same time, of files and of
	// URLs each: it takes a processor.
	maxParses = 2
	// maxFetches is how many URLs are asked at the same time. A server that is
	// slow holds one for paceEvery, and nothing else of those who wait.
	maxFetches = 64
)

// slots bound what is under way. Files and URLs have their own, and who waits
// for a server holds none of those for parsing.
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

// read gets the lists of a source. ctx and room are of one loan.
func (c *Checker) read(ctx context.Context, room *memory.Loan, src *source) (got loaded, err error) {
	cas := src.authority.cas()
	if !IsURL(src.location) {
		err = within(ctx, c.slots.files, func() (err error) {
			got.lists, got.file, err = readFile(ctx, room, src.location, c.o.MaxBytes, cas)
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

// unread marks the failures that are the gateway's own: they say nothing of
// what the source carries. A list that is larger than the bound, or for which
// there is no room, has not vanished.
func unread(err error) error {
	if errors.Is(err, memory.ErrNoRoom) || errors.Is(err, ErrTooLarge) {
		return unreachable{err}
	}
	return err
}

const (
	// paceEvery is how often is looked whether a server sends, and paceBytes
	// what it must have sent since: one that drips holds a connection and what
	// has come of the list.
	paceEvery = 10 * time.Second
	paceBytes = 10 << 10
)

var errTooSlow = fmt.Errorf("the server sends less than %d bytes in %s", paceBytes, paceEvery)

// paced reads r; it calls slow when less than paceBytes have come in a time.
// The caller calls stop.
func paced(r io.Reader, every time.Duration, slow func(error)) (_ io.Reader, stop func() bool) {
	p := &pacedReader{r: r}
	var last int64
	var timer *time.Timer
	start := make(chan struct{})
	timer = time.AfterFunc(every, func() {
		<-start // timer is set
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
