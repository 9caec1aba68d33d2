package soak

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/sslgate/sslgate/internal/config"
	"github.com/sslgate/sslgate/internal/lab"
)

// The configuration of each sort of run is one that the gateway takes, and captures what
// programs of its host open where the run asks for it.
func TestConfigOfEachRun(t *testing.T) {
	for _, c := range []struct{ local, sourced bool }{{}, {true, false}, {false, true}, {true, true}} {
		s := &site{dir: t.TempDir(), local: c.local, sourced: c.sourced, patience: 1e9}
		if err := s.writeConfig(); err != nil {
			t.Fatal(err)
		}
		f, err := config.Load(s.file("sslgate.yaml"))
		if err != nil {
			t.Errorf("local %t, sourced %t: %v", c.local, c.sourced, err)
			continue
		}
		if f.Config.CapturesOut() != c.local || !f.Config.CapturesLocal() {
			t.Errorf("local %t: captured are programs %t, services %t", c.local, f.Config.CapturesOut(), f.Config.CapturesLocal())
		}
	}
}

// Both ends of a local run are tried: programs of the gateway's host, and services there.
func TestEnds(t *testing.T) {
	seen := map[lab.NS]map[netip.Addr]bool{lab.Client: {}, lab.Gateway: {}}
	for range 1000 {
		from, client, server := (&site{local: true}).ends(0, false)
		if client != map[lab.NS]netip.Addr{lab.Client: lab.ClientAddr(false), lab.Gateway: lab.GatewayAddr(false)}[from] {
			t.Fatalf("from %s by %v", from, client)
		}
		seen[from][server] = true
	}
	if len(seen[lab.Client]) != 1 || !seen[lab.Client][hereAddr(false)] || len(seen[lab.Gateway]) != 1 || !seen[lab.Gateway][lab.ServerAddr(0, false)] {
		t.Errorf("seen: %v", seen)
	}
	if from, client, server := (&site{}).ends(0, true); from != lab.Client || client != lab.ClientAddr(true) || server != lab.ServerAddr(0, true) {
		t.Errorf("an ordinary run: %s, %v, %v", from, client, server)
	}
}

// Two addresses of the server with one port are one of the gateway: an origin cannot listen on
// it twice.
func TestHere(t *testing.T) {
	got := here([]string{"10.77.2.10:443", "[fd77:2::10]:443", "10.77.2.11:443", "[fd77:2::11]:443", "10.77.2.10:80"})
	want := []string{"10.77.1.1:443", "[fd77:1::1]:443", "10.77.1.1:80"}
	if !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
