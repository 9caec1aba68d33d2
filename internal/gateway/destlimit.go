package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/clientkey"
	"github.com/sslgate/sslgate/internal/reason"
)

// defaultDialsPerDestination is the default of internal/config.
const defaultDialsPerDestination = 1024

// dialsUnderWay bounds the flows that wait for one destination (an IP address). A flow
// waits until the destination has answered the TCP handshake and, if the rule asks for
// TLS, the TLS handshake. So a dead or silent destination holds at most that many sockets
// and flows, and other destinations are not affected. Over the bound, the client with the
// most flows loses its newest one.
type dialsUnderWay struct {
	mu      sync.Mutex
	waiting map[netip.Addr]*dialsTo // never holds an empty one
	refused uint64
}

// dialsTo are the flows that wait for one destination.
type dialsTo struct {
	n       int
	clients map[netip.Prefix][]*dialWait // the oldest first; never holds an empty one
}

// dialWait is one flow that waits.
type dialWait struct {
	client netip.Prefix
	end    context.CancelCauseFunc
}

func newDialsUnderWay() *dialsUnderWay {
	return &dialsUnderWay{waiting: map[netip.Addr]*dialsTo{}}
}

// errDestinationLimit is the cause of a dial that gave way to a dial of another client.
var errDestinationLimit = errors.New("gave way to another client's")

// begin counts a flow of client that waits for dst; at most most flows may wait. ctx is
// cancelled if the flow has to give way. done must be called once the flow waits no longer.
func (d *dialsUnderWay) begin(parent context.Context, dst, client netip.Addr, most int) (ctx context.Context, done func(), _ *handshake.Error) {
	dst = dst.Unmap()
	key := clientkey.Of(client)
	d.mu.Lock()
	defer d.mu.Unlock()
	to := d.waiting[dst]
	if to == nil {
		to = &dialsTo{clients: map[netip.Prefix][]*dialWait{}}
	}
	if to.n >= most {
		d.refused++
		greedy := to.greediest()
		if len(to.clients[greedy]) <= len(to.clients[key])+1 {
			return nil, nil, destinationLimit(fmt.Sprintf("%d flows wait for %s, of them %d of this client", to.n, dst, len(to.clients[key])))
		}
		newest := to.clients[greedy][len(to.clients[greedy])-1]
		newest.end(errDestinationLimit)
		d.drop(dst, to, newest)
	}
	w := &dialWait{client: key}
	ctx, w.end = context.WithCancelCause(parent)
	to.n++
	to.clients[key] = append(to.clients[key], w)
	d.waiting[dst] = to // put back if the last one has just given way
	return ctx, func() {
		d.mu.Lock()
		d.drop(dst, to, w)
		d.mu.Unlock()
		w.end(nil)
	}, nil
}

// greediest is the client with the most flows.
func (t *dialsTo) greediest() (most netip.Prefix) {
	n := 0
	for key, all := range t.clients {
		if len(all) > n {
			most, n = key, len(all)
		}
	}
	return most
}

// drop takes a flow out, if it is still there.
func (d *dialsUnderWay) drop(dst netip.Addr, to *dialsTo, w *dialWait) {
	all := to.clients[w.client]
	for i, other := range all {
		if other != w {
			continue
		}
		to.n--
		if all = append(all[:i], all[i+1:]...); len(all) == 0 {
			delete(to.clients, w.client)
		} else {
			to.clients[w.client] = all
		}
		if to.n == 0 {
			delete(d.waiting, dst)
		}
		return
	}
}

// destinationLimit is the refusal.
func destinationLimit(detail string) *handshake.Error {
	return handshake.Refuse(handshake.StepApplicationData, reason.DestinationLimit, detail)
}

// Dials is how many flows wait for a destination, and how many of them wait for
// the one with the most.
func (g *Gateway) Dials() (waiting, most int) {
	d := g.dials
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, to := range d.waiting {
		waiting += to.n
		most = max(most, to.n)
	}
	return waiting, most
}
