package tun

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
)

// Rule, route and chains come back, and Release leaves nothing.
func TestClientSourceRepairedAndReleased(t *testing.T) {
	l := newLab(t)
	before := l.gw.state()
	g := &gateway{lab: l}
	g.open(t)
	l.gw.do(func() (err error) { g.steer, err = Steer(testConfig(), zap.NewNop()); return err })
	if s := l.gw.state(); strings.Contains(s, "lookup 5520") || strings.Contains(s, "socket transparent") {
		t.Errorf("prepared unasked:\n%s", s)
	}
	if err := g.steer.SetClientSource(); err == nil {
		t.Error("prepared without mark and table")
	}
	_ = g.steer.Close(false)
	cfg := sourceConfig()
	cfg.ClientSource = false
	l.gw.do(func() (err error) { g.steer, err = Steer(cfg, zap.NewNop()); return err })
	if err := g.steer.SetClientSource(); err != nil { // as a reload does
		t.Fatal(err)
	}
	conns := l.listen443(t)
	l.connected(t, conns, clients[0], 0, servers[0])
	g.watch(t)
	want := normal(l.gw.state())
	for _, lines := range [][]string{
		{"ip rule del fwmark 0x20/0x70 lookup 5520", "ip -6 rule del fwmark 0x20/0x70 lookup 5520"},
		{"ip route flush table 5520", "ip -6 route flush table 5520"},
		{"nft flush chain inet sslgate answers"},
		{"nft flush chain inet sslgate verify", "nft flush chain inet sslgate keep"},
	} {
		for _, line := range lines {
			l.gw.run(line)
		}
		within(t, func() string {
			if now := normal(l.gw.state()); now != want {
				return fmt.Sprintf("%v: not repaired:\n%s\nwant\n%s", lines, now, want)
			}
			return ""
		})
	}
	for i, src := range clients {
		l.connected(t, conns, src, 0, servers[i])
	}
	// Killed, and started with other numbers.
	_ = g.steer.Close(false)
	_ = g.dev.Close()
	g.open(t)
	cfg.ClientSource, cfg.ReturnMark, cfg.ReturnTable, cfg.Twin.Mark = true, 0x40, 7720, 0x70
	l.gw.do(func() (err error) { g.steer, err = Steer(cfg, zap.NewNop()); return err })
	if s := l.gw.state(); strings.Contains(s, "0x20/0x70 lookup") || strings.Contains(s, "table 5520") || !strings.Contains(s, "7720") {
		t.Errorf("left of the run before:\n%s", s)
	}
	_ = g.steer.Close(false)
	_ = g.dev.Close()
	l.gw.do(func() error { return Release(testConfig()) }) // of a configuration that knows nothing of it
	if after := l.gw.state(); normal(after) != normal(before) {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}

func TestCheckClientSource(t *testing.T) {
	g := newGateway(t, sourceConfig())
	g.gw.do(CheckClientSource)
	g.gw.run("sysctl -qw net.ipv4.conf.all.src_valid_mark=1")
	if err := g.gw.try(CheckClientSource); err == nil || !strings.Contains(err.Error(), "sysctl -w net/ipv4/conf/all/src_valid_mark=0") {
		t.Errorf("%v", err)
	}
	g.listen443(t)
	if c, err := g.dialAs(clients[0], 0, servers[0], 300*time.Millisecond); err == nil {
		_ = c.Close()
		t.Error("connected: the check speaks of what does not matter")
	}
}

func TestClientSourceConfig(t *testing.T) {
	for name, change := range map[string]func(*SteerConfig){
		"no mark":             func(c *SteerConfig) { c.ReturnMark = 0 },
		"mark of the sockets": func(c *SteerConfig) { c.ReturnMark = 0x70 },
		"the captured one's":  func(c *SteerConfig) { c.ReturnMark = c.Mark },
		"the one before":      func(c *SteerConfig) { c.Mark, c.ReturnMark, c.Twin.Mark = 0x40, 0x30, 0x10 },
		"no table":            func(c *SteerConfig) { c.ReturnTable = 0 },
		"local":               func(c *SteerConfig) { c.ReturnTable = 255 },
		"the captured table":  func(c *SteerConfig) { c.ReturnTable = c.Table },
	} {
		cfg := sourceConfig()
		change(&cfg)
		if err := cfg.check(); err == nil {
			t.Errorf("%s is taken", name)
		}
		cfg.ClientSource = false
		if err := cfg.check(); err != nil {
			t.Errorf("%s, not asked for: %v", name, err)
		}
	}
}
