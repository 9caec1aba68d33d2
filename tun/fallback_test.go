package tun

import (
	"strings"
	"testing"
)

// If another queue was opened before without the header, the kernel silently ignores the
// request for one; only TUNGETIFF shows it. Open finds that out beforehand, says who
// holds the device, and works without offload.
func TestHeaderThatTheKernelForgets(t *testing.T) {
	n := newNS(t, "gateway")
	n.run("ip tuntap add dev t0 mode tun multi_queue")
	owner := openIn(t, n, Config{Name: "t0", Attach: true, Offload: OffloadOff})
	n.do(func() error {
		cfg := Config{Name: "t0", Attach: true}
		d := &Device{name: cfg.Name, attach: true}
		existing, err := d.find(&cfg)
		if err != nil {
			return err
		}
		if err := d.openOffloaded(&cfg, existing); err == nil || !strings.Contains(err.Error(), "did not give the queue a virtio-net header") {
			t.Errorf("the flags were not looked at: %v, offload %v", err, d.offload)
		}
		return nil
	})
	d := openIn(t, n, Config{Name: "t0", Attach: true})
	if d.Offload() || !strings.Contains(d.OffloadReason(), "in use without virtio-net header (held by") {
		t.Errorf("offload %v, reason %q", d.Offload(), d.OffloadReason())
	}
	_ = owner.Close()
	_ = d.Close()
	if d := openIn(t, n, Config{Name: "t0", Attach: true}); !d.Offload() {
		t.Errorf("alone on the device: %s", d.OffloadReason())
	}
}
