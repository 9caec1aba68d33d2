package gateway

import (
	"io"
	"sync"
	"sync/atomic"
	"testing"
)

// Bytes count while a flow lives, once each, and never fewer than before,
// whenever one asks.
func TestRelayedBytes(t *testing.T) {
	h := newHouse(t, mtls(), nil)
	alice := h.alice()
	long, err := h.tlsClient(server4, alice, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer long.Close()
	const block = 100_000
	echo := func(c io.ReadWriter) {
		if _, err := c.Write(make([]byte, block)); err != nil {
			t.Error(err)
		}
		if _, err := io.ReadFull(c, make([]byte, block)); err != nil {
			t.Error(err)
		}
	}
	echo(long)
	waitUntil(t, func() bool { up, down := h.gw.Relayed(); return up == block && down == block })

	var over atomic.Bool
	var asker, clients sync.WaitGroup
	asker.Go(func() {
		for lastUp, lastDown := h.gw.Relayed(); !over.Load(); {
			up, down := h.gw.Relayed()
			if up < lastUp || down < lastDown {
				t.Errorf("%d and %d, after %d and %d", up, down, lastUp, lastDown)
			}
			lastUp, lastDown = up, down
		}
	})
	const flows = 40
	for range 4 {
		clients.Go(func() {
			for range flows / 4 {
				c, err := h.tlsClient(server4, alice, nil)
				if err != nil {
					t.Error(err)
					return
				}
				echo(c)
				_ = c.Close()
			}
		})
	}
	clients.Wait()
	waitUntil(t, func() bool { return h.gw.Flows() == 1 })
	over.Store(true)
	asker.Wait()
	if up, down := h.gw.Relayed(); up != block*(flows+1) || down != block*(flows+1) {
		t.Errorf("%d up and %d down, want %d", up, down, block*(flows+1))
	}
	_ = long.Close()
	waitUntil(t, func() bool { return h.gw.Flows() == 0 })
	if up, down := h.gw.Relayed(); up != block*(flows+1) || down != block*(flows+1) {
		t.Errorf("after the last: %d up and %d down", up, down)
	}
	var up, down float64
	waitUntil(t, func() bool { return len(h.records.all(t)) == flows+1 })
	for _, r := range h.records.all(t) {
		up, down = up+r["bytes_up"].(float64), down+r["bytes_down"].(float64)
	}
	if up != block*(flows+1) || down != block*(flows+1) {
		t.Errorf("the records have %v and %v", up, down)
	}
}
