package acmeclient

import (
	"context"
	"crypto/tls"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sslgate/sslgate/internal/lab/pebble"
	"github.com/sslgate/sslgate/internal/lab/testenv"
)

// attempt is one order of some: one that hangs leaves time for another within the patience.
func attempt(t *testing.T, o *Order) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testenv.Patience()/3)
	defer cancel()
	return o.Obtain(ctx, 0, &Challenges{})
}

// A CA that remembers proofs wants none for a second order; one that does not is told again. Its
// refusal of nonces, of every fourth, hinders no order.
func TestProofsAndNonces(t *testing.T) {
	for name, options := range map[string]pebble.Options{
		"proofs are remembered":    {},
		"every order proves":       {NoReuse: true},
		"nonces are refused":       {NoReuse: true, RejectNonces: 25},
		"remembered, and refusing": {RejectNonces: 25},
	} {
		t.Run(name, func(t *testing.T) {
			ca := pebble.Start(t, options)
			o := &Order{
				Directory: ca.Directory, Roots: rootsOf(t, ca.Roots), Names: []string{"pay.example"},
				File: filepath.Join(t.TempDir(), "pay.pem"), DNS: hook(t, ca.DNS, goodHook),
			}
			order := func() {
				t.Helper()
				var err error
				testenv.Eventually(t, "the order is done", func() bool { // a validator has no patience
					err = attempt(t, o)
					return err == nil
				}, func() any { return err })
				if _, err := tls.LoadX509KeyPair(o.File, o.File); err != nil {
					t.Error(err)
				}
			}
			order()
			o.DNS = hook(t, ca.DNS, `read -r x; echo "nobody proves any more"`)
			if !options.NoReuse {
				order()
				return
			}
			var err error
			testenv.Eventually(t, "a proof is asked for", func() bool { // many refused nonces in a row come before it
				err = attempt(t, o)
				return err == nil || strings.Contains(err.Error(), "nobody proves any more")
			}, func() any { return err })
			if err == nil {
				t.Error("the CA has issued without a proof")
			}
		})
	}
}
