package service

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/reason"
	"github.com/sslgate/sslgate/internal/turns"
	"github.com/sslgate/sslgate/internal/work"
	"github.com/sslgate/sslgate/policy"
)

// admitScraper is the walk of a flow for a reader of admin.metrics, as far as
// it goes: the policy is that of the one rule that admin.metrics is, engine
// and revocation are the gateway's own. There is no resumption, so each
// connection is judged by what is known now.
func (s *Service) admitScraper(ctx context.Context, raw net.Conn) (net.Conn, error) {
	set := s.runtime().Metrics // that of the last reload
	facts := policy.Facts{Now: time.Now(), Src: addrOf(raw.RemoteAddr()), Dst: addrOf(raw.LocalAddr())}
	if v, decided := set.OnSYN(facts); decided {
		return nil, refusedBy(v)
	}
	hello, conn, err := handshake.Peek(ctx, raw, 0)
	// Its handshake waits for a turn among those of the gateway's clients, by
	// the same bounds, and what it costs is charged to it.
	turn, terr := s.gateway.Turns().Begin(ctx, facts.Src.Addr())
	if terr != nil {
		return nil, terr
	}
	ledger := handshake.NewLedger(facts.Now)
	defer func() {
		turn.Cost(scrapeCost(hello, ledger))
		turn.End()
	}()
	if err != nil {
		e := handshake.AsError(err)
		_ = handshake.SendAlert(raw, e.Wanted, 0) // where it fails, the caller has gone
		return nil, err
	}
	facts.Hello = hello
	v := set.OnHello(facts)
	if v.Action != policy.Terminate {
		_ = handshake.SendAlert(raw, v.Alert, hello.RecordVersion) // where it fails, the caller has gone
		return nil, refusedBy(v)
	}
	plan, params := v.Plan, *v.Plan.Client
	params.Epoch = s.revocation.Epoch()
	judge := func(peer *handshake.Peer, state *handshake.State) error {
		facts.Peer, facts.State = peer, state
		if v := set.OnPeer(plan, facts); v.Action != policy.Terminate {
			return refusedBy(v)
		}
		paused := turn.Pause(turns.ForOthers) // it may ask a responder
		r := s.revocation.Check(ctx, peer, facts.Now)
		if paused {
			if err := turn.Resume(ctx); err != nil {
				return err
			}
		}
		if r.Code != "" {
			return refusedBy(policy.Verdict{Reason: r.Code, Detail: r.Detail, Alert: handshake.AlertOf(r.Code)})
		}
		return nil
	}
	session, err := s.engine.Server(ctx, &pausing{conn, ctx, turn}, hello, &params, judge, ledger)
	if err != nil {
		return nil, err
	}
	if session.Peer == nil || !session.Peer.Proven {
		return nil, handshake.Refuse(handshake.StepClientVerified, reason.NoPossession, "")
	}
	// What counts is the answer about the proven peer, by the policy in force now.
	if err := judge(session.Peer, &session.State); err != nil {
		return nil, err
	}
	if now := s.runtime().Metrics; now != set {
		if d := now.Redecide(facts); !d.Keeps(policy.Terminate) {
			return nil, refusedBy(d.Verdict)
		}
	}
	session.Grant()
	return session.Conn, nil
}

// pausing is a reader's connection during its handshake: it holds no turn while
// it waits for the reader.
type pausing struct {
	net.Conn
	ctx  context.Context
	turn *turns.Turn
}

func (c *pausing) Read(b []byte) (int, error) {
	if !c.turn.Pause(turns.ForClient) { // it has ended: the handshake is over
		return c.Conn.Read(b)
	}
	n, err := c.Conn.Read(b)
	if rerr := c.turn.Resume(c.ctx); rerr != nil && err == nil {
		return 0, rerr
	}
	return n, err
}

// scrapeCost is what a reader of admin.metrics has cost.
func scrapeCost(hello *handshake.ClientHello, l *handshake.Ledger) work.Units {
	if hello == nil {
		return work.Hello(0)
	}
	u := work.Hello(len(hello.Raw))
	if spent := l.Spent(); spent > 0 {
		u += work.Handshake() + spent
	}
	return u
}

func refusedBy(v policy.Verdict) error {
	e := handshake.Refuse(handshake.StepClientVerified, v.Reason, v.Detail)
	e.Wanted = v.Alert
	return e
}

func addrOf(a net.Addr) netip.AddrPort {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{} // which no policy lets through
	}
	at := tcp.AddrPort()
	return netip.AddrPortFrom(at.Addr().Unmap().WithZone(""), at.Port())
}

// openScrapes opens admin.metrics.
func (s *Service) openScrapes(listen string) (err error) {
	if s.runtime().Metrics == nil {
		return errors.New("admin.metrics has no policy")
	}
	s.scrapes, err = s.admin.ListenMetrics(listen, s.admitScraper)
	return err
}
