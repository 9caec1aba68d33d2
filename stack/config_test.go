package stack

import (
	"context"
	"strings"
	"testing"
	"time"
)

type nothing struct{ mtu int }

func (nothing) ReadBatch([][][]byte, []int) (int, error) { return 0, nil }
func (nothing) WriteBatch([][][]byte) (int, error)       { return 0, nil }
func (n nothing) MTU() int                               { return n.mtu }
func (nothing) Offload() bool                            { return false }
func (nothing) Close() error                             { return nil }
func (nothing) OnSYN(SYN) SYNAnswer                      { return SYNReset }
func (nothing) HandleFlow(context.Context, *Flow)        {}

func TestConfig(t *testing.T) {
	dev := nothing{1500}
	for _, tc := range []struct {
		name string
		cfg  Config
		want []string // in the error; none if it is good
	}{
		{"minimal", Config{Device: dev, Handler: dev, Ports: []uint16{443}}, nil},
		{"all ports", Config{Device: dev, Handler: dev, AllPorts: true}, nil},
		{"nothing", Config{}, []string{"no device", "no handler", "no ports"}},
		{"both", Config{Device: dev, Handler: dev, AllPorts: true, Ports: []uint16{1}}, []string{"both a list"}},
		{"port 0", Config{Device: dev, Handler: dev, Ports: []uint16{443, 0}}, []string{"port 0"}},
		{"too many ports", Config{Device: dev, Handler: dev, Ports: manyPorts()}, []string{"1025 ports, at most 1024"}},
		{"small MTU", Config{Device: nothing{1279}, Handler: dev, AllPorts: true}, []string{"1279 bytes"}},
		{"large MTU", Config{Device: nothing{65536}, Handler: dev, AllPorts: true}, []string{"65536 bytes"}},
		{"negative", Config{Device: dev, Handler: dev, AllPorts: true, MaxFlows: -1, TimeWait: -1}, []string{"MaxFlows is", "TimeWait is"}},
		{"buffers", Config{Device: dev, Handler: dev, AllPorts: true, BufferSize: 8192, ReceiveMax: 4096}, []string{"ReceiveMax or SendMax is less"}},
		{"small buffer", Config{Device: dev, Handler: dev, AllPorts: true, BufferSize: 1}, []string{"BufferSize is less"}},
	} {
		s, err := New(tc.cfg)
		if (err != nil) != (tc.want != nil) || (s == nil) != (err != nil) {
			t.Errorf("%s: %v, %v", tc.name, s, err)
			continue
		}
		for _, w := range tc.want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %q not in %q", tc.name, w, err)
			}
		}
	}
}

func manyPorts() []uint16 {
	ports := make([]uint16, maxPorts+1)
	for i := range ports {
		ports[i] = uint16(i + 1)
	}
	return ports
}

func TestConfigDefaults(t *testing.T) {
	dev := nothing{1500}
	c, err := Config{Device: dev, Handler: dev, Ports: []uint16{8443, 443, 8443}, TimeWait: time.Minute}.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Ports) != 2 || c.Ports[0] != 443 || c.Ports[1] != 8443 {
		t.Errorf("ports %v", c.Ports)
	}
	if c.TimeWait != time.Minute || c.MaxFlows != 20000 || c.HandshakeTimeout != 5*time.Second || c.Log == nil {
		t.Errorf("%+v", c)
	}
}

func TestVirtioHeader(t *testing.T) {
	h := vnetHeader{flags: 1, gsoType: 4, hdrLen: 0x0102, gsoSize: 0x0304, csumStart: 0x0506, csumOffset: 0x0708}
	b := make([]byte, VirtioHeaderLen)
	h.encode(b)
	if got := decodeVnet(b); got != h {
		t.Errorf("%+v", got)
	}
	if b[0] != 1 || b[1] != 4 || (b[2] != 2 && b[2] != 1) {
		t.Errorf("% x", b)
	}
}
