package gateway

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/sslgate/sslgate/internal/lab/testenv"
)

// While the policy is too old, no new flow begins; the held ones go on.
func TestStaleRefusesNewFlows(t *testing.T) {
	t.Parallel()
	var stale atomic.Bool
	h := newHouse(t, mtls(), nil, func(c *Config) { c.Stale = stale.Load })
	held, err := h.tlsClient(server4, h.alice(), nil)
	if err != nil {
		t.Fatal(err)
	}
	stale.Store(true)
	ctx, cancel := context.WithTimeout(t.Context(), testenv.Patience())
	defer cancel()
	if c, err := h.client.Dial(ctx, server4); err == nil {
		_ = c.Close()
		t.Error("a new flow begins")
	}
	if r := h.record(1); r.str("reason") != "fleet_stale" || r.str("verdict") != "refused" {
		t.Errorf("%v", r)
	}
	stale.Store(false)
	if err := h.one(t); err != nil {
		t.Errorf("fresh again: %v", err)
	}
	if err := held.Close(); err != nil {
		t.Errorf("the held one: %v", err)
	}
}
