package service

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab/testenv"
)

// says has a live flow say something and hear it.
func (h *house) says(c *tls.Conn, when string) {
	h.t.Helper()
	_ = c.SetDeadline(testenv.Deadline())
	if _, err := c.Write([]byte("still")); err != nil {
		h.t.Errorf("%s: %v", when, err)
	}
	if _, err := io.ReadFull(c, make([]byte, 5)); err != nil {
		h.t.Errorf("%s: %v", when, err)
	}
}

// Reloads that are refused, for want of memory, for the size of what they would
// read, because the gateway stops: live flows go on, and nothing stays borrowed.
func TestRefusedReloadCostsNothing(t *testing.T) {
	testenv.Slow(t)
	h := newHouse(t)
	h.asWritten("")
	flow := h.good()
	defer flow.Close()

	_, all := h.s.memory.Borrow(context.Background())
	for n := int64(1 << 34); n >= 1<<12; n /= 2 {
		for all.Take(n) == nil {
		}
	}
	wanted := func(want ...string) {
		t.Helper()
		h.s.mu.Lock()
		defer h.s.mu.Unlock()
		if !slices.Equal(h.s.wanted, want) {
			t.Errorf("%q is looked at, not %q", h.s.wanted, want)
		}
	}
	// What was not read within the loan is not read without it, to see what it names.
	h.s.mu.Lock()
	h.s.wanted = []string{"of before"}
	h.s.mu.Unlock()
	h.reload(false, "limits.memory has no room")
	wanted("of before")
	again := func(ctx context.Context, want bool) {
		t.Helper()
		_, err := h.s.Reload(ctx)
		var l looks
		if l.after(time.Now(), err); l.retry.IsZero() == want {
			t.Errorf("tried again: %v, after %v", !want, err)
		}
	}
	again(context.Background(), true)
	late, cancel := context.WithDeadline(context.Background(), time.Now())
	defer cancel()
	again(late, true)
	h.says(flow, "without room")
	all.Return()
	h.reload(true, "")

	stopped, stop := context.WithCancel(context.Background())
	stop()
	if _, err := h.s.Reload(stopped); err == nil || !strings.Contains(err.Error(), "not read to its end") {
		t.Errorf("a reload of a gateway that stops: %v", err)
	}
	wanted()
	again(stopped, false)
	again(context.Background(), false) // a good one

	list := "[" + strings.TrimSuffix(strings.Repeat("\"10.0.0.1:443\", ", 4000), ", ") + "]"
	for name, text := range map[string]string{
		"aliases":  strings.Replace(houseConfig, "rules:\n", "rules:\n    - {name: many, action: deny, to: &to "+list+"}\n"+strings.Repeat("    - {name: r, action: deny, to: *to}\n", 4000), 1),
		"values":   strings.Replace(houseConfig, "rules:\n", "rules:\n"+strings.Repeat("    - {name: r, action: deny, to: [a, b, c, d, e]}\n", 60_000), 1),
		"mistakes": strings.Replace(houseConfig, "rules:\n", "rules:\n"+strings.Repeat("    - {nam: r}\n", 60_000), 1),
		"depth":    houseConfig + "x: " + strings.Repeat("[", 400_000),
	} {
		h.put("sslgate.yaml", 0o644, []byte(text))
		res, taken, err := h.api.Reload(context.Background())
		if err != nil || taken || len(res.Findings) > 210 {
			t.Errorf("%s: %v %v, %d findings", name, taken, err, len(res.Findings))
		}
		h.says(flow, name)
	}
	if st := h.s.memory.Stats(); st.Lent != 0 || st.Shed != 0 {
		t.Errorf("%+v", st)
	}
	h.put("sslgate.yaml", 0o644, []byte(houseConfig))
	h.reload(true, "")
	h.says(flow, "after a good one")
}

// A list for which there is no room is said, and no flow ends for it.
func TestListWithoutRoom(t *testing.T) {
	testenv.Slow(t)
	h := newHouse(t)
	flow := h.good()
	defer flow.Close()
	_, all := h.s.memory.Borrow(context.Background())
	defer all.Return()
	for n := int64(1 << 34); n >= 64; n /= 2 {
		for all.Take(n) == nil {
		}
	}
	text, err := os.ReadFile(filepath.Join(h.dir, "staff.crl"))
	if err != nil {
		t.Fatal(err)
	}
	h.put("staff.crl.new", 0o644, append(text, '\n'))
	if err := os.Rename(filepath.Join(h.dir, "staff.crl.new"), filepath.Join(h.dir, "staff.crl")); err != nil {
		t.Fatal(err)
	}
	h.await(func() bool {
		r := h.s.Readiness()
		return r.Ready && strings.Contains(fmt.Sprint(r.Reasons), "what is there now was not taken: limits.memory has no room")
	})
	h.says(flow, "without room for a list")
	all.Return()
	h.await(func() bool { return !strings.Contains(fmt.Sprint(h.s.Readiness().Reasons), "was not taken") })
}
