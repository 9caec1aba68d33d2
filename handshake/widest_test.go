package handshake_test

import (
	"crypto/tls"
	"slices"
	"testing"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/handshake/stdtls"
)

// The widest profile takes every hello that a named profile takes, and the
// engine can keep it.
func TestWidestProfile(t *testing.T) {
	w := able().Widest()
	for _, p := range handshake.NamedProfiles() {
		if p.MinVersion < w.MinVersion || p.MaxVersion > w.MaxVersion {
			t.Errorf("%s has versions that the widest has not", p.Name)
		}
		for _, s := range p.Suites12 {
			if !slices.Contains(w.Suites12, s) {
				t.Errorf("%s: no %s", p.Name, handshake.SuiteName(s))
			}
		}
		for _, g := range p.Groups {
			if !slices.Contains(w.Groups, g) {
				t.Errorf("%s: no %s", p.Name, handshake.GroupName(g))
			}
		}
	}
	if !slices.Contains(w.Suites12, tls.TLS_RSA_WITH_AES_128_CBC_SHA) {
		t.Error("RSA key transport is not in it")
	}
	if limits := stdtls.New().Cannot(&handshake.Params{Profile: w}); len(limits) != 0 {
		t.Errorf("the engine cannot keep it: %v", limits)
	}
}
