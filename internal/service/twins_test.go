package service

import (
	"testing"

	"github.com/sslgate/sslgate/internal/config"
)

// What config says of the mark of sockets is what package tun gives them.
func TestMarksAgree(t *testing.T) {
	for _, c := range []struct{ mark, mask uint32 }{{0x20, 0x70}, {0x70, 0x70}, {0x10, 0x30}, {0x1, 0xffffffff}, {0x100, 0x500}, {0x400, 0x500}, {0x80000000, 0xf0000000}} {
		cfg := &config.Config{Capture: config.Capture{Mask: c.mask}, Dial: config.Dial{Source: "client", Mark: c.mark}}
		if a, b := cfg.DialSocketMark(), socketMark(cfg); a != uint32(b) {
			t.Errorf("mark %#x of mask %#x: config says %#x, tun %#x", c.mark, c.mask, a, b)
		}
	}
}
