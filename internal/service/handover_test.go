package service

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/admin"
	"github.com/sslgate/sslgate/internal/memory"
)

// A hand-over and a status at the same moment wait for nothing of each other.
func TestHandOverAndStatus(t *testing.T) {
	h := newHouse(t)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 200 {
				if _, _, err := h.s.HandOver(admin.Offer{}); err == nil {
					t.Error("it hands over without having the steering")
				}
			}
		})
		all.Go(func() {
			for range 200 {
				h.s.Status()
				h.s.Readiness()
			}
		})
	}
	ended := make(chan struct{})
	go func() { defer close(ended); all.Wait() }()
	select {
	case <-ended:
	case <-time.After(2 * time.Minute):
		t.Fatal("they wait for each other")
	}
}

// An older process that does not speak this protocol gets a sentence, and so does a gateway
// that cannot hand over.
func TestHandOverOfOthers(t *testing.T) {
	h := newHouse(t)
	for want, protocol := range map[string]int{"by protocol 1, not 2": 2, "tun.attach": admin.HandOverProtocol} {
		lease, err := h.api.HandOver(context.Background(), admin.Offer{Protocol: protocol}, func(*admin.Terms) error { return nil })
		if err == nil {
			_ = lease.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("protocol %d: %v, want %q", protocol, err, want)
		}
	}
}

func TestRefusesMore(t *testing.T) {
	for _, c := range []struct {
		all, refused, olderAll, olderRefused uint64
		more                                 bool
	}{
		{19, 19, 1000, 0, false}, // too few to say
		{20, 20, 1000, 0, true},
		{20, 20, 0, 0, false}, // nothing to compare with
		{20, 20, 10, 0, true},
		{100, 10, 1000, 0, false}, // ten points are allowed
		{100, 11, 1000, 0, true},
		{100, 50, 1000, 200, false}, // and twice the share
		{100, 51, 1000, 200, true},
		{100, 100, 1000, 600, false}, // most were refused before
	} {
		if got := refusesMore(c.all, c.refused, c.olderAll, c.olderRefused); got != c.more {
			t.Errorf("%d of %d, before %d of %d: %v", c.refused, c.all, c.olderRefused, c.olderAll, got)
		}
	}
}

func TestDecided(t *testing.T) {
	var d decided
	at := time.Unix(1_000_000, 0)
	sum := func(want, wantRefused uint64) {
		t.Helper()
		if all, refused := d.last(at); all != want || refused != wantRefused {
			t.Errorf("%d, %d refused; want %d, %d", all, refused, want, wantRefused)
		}
	}
	sum(0, 0)
	d.add(at, 3, false)
	d.add(at, 2, true)
	sum(5, 2)
	at = at.Add(5 * time.Minute)
	d.add(at, 1, true)
	sum(6, 3)
	at = at.Add(5 * time.Minute)
	sum(1, 1)
	d.add(at, 1, false) // in the place of the first
	sum(2, 1)
	at = at.Add(24 * time.Hour)
	sum(0, 0)
}

// Both ceilings are together no more than what is configured, whatever is in use; and neither
// is so low that flows that live would have to end.
func TestShareOf(t *testing.T) {
	const mib = 1 << 20
	refused := 0
	for total := int64(128 * mib); total <= 4096*mib; total += 61 * mib {
		for inUse := int64(10 * mib); inUse <= total; inUse += 17 * mib {
			share, err := shareOf(total, total, inUse, inUse+30*mib)
			if err != nil {
				refused++
				if inUse*2 < total/2 && total > 1024*mib {
					t.Errorf("total %d MiB, %d in use: %v", total/mib, inUse/mib, err)
				}
				continue
			}
			if share < memory.MinCeiling || total-share < memory.MinCeiling || share*27/32*85/100 < inUse || share*7/8 < inUse+30*mib {
				t.Fatalf("total %d MiB, %d in use: share %d", total/mib, inUse/mib, share/mib)
			}
		}
	}
	if refused == 0 {
		t.Error("nothing was refused")
	}
	if _, err := shareOf(200*mib, 200*mib, 20*mib, 50*mib); err == nil || !strings.Contains(err.Error(), "limits.memory is 200 MiB") {
		t.Errorf("%v", err)
	}
}
