package revocation

import (
	"io"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/lab/testpki"
)

// Staleness is logged before it happens: once at two thirds of the lifetime, once a day
// before, and once when it has happened, which also raises the epoch.
func TestWarnings(t *testing.T) {
	w := newWorld(t)
	clk := &clock{now: w.now}
	log, logs := logged()
	path := file(t, t.TempDir(), "x.crl", w.crl(t, w.root, crl{number: 1, from: -time.Hour, to: 10*24*time.Hour - time.Hour}))
	k := checker(t, Options{Log: log, Now: clk.Now, Poll: 2 * time.Millisecond}, w.authority(Soft, path))
	running(t, k)
	soon := func() int { return logs.FilterMessage("revocation list expires soon and there is no newer one").Len() }
	gone := func() int { return logs.FilterMessage("revocation list expired").Len() }
	time.Sleep(30 * time.Millisecond)
	if soon() != 0 || gone() != 0 || k.Stats().Authorities["staff"].Lists[0].State != "fresh" {
		t.Fatalf("too early: %v", logs.All())
	}
	clk.add(7 * 24 * time.Hour)
	testenv.Eventually(t, "the first warning", func() bool { return soon() == 1 })
	clk.add(2*24*time.Hour + time.Minute)
	testenv.Eventually(t, "the second warning", func() bool { return soon() == 2 })
	epoch := k.Epoch()
	clk.add(24 * time.Hour)
	testenv.Eventually(t, "the error", func() bool { return gone() == 1 })
	testenv.Eventually(t, "a new epoch", func() bool { return k.Epoch() == epoch+1 })
	time.Sleep(30 * time.Millisecond)
	if soon() != 2 || gone() != 1 || k.Epoch() != epoch+1 {
		t.Errorf("said again: %v", logs.All())
	}
	f := logs.FilterMessage("revocation list expired").All()[0].ContextMap()
	if f["authority"] != "staff" || f["revocation"] != "soft" || f["source"] != path {
		t.Errorf("fields %v", f)
	}
}

// A list with a short lifetime is fetched again before it ends.
func TestSchedule(t *testing.T) {
	w := newWorld(t)
	list := func(from, to time.Duration) []*List {
		return testpki.Must(ParseLists(w.crl(t, w.root, crl{number: 1, from: from, to: to}), w.cas()))
	}
	for _, c := range []struct {
		name   string
		lists  []*List
		err    error
		fails  int
		lo, hi time.Duration
	}{
		{"long life", list(0, 1000*time.Hour), nil, 0, 54 * time.Minute, 66 * time.Minute},
		{"short life", list(-time.Second, 15*time.Minute), nil, 0, 9 * time.Minute, 11 * time.Minute},
		{"late", list(-time.Hour, 20*time.Minute), nil, 0, 4*time.Minute + 30*time.Second, 5*time.Minute + 30*time.Second},
		{"expired", list(-2*time.Hour, -time.Hour), nil, 0, 54 * time.Second, 66 * time.Second},
		{"first failure", nil, io.EOF, 0, 9 * time.Second, 11 * time.Second},
		{"third failure", nil, io.EOF, 2, 36 * time.Second, 44 * time.Second},
		{"hundredth failure", nil, io.EOF, 99, 810 * time.Second, 990 * time.Second},
	} {
		s := &source{authority: &Authority{}, lists: c.lists, err: c.err, fails: c.fails}
		s.schedule(w.now)
		if d := s.due.Sub(w.now); d < c.lo || d > c.hi {
			t.Errorf("%s: in %s", c.name, d)
		}
	}
}
