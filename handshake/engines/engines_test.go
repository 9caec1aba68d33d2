package engines

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/lab/handshaketest"
)

var errAsked = errors.New("asked")

// engine says who was asked; its other answers are what a test wants.
type engine struct {
	able       handshake.Capabilities
	limits     func(p *handshake.Params) []handshake.Limit
	served     int
	refused    int
	connected  int
	chains     int
	room, lent int64
}

func (e *engine) Capabilities() *handshake.Capabilities { return &e.able }

func (e *engine) Cannot(p *handshake.Params) []handshake.Limit {
	if e.limits == nil {
		return nil
	}
	return e.limits(p)
}

func (e *engine) Refuses(*handshake.ServerParams, *handshake.ClientHello) *handshake.Error {
	e.refused++
	return nil
}

func (e *engine) Server(context.Context, net.Conn, *handshake.ClientHello, *handshake.ServerParams, handshake.CheckPeer, *handshake.Ledger) (*handshake.Session, error) {
	e.served++
	return nil, errAsked
}

func (e *engine) Client(context.Context, net.Conn, *handshake.ClientParams, handshake.CheckPeer, *handshake.Ledger) (*handshake.Session, error) {
	e.connected++
	return nil, errAsked
}

func (e *engine) SetBufferRoom(n int64) { e.room = n }
func (e *engine) RecordBuffers() int64  { return e.lent }
func (e *engine) CachedChains() int     { return e.chains }

func pair(native ...uint16) (*Engine, *engine, *engine) {
	std := &engine{able: handshake.Capabilities{Engine: "one", Versions: []uint16{0x0303, 0x0304}, Suites: []uint16{0xc02b, 0x1301}, Groups: []uint16{29}, Schemes: []uint16{0x0401, 0x0403}}}
	own := &engine{able: handshake.Capabilities{Engine: "other", Versions: native, Suites: []uint16{0x1301, 0x1302}, Groups: []uint16{0x0202}, Schemes: []uint16{0x0906, 0x0403}}}
	return of(std, own), std, own
}

func hello(t *testing.T, h *handshaketest.Hello) *handshake.ClientHello {
	t.Helper()
	parsed, err := handshake.ParseClientHello(h.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

// The profile says which engine, and with the native one the hello: it is asked only for
// what it has.
func TestServerByProfileAndHello(t *testing.T) {
	both, only12 := handshaketest.GoodHello, handshaketest.Hello12
	only13 := func() *handshaketest.Hello {
		return handshaketest.GoodHello().With(handshake.ExtSupportedVersions, []byte{2, 3, 4})
	}
	for name, c := range map[string]struct {
		kind     handshake.EngineKind
		native   []uint16
		min, max uint16
		hello    *handshaketest.Hello
		own      bool
	}{
		"std":                              {handshake.EngineStd, []uint16{0x0303, 0x0304}, 0x0303, 0x0304, both(), false},
		"std, 1.2":                         {handshake.EngineStd, []uint16{0x0304}, 0x0303, 0x0304, only12(), false},
		"native":                           {handshake.EngineNative, []uint16{0x0304}, 0x0303, 0x0304, both(), true},
		"native, 1.3 alone":                {handshake.EngineNative, []uint16{0x0304}, 0x0304, 0x0304, only13(), true},
		"a client of 1.2":                  {handshake.EngineNative, []uint16{0x0304}, 0x0303, 0x0304, only12(), false},
		"a profile of 1.2":                 {handshake.EngineNative, []uint16{0x0304}, 0x0303, 0x0303, both(), false},
		"a native engine with 1.2":         {handshake.EngineNative, []uint16{0x0303, 0x0304}, 0x0303, 0x0304, only12(), true},
		"a profile of 1.2 that it has too": {handshake.EngineNative, []uint16{0x0303, 0x0304}, 0x0303, 0x0303, both(), true},
		"nothing in common":                {handshake.EngineNative, []uint16{0x0304}, 0x0304, 0x0304, only12(), false},
	} {
		t.Run(name, func(t *testing.T) {
			e, std, own := pair(c.native...)
			p := &handshake.ServerParams{Params: handshake.Params{Profile: handshake.Profile{Engine: c.kind, MinVersion: c.min, MaxVersion: c.max}}}
			h := hello(t, c.hello)
			if e.Refuses(p, h) != nil {
				t.Error("refused")
			}
			if _, err := e.Server(t.Context(), nil, h, p, nil, handshake.NewLedger(time.Now())); !errors.Is(err, errAsked) {
				t.Error(err)
			}
			if (own.served == 1) != c.own || std.served+own.served != 1 || own.served != own.refused || std.served != std.refused {
				t.Errorf("crypto/tls was asked %d times, the native engine %d times (%d and %d before)", std.served, own.served, std.refused, own.refused)
			}
		})
	}
}

// Without a hello nobody knows whose client it is: nothing is made of a profile of the
// native engine.
func TestServerWithoutHello(t *testing.T) {
	e, std, own := pair(0x0304)
	p := &handshake.ServerParams{}
	p.Profile.Engine = handshake.EngineNative
	if _, err := e.Server(t.Context(), nil, nil, p, nil, handshake.NewLedger(time.Now())); err == nil || errors.Is(err, errAsked) || std.served+own.served != 0 {
		t.Errorf("%v, %d, %d", err, std.served, own.served)
	}
	p.Profile.Engine = handshake.EngineStd
	if _, err := e.Server(t.Context(), nil, nil, p, nil, handshake.NewLedger(time.Now())); !errors.Is(err, errAsked) || std.served != 1 {
		t.Errorf("%v, %d", err, std.served)
	}
}

func TestClientByProfile(t *testing.T) {
	for kind, want := range map[handshake.EngineKind]bool{handshake.EngineStd: false, handshake.EngineNative: true} {
		e, std, own := pair(0x0304)
		p := &handshake.ClientParams{}
		p.Profile.Engine = kind
		if _, err := e.Client(t.Context(), nil, p, nil, handshake.NewLedger(time.Now())); !errors.Is(err, errAsked) || (own.connected == 1) != want || own.connected+std.connected != 1 {
			t.Errorf("%v: %v, %d, %d", kind, err, std.connected, own.connected)
		}
	}
}

// What cannot be kept is said by the engine that would have to keep it, of the versions
// that it gets.
func TestCannot(t *testing.T) {
	limit := func(who string) func(p *handshake.Params) []handshake.Limit {
		return func(p *handshake.Params) []handshake.Limit {
			return []handshake.Limit{{What: who, Why: handshake.VersionName(p.Profile.MinVersion) + " to " + handshake.VersionName(p.Profile.MaxVersion)}, {What: "both"}}
		}
	}
	for name, c := range map[string]struct {
		kind     handshake.EngineKind
		native   []uint16
		min, max uint16
		want     string
	}{
		"std":         {handshake.EngineStd, []uint16{0x0304}, 0x0303, 0x0304, "std TLS 1.2 to TLS 1.3, both "},
		"both":        {handshake.EngineNative, []uint16{0x0304}, 0x0303, 0x0304, "std TLS 1.2 to TLS 1.2, both , native TLS 1.3 to TLS 1.3"},
		"1.3":         {handshake.EngineNative, []uint16{0x0304}, 0x0304, 0x0304, "native TLS 1.3 to TLS 1.3, both "},
		"1.2":         {handshake.EngineNative, []uint16{0x0304}, 0x0303, 0x0303, "std TLS 1.2 to TLS 1.2, both "},
		"all its own": {handshake.EngineNative, []uint16{0x0303, 0x0304}, 0x0303, 0x0304, "native TLS 1.2 to TLS 1.3, both "},
	} {
		e, std, own := pair(c.native...)
		std.limits, own.limits = limit("std"), limit("native")
		var got []string
		for _, l := range e.Cannot(&handshake.Params{Profile: handshake.Profile{Engine: c.kind, MinVersion: c.min, MaxVersion: c.max}}) {
			got = append(got, l.What+" "+l.Why)
		}
		if strings.Join(got, ", ") != c.want {
			t.Errorf("%s: %q, not %q", name, got, c.want)
		}
	}
}

// A profile of the native engine can name what that has, and of TLS 1.2 what crypto/tls
// has where it is that one's.
func TestCapabilities(t *testing.T) {
	e, std, own := pair(0x0304)
	c := e.Capabilities()
	if c.Engine != "one" || std.able.Native != nil || c.Of(handshake.EngineStd) != c {
		t.Errorf("%+v", c)
	}
	n := c.Of(handshake.EngineNative)
	if n.Engine != "other" || !slices.Equal(n.Destinations, []uint16{0x0304}) || !slices.Equal(n.Versions, []uint16{0x0304, 0x0303}) || !slices.Equal(n.Suites, []uint16{0x1301, 0x1302, 0xc02b}) ||
		!slices.Equal(n.Schemes, []uint16{0x0906, 0x0403, 0x0401}) || !slices.Equal(n.Groups, own.able.Groups) {
		t.Errorf("%+v", n)
	}
	if len(own.able.Suites) != 2 {
		t.Error("the engine's own list has changed")
	}
	if e, _, own := pair(0x0303, 0x0304); !slices.Equal(e.Capabilities().Native.Suites, own.able.Suites) {
		t.Error("with TLS 1.2 of its own it has other suites")
	}
}

// All room is crypto/tls's until the other engine is used; then each has half, the
// second one only when the first has given back what is over its half.
func TestBufferRoom(t *testing.T) {
	e, std, own := pair(0x0304)
	std.chains, own.chains, std.lent, own.lent = 2, 3, 600, 70
	if e.CachedChains() != 5 || e.RecordBuffers() != 670 {
		t.Errorf("sums %d, %d", e.CachedChains(), e.RecordBuffers())
	}
	rooms := func(when string, a, b int64) {
		t.Helper()
		if std.room != a || own.room != b {
			t.Errorf("%s: %d and %d, not %d and %d", when, std.room, own.room, a, b)
		}
	}
	own.lent = 0
	e.SetBufferRoom(1000)
	rooms("unused", 1000, 1)
	p := &handshake.ServerParams{}
	p.Profile = handshake.Profile{Engine: handshake.EngineNative, MinVersion: 0x0304, MaxVersion: 0x0304}
	use := func() {
		_, _ = e.Server(t.Context(), nil, hello(t, handshaketest.GoodHello()), p, nil, handshake.NewLedger(time.Now()))
	}
	use()
	rooms("too much is lent", 500, 1)
	std.lent = 500
	use()
	rooms("shared", 500, 500)
	std.lent = 900
	use()
	rooms("still", 500, 500)
	e.SetBufferRoom(3)
	rooms("hardly any", 1, 1)
	e.SetBufferRoom(0)
	rooms("by themselves", 0, 0)
}
