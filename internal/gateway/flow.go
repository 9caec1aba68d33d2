package gateway

import (
	"context"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"runtime/debug"
	"time"

	"go.uber.org/zap"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/audit"
	"github.com/sslgate/sslgate/internal/fairqueue"
	"github.com/sslgate/sslgate/internal/passing"
	"github.com/sslgate/sslgate/internal/peerlimit"
	"github.com/sslgate/sslgate/internal/reason"
	"github.com/sslgate/sslgate/policy"
	"github.com/sslgate/sslgate/stack"
)

// The walk of one flow:
//
//  1. enter the registry of live flows (the stack has looked at the caps)
//  2. policy.OnSYN: bypass, originate, or go on
//  3. what the rule's upgrade has before TLS (upgrade.go); then handshake.Peek: read the
//     client hello, send nothing; a CA's validator ends here
//  4. policy.OnHello: pick the rule; a refusal leaves with its exact alert
//  5. Engine.Server with policy.OnPeer inside, which may refuse
//  6. policy.OnPeer again, now that the peer is proven: the verdict
//  7. dial the destination, and Engine.Client where the rule asks for TLS
//  8. relay until both sides are done
//  9. one audit record

// flow is one connection on its walk.
type flow struct {
	g     *Gateway
	id    string
	start time.Time // when it was accepted
	// direction says whether a program or a service of this host is at one end.
	direction audit.Direction
	set       *policy.Set   // whose rule and parameters the flow has
	judged    *policy.Set   // the last set that was asked whether the flow is let through
	trust     *policy.Trust // of judged, when it was asked
	limits    Limits
	shadow    *policy.Shadow
	// verdict is the final one of the enforced policy. Reason "" means that the flow
	// ended without one.
	verdict policy.Verdict
	client  clientConn
	facts   policy.Facts
	out     outcome
	ledger  *handshake.Ledger
	live    *Live
	stopped <-chan struct{} // closed when the gateway stops; nil: it does not

	// session is the client's handshake from its end until a relay takes it over.
	session *handshake.Session

	revocation revocationSeen
	spawn      func(func())     // runs a function in another goroutine
	denied     *policy.Verdict  // of the SYN, where it waits for the hello: see challenge.go
	turn       *fairqueue.Turn  // of the handshake in flight; nil before
	turnLost   *handshake.Error // set if the turn could not be taken again
	unsigned   error            // why another process did not sign for us; nil: nothing to say
	hold       *peerlimit.Hold  // what it takes of limits.per_identity; nil where it has no identity
	leave      func()           // gives the admitted memory back
	// destWould is a refusal of the destination that was only observed, if nothing
	// else was observed before it.
	destWould *audit.Would
	passing   *passing.Reader // of a bypassed flow, from its relay on
}

// HandleFlow walks one flow to its end. It implements stack.Handler.
func (g *Gateway) HandleFlow(ctx context.Context, f *stack.Flow) {
	fl := g.newFlow(f.Conn, f.Src, f.Dst, f.At)
	fl.spawn = f.Go
	g.handle(ctx, fl)
}

func (g *Gateway) newFlow(client clientConn, src, dst netip.AddrPort, at time.Time) *flow {
	now := g.current.Load()
	direction, _ := g.direction(src.Addr(), dst.Addr()) // OnSYN has refused on an error
	fl := &flow{
		g: g, id: g.registry.nextID(), start: at, direction: direction, set: now.set, judged: now.set, trust: now.set.Trust(), limits: now.limits, shadow: now.shadow, client: client,
		facts:  policy.Facts{Now: g.now(), Src: src, Dst: dst, Local: direction == audit.LocalOut},
		out:    newOutcome(g.crls()),
		ledger: handshake.NewLedger(at),
		leave:  func() {},
	}
	fl.live = &Live{ID: fl.id, Start: at, Client: src, Destination: dst, fl: fl}
	return fl
}

// handle takes a flow to its end. Relaying begins after walk has returned: the fewer
// frames below it, the smaller the stack that an idle flow keeps (the garbage collector
// halves a stack of which less than a quarter is used).
func (g *Gateway) handle(ctx context.Context, fl *flow) {
	defer fl.finish()
	g.registry.enter(fl.live)
	defer fl.left()
	whole := ctx
	fl.stopped = whole.Done()
	ctx, cancel := context.WithCancel(whole)
	defer cancel()
	fl.live.waits(cancel)
	if r := fl.walk(ctx); r != nil {
		r.run(ctx)
		fl.out.relay = r
	} else if whole.Err() != nil {
		fl.live.stops()
	}
}

// left removes the flow from the counts of live flows.
func (fl *flow) left() {
	fl.leave()
	fl.hold.Release()
	fl.g.registry.leave(fl.live)
}

// finish writes the record, whatever happened. A panic ends this flow alone.
func (fl *flow) finish() {
	if p := recover(); p != nil {
		fl.client.Reset()
		fl.out.said.reason, fl.out.said.detail = reason.Internal, fmt.Sprint(p)
		fl.g.panicSay.Do(func() { // a client that has found such an input may send it again and again
			fl.g.log.Error("flow ended by a defect", zap.String("id", fl.id), zap.Any("panic", p), zap.ByteString("stack", debug.Stack()))
		})
	}
	if fl.session != nil { // no relay has come of it; the client has its RST, and buffers come back
		_ = fl.session.Conn.Close()
	}
	rec := fl.record()
	if fl.recorded(rec) {
		fl.g.append(rec)
	}
	fl.g.tell(rec)
}

// recorded says whether the flow gets a record of its own. A flow that was let through
// always does, even if it never relayed.
func (fl *flow) recorded(rec *audit.Record) bool {
	if _, _, granted := fl.live.Granted(); granted || rec.Verdict() == reason.Allowed.String() {
		return true
	}
	return fl.g.refusals.flow(rec, fl.limits)
}

// recordable says whether the audit log has room for a record of this flow. It ends the
// flow if not.
func (fl *flow) recordable(ctx context.Context) bool {
	err := fl.g.audit.Admit(ctx, fl.start.Add(fl.limits.Handshake))
	if err == nil {
		return true
	}
	fl.out.policy = fl.set.ID()
	fl.refuse(&handshake.Error{Reason: reason.AuditUnavailable, Wanted: handshake.AlertNone, Received: handshake.AlertNone, Err: err})
	fl.client.Reset()
	return false
}

// walk goes until both sides are connected. It returns their relay, nil if the flow
// ended before.
func (fl *flow) walk(ctx context.Context) *relay {
	if !fl.admit() || !fl.recordable(ctx) || fl.looped() {
		return nil
	}
	v, decided := fl.set.OnSYN(fl.facts)
	fl.out.policy = fl.set.ID()
	if decided && !fl.mayValidate(v) {
		fl.note(v)
		switch v.Action {
		case policy.Bypass:
			return fl.bypass(ctx, fl.client, v)
		case policy.Originate:
			return fl.originate(ctx, v)
		}
		fl.client.Reset()
		return nil
	}
	defer fl.noSuspect()

	hctx, cancel := context.WithDeadline(ctx, fl.start.Add(fl.handshakeTime()))
	defer cancel()
	hello, conn := fl.readHello(hctx)
	if hello == nil {
		return nil
	}
	fl.facts.Hello = hello
	fl.ledger.NoteHello(hello)
	fl.out.step = handshake.StepClientHello
	proof := fl.proof()
	if proof == nil && fl.denied != nil {
		fl.unheard(conn)
		return nil
	}
	if !fl.takeTurn(hctx) {
		return nil
	}
	defer fl.endTurn()
	if proof != nil {
		fl.validate(hctx, conn, proof)
		return nil
	}
	fl.renew()
	v = fl.set.OnHello(fl.facts)
	fl.note(v)
	if e := fl.unawaited(v); e != nil {
		fl.endTurn()
		fl.refuseHello(e, hello.RecordVersion)
		return nil
	}
	fl.live.picked(hello, v)
	switch v.Action {
	case policy.Bypass:
		fl.endTurn()
		return fl.bypass(ctx, conn, v)
	case policy.Terminate:
		if v.Plan.DialFirst {
			return fl.dialFirst(hctx, conn, v.Plan)
		}
		if session := fl.serve(hctx, conn, v.Plan, fl.params(v.Plan)); session != nil {
			cancel()
			return fl.deliver(ctx, session, v.Plan)
		}
	default:
		e := handshake.Refuse(handshake.StepClientHello, v.Reason, v.Detail)
		e.Wanted = v.Alert
		fl.endTurn()
		fl.refuseHello(e, hello.RecordVersion)
	}
	return nil
}

// serve is steps 2 to 8 of the client's leg; nil if the flow was refused.
func (fl *flow) serve(ctx context.Context, conn net.Conn, plan *policy.Plan, params *handshake.ServerParams) *handshake.Session {
	var agreed *handshake.State // once the client is judged
	check := func(peer *handshake.Peer, state *handshake.State) error {
		agreed = state
		v := fl.judgePeer(ctx, plan, peer, state)
		if v.Action == policy.Terminate {
			return nil
		}
		e := handshake.Refuse(handshake.StepClientVerified, v.Reason, v.Detail)
		e.Wanted = v.Alert
		return e
	}
	watched := NewTurnConn(conn, fl.turn, func() error { return fl.resume(ctx) })
	session, err := fl.g.engine.Server(ctx, watched, fl.facts.Hello, params, check, fl.ledger)
	fl.session = session
	fl.endTurn()
	watched.Over()
	if fl.turnLost != nil {
		fl.refuse(fl.turnLost)
		fl.client.Reset()
		return nil
	}
	if err != nil {
		e := fl.whyUnsigned(handshake.AsError(err))
		fl.out.shown = e.Peer
		if r, ok := reason.Lookup(e.Reason); ok && (r.Step == int(handshake.StepClientCertificate) || r.Step == int(handshake.StepClientVerified)) {
			fl.verdict, fl.facts.Peer, fl.facts.State = policy.Verdict{Rule: plan.Rule, Reason: e.Reason}, e.Peer, agreed
		}
		fl.refuse(e)
		lingerClose(fl.client)
		return nil
	}
	fl.out.leg, fl.out.shown = &session.State, session.Peer
	fl.facts.Peer, fl.facts.State = session.Peer, &session.State
	if session.Peer != nil && !session.Peer.Proven {
		fl.refuse(handshake.Refuse(handshake.StepClientVerified, reason.NoPossession, ""))
		fl.client.Reset()
		return nil
	}
	v := fl.judgePeer(ctx, plan, session.Peer, &session.State)
	fl.note(v)
	if v.Action != policy.Terminate {
		fl.client.Reset()
		return nil
	}
	if e := fl.admitIdentity(); e != nil {
		fl.refuse(e)
		fl.client.Reset()
		return nil
	}
	if !fl.grant(ctx, v) {
		return nil
	}
	session.Grant()
	fl.out.step = handshake.StepApplicationData
	return session
}

// deliver connects a verified client to its destination.
func (fl *flow) deliver(ctx context.Context, session *handshake.Session, plan *policy.Plan) *relay {
	dest, err := fl.connect(ctx, session, plan)
	if err != nil {
		e := handshake.AsError(err)
		// Step and alerts of the record are those of the client's leg. The destination's leg
		// has its own ledger.
		e.Step, e.Wanted, e.Received = handshake.StepApplicationData, handshake.AlertOf(e.Reason), handshake.AlertNone
		fl.refuse(e)
		// Without close_notify: the client must not take it for an orderly end.
		fl.client.Reset()
		return nil
	}
	if !fl.connected(ctx) {
		dest.reset()
		return nil
	}
	return fl.relay(session.Conn, dest)
}

// bypass connects a client whose TLS is not terminated.
func (fl *flow) bypass(ctx context.Context, client handshake.Conn, v policy.Verdict) *relay {
	if !fl.grant(ctx, v) {
		return nil
	}
	var dest *destination
	err := fl.waitFor(ctx, func(ctx context.Context) (err error) {
		dest, err = fl.dial(ctx, v.Plan)
		return err
	})
	if err != nil {
		fl.refuse(handshake.AsError(err))
		fl.client.Reset()
		return nil
	}
	fl.facts.Upstream = upstream(v.Plan, nil)
	if !fl.connected(ctx) {
		dest.reset()
		return nil
	}
	fl.passing = passing.New(fl.facts.Hello != nil)
	return fl.relay(client, dest)
}

// refuseHello ends a flow to which nothing was sent yet. The wanted alert goes out in
// plaintext.
func (fl *flow) refuseHello(err error, recordVersion uint16) {
	e := handshake.AsError(err)
	fl.refuse(e)
	if e.Wanted == handshake.AlertNone {
		if e.Reason == reason.HelloEOF {
			_ = fl.client.Close() // the client is gone already
			return
		}
		fl.client.Reset()
		return
	}
	if err := handshake.SendAlert(fl.client, e.Wanted, recordVersion); err != nil {
		fl.out.said.detail = join(fl.out.said.detail, "alert not sent: "+err.Error())
		fl.client.Reset()
		return
	}
	fl.out.sent = e.Wanted
	fl.ledger.NoteAlert(e.Step, handshake.SideUs, e.Wanted)
	lingerClose(fl.client)
}

// note stores a verdict as the current result of the flow.
func (fl *flow) note(v policy.Verdict) {
	fl.verdict = v
	if v.Plan != nil {
		sum := v.Plan.Digest()
		fl.out.digest = hex.EncodeToString(sum[:8])
	}
	w := said{rule: v.Rule, action: v.Action, reason: v.Reason, detail: v.Detail, alert: v.Alert, would: wouldOf(v.Would)}
	if fl.destWould != nil && v.Action != policy.Deny {
		w.would, w.reason = fl.destWould, reason.Observed
	}
	if v.Reason == "" {
		// OnHello says Terminate without a reason yet; only the proven peer has one.
		w.reason, w.alert = reason.Internal, handshake.AlertNone
	}
	fl.out.said = w
}

// observeDestination stores a refusal of the destination's certificate that is only
// observed. It does nothing if the client or its hello would have been refused before.
func (fl *flow) observeDestination(w policy.Would) {
	if !w.Deny || fl.out.said.would != nil {
		return
	}
	fl.destWould = wouldOf(w)
	fl.out.said.would, fl.out.said.reason = fl.destWould, reason.Observed
}

// wouldOf returns an observed refusal as it is recorded; nil if there is none.
func wouldOf(w policy.Would) *audit.Would {
	if !w.Deny {
		return nil
	}
	return &audit.Would{Rule: w.Rule, Reason: w.Reason, Detail: w.Detail, Alert: w.Alert}
}
