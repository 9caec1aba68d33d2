package gateway

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/audit"
	"github.com/sslgate/sslgate/internal/reason"
	"github.com/sslgate/sslgate/policy"
	"github.com/sslgate/sslgate/stack"
)

// OnSYN is the first of the three moments: the stack's caps, then policy. It runs on
// the packet path and neither blocks nor writes; a refusal is queued for Run.
func (g *Gateway) OnSYN(s stack.SYN) stack.SYNAnswer {
	if g.draining.Load() {
		g.refuseSYN(s, policy.Verdict{Reason: reason.Draining}, nil)
		return stack.SYNReset
	}
	if s.NotTaken {
		detail := fmt.Sprintf("port %d is not in capture.ports: behind a DNAT both ports belong there, that which the client dials and that which it is changed to", s.Dst.Port())
		g.refuseSYN(s, policy.Verdict{Reason: reason.PortNotCaptured, Detail: detail}, nil)
		return stack.SYNReset
	}
	switch s.Full {
	case stack.FullNot:
	case stack.FullClient:
		g.refuseSYN(s, policy.Verdict{Reason: reason.ClientLimit}, nil)
		return stack.SYNReset
	default:
		g.refuseSYN(s, policy.Verdict{Reason: reason.FlowLimit}, nil)
		return stack.SYNReset
	}
	if g.noMemoryFor(s.Src.Addr()) {
		g.refuseSYN(s, policy.Verdict{Reason: reason.MemoryLimit}, nil)
		return stack.SYNReset
	}
	if g.audit.Refusing() {
		g.refuseSYN(s, policy.Verdict{Reason: reason.AuditUnavailable}, nil)
		return stack.SYNReset
	}
	now := g.current.Load()
	facts := policy.Facts{Now: s.At, Src: s.Src, Dst: s.Dst}
	v, decided := now.set.OnSYN(facts)
	if !decided || v.Action == policy.Bypass {
		return stack.SYNPass
	}
	g.refuseSYN(s, v, judge(now.shadow, v, facts))
	return stack.SYNReset
}

func (g *Gateway) refuseSYN(s stack.SYN, v policy.Verdict, shadow *audit.Shadow) {
	g.refusals.add(func() *audit.Record {
		r := audit.NewRecord(g.registry.nextID(), s.At, s.Src, s.Dst)
		r.Policy, r.Rule, r.Reason, r.Detail = v.SetID, v.Rule, v.Reason, v.Detail
		r.CRLs, r.Shadow = g.crls(), shadow
		// The answer is a RST: no TLS was spoken, so no alert is wanted.
		r.AlertWanted = handshake.AlertNone
		return r
	})
}

const (
	// refusalQueue bounds the refused SYNs that wait to be recorded; about
	// 500 bytes each, so half a megabyte.
	refusalQueue = 1024
	// refusalRate and refusalBurst bound the records of refused SYNs: a scan
	// or flood of tens of thousands a second must not fill the disk. What gets
	// no record is counted in the next one (field suppressed).
	refusalRate  = 100 // a second
	refusalBurst = 500
)

// refusals carries refused SYNs from the packet path to the audit log.
type refusals struct {
	queue      chan *audit.Record
	limit      *rate.Limiter
	suppressed atomic.Int64
	write      func(*audit.Record)
}

func newRefusals(write func(*audit.Record)) *refusals {
	return &refusals{
		queue: make(chan *audit.Record, refusalQueue),
		limit: rate.NewLimiter(refusalRate, refusalBurst),
		write: write,
	}
}

func (q *refusals) add(record func() *audit.Record) {
	if !q.limit.AllowN(time.Now(), 1) {
		q.suppressed.Add(1)
		return
	}
	r := record()
	r.Suppressed = q.suppressed.Swap(0)
	select {
	case q.queue <- r:
	default:
		q.suppressed.Add(1 + r.Suppressed)
	}
}

// run writes the queued records until ctx ends, and then those still queued.
func (q *refusals) run(ctx context.Context) {
	for {
		select {
		case r := <-q.queue:
			q.write(r)
		case <-ctx.Done():
			for {
				select {
				case r := <-q.queue:
					q.write(r)
				default:
					return
				}
			}
		}
	}
}
