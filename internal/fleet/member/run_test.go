package member

import (
	"context"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/sslgate/sslgate/internal/fileset"
	"github.com/sslgate/sslgate/internal/fleet/bundle"
	"github.com/sslgate/sslgate/internal/fleet/seal"
	"github.com/sslgate/sslgate/internal/lab/testenv"
)

// A bundle that is refused by what the host has is tried again when a file changes that it names,
// and not before; its refusal is logged once.
func TestRefusedUntilAFileComes(t *testing.T) {
	o := newOffice(t)
	core, logged := observer.New(zap.WarnLevel)
	g := o.gate("berlin", func(opt *Options) { opt.Log, opt.Poll = zap.New(core), time.Millisecond })
	o.publish(1)
	g.looks(1)
	o.publish(2)
	tries, there := make(chan struct{}, 1), make(chan bool, 1)
	there <- false
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error)
	asked := make(chan struct{}, 1)
	go func() {
		done <- g.Run(ctx, Use{
			Apply: func(context.Context, fileset.Source) error {
				is := <-there
				there <- is
				tries <- struct{}{}
				if !is {
					return seal.Refuse(seal.RefusedCheck, "key.pem is not there")
				}
				return nil
			},
			Revoke: func(*bundle.SignedRevoked) {},
			Stamp: func() string {
				is := <-there
				there <- is
				select {
				case asked <- struct{}{}:
				default:
				}
				if is {
					return "there"
				}
				return "not there"
			},
		})
	}()
	<-tries
	<-tries // once more, for the file may have come between
	for range 20 {
		<-asked
	}
	select {
	case <-tries:
		t.Error("nothing has changed, and it is tried again")
	default:
	}
	<-there
	there <- true
	<-tries
	testenv.Eventually(t, "it is in force", func() bool { return g.Status().Epoch == 2 })
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if n := logged.FilterField(zap.String("reason", string(seal.RefusedCheck))).Len(); n != 1 {
		t.Errorf("it was logged %d times: %v", n, logged.All())
	}
}
