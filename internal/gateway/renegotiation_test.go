package gateway

import (
	"fmt"
	"testing"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/reason"
)

// A renegotiation has a word of its own, on either side; another breach has not.
func TestRenegotiationHasItsReason(t *testing.T) {
	again := fmt.Errorf("%w: what the engine says", handshake.ErrRenegotiation)
	for _, c := range []struct {
		err          error
		client, dest reason.Code
	}{
		{again, reason.EndClientRenegotiation, reason.EndDestinationRenegotiation},
		{handshake.ErrTruncated, reason.EndClientError, reason.EndDestinationError},
	} {
		r := &relay{memory: unmeasured{}, over: make(chan struct{}), dead: make(chan struct{}), ctx: t.Context()}
		for _, dest := range []bool{false, true} {
			r.client = relayEnd{Conn: &cutConn{}, onErr: reason.EndClientError, onAgain: reason.EndClientRenegotiation}
			r.dest = relayEnd{Conn: &cutConn{}, onErr: reason.EndDestinationError, onAgain: reason.EndDestinationRenegotiation}
			e, want := &r.client, c.client
			if dest {
				e, want = &r.dest, c.dest
			}
			r.end = ""
			r.violated(e, c.err)
			if r.end != want {
				t.Errorf("%v: %q, not %q", c.err, r.end, want)
			}
		}
	}
}
