package member

import (
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/fleet/bundle"
	"github.com/sslgate/sslgate/internal/fleet/seal"
)

const day = 24 * time.Hour

// A clock that is a day fast: what has no end goes on, and is not fresh until the next look; what has
// one within that day has ended. Nothing older is taken: epochs do not use the clock.
func TestClockADayFast(t *testing.T) {
	o := newOffice(t)
	g := o.gate("berlin", func(opt *Options) { opt.RefuseAfter = time.Hour })
	one := o.publish(1)
	g.looks(1)
	end := g.now.Add(12 * time.Hour).Truncate(time.Second)
	right := g.now
	g.now = right.Add(day)
	if s := g.Status(); s.Fresh || !g.Refuses() {
		t.Errorf("it looks a day old: %+v", s)
	}
	g.looks(0)
	if s := g.Status(); !s.Fresh || g.Refuses() {
		t.Errorf("the source has answered: %+v", s)
	}
	o.publish(2, func(m *bundle.Manifest) { m.NotAfter = seal.Time(end) })
	g.refuses("it has ended by this clock", seal.Expired)
	g.now = right
	g.looks(2) // once the clock is right
	g.now = right.Add(day)
	g.looks(0)
	if s := g.Status(); s.Epoch != 2 || s.Fresh || !g.Refuses() {
		t.Errorf("%+v", s)
	}
	o.put(bundle.HeadName, one)
	g.refuses("an older one", seal.OlderEpoch)
	g.now = right
	o.publish(3)
	g.looks(3)
	if s := g.Status(); !s.Fresh || g.Refuses() {
		t.Errorf("%+v", s)
	}
}

// A clock that is a day slow: what has ended is taken for a day longer, and a restart counts the silence
// of the source from its start. Nothing older is taken, and silence is seen as ever.
func TestClockADaySlow(t *testing.T) {
	o := newOffice(t)
	g := o.gate("berlin", func(opt *Options) { opt.RefuseAfter = time.Hour })
	one := o.publish(1)
	end := g.now.Add(-12 * time.Hour).Truncate(time.Second)
	g.looks(1)
	g.now = g.now.Add(-day)
	g.start() // what was noted of the source lies in the future
	if _, v, err := g.Good(); err != nil || g.Took(v) != nil {
		t.Fatal(err)
	}
	if g.Refuses() {
		t.Error("it refuses though nobody knows that the source is silent")
	}
	g.now = g.now.Add(time.Hour)
	if s := g.Status(); s.Fresh || !g.Refuses() {
		t.Errorf("an hour of silence is not seen: %+v", s)
	}
	o.publish(2, func(m *bundle.Manifest) { m.NotAfter = seal.Time(end) })
	g.looks(2)
	o.put(bundle.HeadName, one)
	g.refuses("an older one", seal.OlderEpoch)
	g.now = g.now.Add(day)
	if s := g.Status(); s.Epoch != 2 || s.Fresh {
		t.Errorf("it has ended, by the right clock: %+v", s)
	}
}
