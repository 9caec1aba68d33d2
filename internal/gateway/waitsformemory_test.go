package gateway

import (
	"io"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/reason"
)

// A relay that waits for memory is not quiet: what the destination has sent
// meanwhile arrives, whatever ends a relay through which nothing moves.
func TestWaitingForMemoryIsNotQuiet(t *testing.T) {
	t.Parallel()
	const quiet = time.Second // at most, of all limits here
	for _, c := range []struct {
		name string
		fin  string // how the client ends its own direction, "" not at all
		end  reason.Code
		set  func(*Limits)
	}{
		{"a FIN without close_notify", "FIN", reason.EndNoNotify, func(*Limits) {}},
		{"limits.half_closed", "close_notify", reason.EndClean, func(l *Limits) { l.HalfClosed = quiet }},
		{"limits.idle", "", "", func(l *Limits) { l.Idle = quiet }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := &room{}
			h, origins := endsHouse(t, "terminated", func(cfg *Config) { cfg.Memory = r; c.set(&cfg.Limits) })
			client := h.endsDial("terminated", 0)
			origin := <-origins
			if _, err := client.conn().Write([]byte("ask")); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(origin.conn(), make([]byte, 3)); err != nil {
				t.Fatal(err)
			}
			shut := make(chan struct{})
			r.shut.Store(&shut)
			const size = 256 << 10
			if _, err := origin.conn().Write(make([]byte, size)); err != nil {
				t.Fatal(err)
			}
			origin.finish("FIN")
			h.until("the relay waits for memory", func() bool { return r.waits.Load() > 0 })
			if c.fin != "" {
				client.finish(c.fin)
			}
			time.Sleep(2*max(quiet, bareGrace) + quiet/2) // a limit of time has to pass
			if r.waits.Load() == 0 {
				t.Error("the relay was ended while it waited")
			}
			r.shut.Store(nil)
			close(shut)
			if got, end := client.read(); len(got) != size || end != "orderly" {
				t.Errorf("%d bytes of %d, then %s", len(got), size, end)
			}
			if c.fin == "" {
				client.finish("close_notify")
			}
			_ = client.raw.Close()
			origin.over()
			// limits.idle is as short afterwards.
			if got := h.record(1).str("end"); c.end != "" && got != string(c.end) {
				t.Errorf("end %s, want %s", got, c.end)
			}
		})
	}
}
