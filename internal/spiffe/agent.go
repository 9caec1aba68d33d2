package spiffe

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/workloadapi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"github.com/sslgate/sslgate/internal/dialer"
	"github.com/sslgate/sslgate/internal/escape"
)

const (
	// An agent that is gone is asked again after retryFirst, then after twice the last wait, up
	// to retryMost, each some shorter or longer by chance.
	retryFirst, retryMost = 500 * time.Millisecond, 10 * time.Second
	// least is the time from one answer that is taken to the next: an agent that sends without
	// end costs no more than that.
	least = 200 * time.Millisecond
	// An agent that hangs keeps the connection open. It is asked for a sign of life (gRPC's
	// keepalive) no more often than servers of gRPC suffer by default, which is 5 minutes.
	lifeEvery, lifeWithin = 6 * time.Minute, 20 * time.Second
)

// Agent is one agent, and the last good answer of it. It is safe for many goroutines.
type Agent struct {
	socket string
	told   func() // after each change

	mu      sync.Mutex
	last    *Answer // nil: none
	failed  error   // why it does not answer now; nil: it does
	changes int
	heard   chan struct{} // closed once there is an answer, or a failure
}

func newAgent(socket string, told func()) *Agent {
	return &Agent{socket: socket, told: told, failed: ErrNotYet, heard: make(chan struct{})}
}

// Now is the last good answer, nil if there is none, and why the agent does not answer now, nil if
// it does. changes counts up with each change of them.
func (a *Agent) Now() (last *Answer, changes int, failed error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.failed != nil {
		failed = fmt.Errorf("the SPIFFE agent at %s: %w", a.socket, a.failed)
	}
	return a.last, a.changes, failed
}

// Wait returns once the agent has answered or failed for the first time, or ctx has ended.
func (a *Agent) Wait(ctx context.Context) {
	select {
	case <-a.heard:
	case <-ctx.Done():
	}
}

func (a *Agent) set(change func()) {
	a.mu.Lock()
	change()
	a.changes++
	select {
	case <-a.heard:
	default:
		close(a.heard)
	}
	a.mu.Unlock()
	a.told()
}

// run asks until ctx ends.
func (a *Agent) run(ctx context.Context) {
	wait := &retries{}
	for ctx.Err() == nil {
		w := &watcher{ctx: ctx, agent: a}
		err := a.watch(ctx, w, wait)
		w.OnX509ContextWatchError(err)
		select {
		case <-ctx.Done():
		case <-time.After(wait.Next()): // the library gives up on some codes: those of a server that is not an agent
		}
	}
}

func (a *Agent) watch(ctx context.Context, w *watcher, wait *retries) error {
	client, err := workloadapi.New(ctx, workloadapi.WithAddr("unix://"+a.socket), workloadapi.WithBackoffStrategy(wait),
		workloadapi.WithDialOptions(
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
				return dialer.Mark(0).Dialer().DialContext(ctx, "unix", a.socket)
			}),
			grpc.WithNoProxy(), grpc.WithDisableServiceConfig(),
			grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(MaxAnswer)),
			grpc.WithConnectParams(grpc.ConnectParams{
				Backoff:           backoff.Config{BaseDelay: retryFirst, Multiplier: 2, Jitter: 0.2, MaxDelay: retryMost},
				MinConnectTimeout: 5 * time.Second,
			}),
			grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: lifeEvery, Timeout: lifeWithin}),
		))
	if err != nil {
		return err
	}
	err = client.WatchX509Context(ctx, w)
	return errors.Join(err, client.Close())
}

// watcher takes what the library reads of one connection.
type watcher struct {
	ctx   context.Context
	agent *Agent
}

// OnX509ContextUpdate takes an answer. Until it returns no other one is read.
func (w *watcher) OnX509ContextUpdate(c *workloadapi.X509Context) {
	answer, err := read(c)
	w.agent.set(func() {
		if w.agent.failed = err; err == nil {
			w.agent.last = answer
		}
	})
	select {
	case <-w.ctx.Done():
	case <-time.After(least):
	}
}

// OnX509ContextWatchError notes that the agent has ended the stream, that it cannot be reached, or
// that its answer cannot be read. The last good one stays.
func (w *watcher) OnX509ContextWatchError(err error) {
	if err == nil || w.ctx.Err() != nil {
		return
	}
	w.agent.set(func() { w.agent.failed = errors.New(said(err)) })
}

// said is an error for a person: the text of a status of gRPC, which may be the agent's own.
func said(err error) string {
	text := err.Error()
	if s, ok := status.FromError(err); ok {
		text = s.Message()
		if s.Code() == codes.PermissionDenied {
			text += " (it has no entry for the user and group of this process)"
		}
	}
	return escape.Shown(text, 500)
}

// retries are the waits between two questions. It is a workloadapi.BackoffStrategy, and its own
// Backoff: one goroutine uses it.
type retries struct{ last time.Duration }

// NewBackoff is r.
func (r *retries) NewBackoff() workloadapi.Backoff { return r }

// Next is how long to wait now.
func (r *retries) Next() time.Duration {
	r.last = min(max(2*r.last, retryFirst), retryMost)
	return time.Duration(float64(r.last) * (0.75 + rand.Float64()/2))
}

// Reset begins anew: the agent has answered.
func (r *retries) Reset() { r.last = 0 }
