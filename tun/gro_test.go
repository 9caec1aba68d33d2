package tun

import (
	"slices"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/sslgate/sslgate/internal/lab/testenv"
)

// gro says whether generic receive offload of g0 is on, by ethtool and by our own
// reading. A running gateway may switch it between the two, so ours is compared only if
// the tool says the same before and after it.
func (l *lab) gro(t testing.TB) bool {
	t.Helper()
	byTool := func() bool {
		return strings.Contains(l.gw.run("ethtool -k g0"), "generic-receive-offload: on")
	}
	before := byTool()
	var off []string
	l.gw.do(func() error { off = WithoutGRO("g0", "nosuch0"); return nil })
	on := byTool()
	if before == on && slices.Equal(off, []string{"g0"}) == on || len(off) > 1 {
		t.Errorf("without GRO: %v, but it is on: %v", off, on)
	}
	return on
}

func (g *gateway) steerGRO(t testing.TB, on bool) {
	t.Helper()
	cfg := testConfig()
	cfg.GRO = on
	core, logs := observer.New(zap.InfoLevel)
	g.logs = logs
	g.gw.do(func() (err error) {
		g.steer, err = Steer(cfg, zap.New(core))
		return err
	})
}

// GRO is switched on where it is off, and off again when the steering is removed, however
// the process that switched it on ended. Where it was on before it stays on.
func TestGRO(t *testing.T) {
	testenv.Tool(t, "ethtool")
	for _, c := range []struct {
		name   string
		before bool
		asked  bool // by the configuration
		then   func(t *testing.T, g *gateway)
		after  bool
	}{
		{"not asked for", false, false, func(t *testing.T, g *gateway) { _ = g.steer.Close(false) }, false},
		{"stopped closed", false, true, func(t *testing.T, g *gateway) { _ = g.steer.Close(false) }, true},
		{"stopped open", false, true, func(t *testing.T, g *gateway) { _ = g.steer.Close(true) }, false},
		{"was on, stopped open", true, true, func(t *testing.T, g *gateway) { _ = g.steer.Close(true) }, true},
		{"killed, released", false, true, func(t *testing.T, g *gateway) { g.release(t) }, false},
		{"was on, killed, released", true, true, func(t *testing.T, g *gateway) { g.release(t) }, true},
		{"killed, guarded, released", false, true, func(t *testing.T, g *gateway) {
			_ = g.dev.Close()
			g.gw.do(func() error { return Guard(testConfig()) })
			if !g.gro(t) {
				t.Error("the guard has switched it off")
			}
			g.release(t)
		}, false},
		{"killed, started twice, released", false, true, func(t *testing.T, g *gateway) {
			for range 2 {
				_ = g.steer.Close(false)
				g.steerGRO(t, true)
			}
			g.release(t)
		}, false},
		{"killed, started without", false, true, func(t *testing.T, g *gateway) {
			_ = g.steer.Close(false)
			g.steerGRO(t, false)
			if strings.Contains(g.gw.run("nft list table inet sslgate"), groSet) {
				t.Error("the set is still there")
			}
			_ = g.steer.Close(false)
		}, false},
		{"flushed, repaired, released", false, true, func(t *testing.T, g *gateway) {
			g.watch(t)
			g.gw.run("nft flush ruleset")
			within(t, func() string {
				if !strings.Contains(g.gw.run("nft list ruleset"), groSet) {
					return "not repaired"
				}
				return ""
			})
			g.release(t)
		}, false},
		{"interface made anew", false, true, func(t *testing.T, g *gateway) {
			g.watch(t)
			g.gw.run("ip link delete g0")
			g.wire("g0", g.client, "c0", 1)
			within(t, func() string {
				if !g.gro(t) {
					return "it is off at the new one"
				}
				return ""
			})
		}, true},
		{"interface gone, released", false, true, func(t *testing.T, g *gateway) {
			g.gw.run("ip link delete g0")
			g.release(t)
			g.wire("g0", g.client, "c0", 1)
		}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := &gateway{lab: newLab(t)}
			if c.before {
				g.gw.run("ethtool -K g0 gro on")
			}
			if g.gro(t) != c.before {
				t.Skip("veth is not made with GRO off here")
			}
			before := rulesOf(g.gw.state())
			g.open(t)
			g.steerGRO(t, c.asked)
			if on := g.gro(t); on != (c.before || c.asked) {
				t.Errorf("steered: on is %v", on)
			}
			if n := g.logs.FilterMessageSnippet("(GRO) switched").Len(); (n == 1) != (c.asked && !c.before) {
				t.Errorf("%d lines of the log say so", n)
			}
			c.then(t, g)
			if on := g.gro(t); on != c.after {
				t.Errorf("afterwards: on is %v", on)
			}
			if strings.Contains(c.name, "released") {
				if now := rulesOf(g.gw.state()); now != before {
					t.Errorf("left:\n%s", now)
				}
			}
		})
	}
}

// release removes everything after a kill, for a configuration that does not ask for GRO.
func (g *gateway) release(t testing.TB) {
	t.Helper()
	_ = g.dev.Close()
	g.gw.do(func() error { return Release(testConfig()) })
}
