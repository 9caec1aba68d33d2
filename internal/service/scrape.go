package service

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/gateway"
	"github.com/sslgate/sslgate/internal/reason"
	"github.com/sslgate/sslgate/internal/revocation"
	"github.com/sslgate/sslgate/internal/work"
	"github.com/sslgate/sslgate/policy"
)

// admitScraper decides about a reader of admin.metrics in the way of a flow. Its policy is the
// single rule that admin.metrics stands for; engine and revocation are the gateway's own. There
// is no resumption, so each connection is judged by what is known now.
func (s *Service) admitScraper(ctx context.Context, raw net.Conn) (net.Conn, error) {
	set := s.runtime().Metrics // of the last reload
	facts := policy.Facts{Now: time.Now(), Src: addrOf(raw.RemoteAddr()), Dst: addrOf(raw.LocalAddr())}
	if v, decided := set.OnSYN(facts); decided {
		return nil, refusedBy(v)
	}
	hello, conn, err := handshake.Peek(ctx, raw, 0)
	// The handshake waits for a turn among those of the gateway's clients, within the same
	// bounds, and its cost is charged to the reader.
	turn, terr := s.gateway.Turns().Begin(ctx, facts.Src.Addr())
	if terr != nil {
		return nil, terr
	}
	ledger := handshake.NewLedger(facts.Now)
	end := sync.OnceFunc(func() {
		read, records := 0, 0
		if hello != nil {
			read, records = len(hello.Raw), hello.Records
		}
		turn.Cost(work.Leg(read, records, ledger.Spent()))
		turn.End()
	})
	defer end()
	if err != nil {
		e := handshake.AsError(err)
		_ = handshake.SendAlert(raw, e.Wanted, 0) // fails only if the caller is gone
		return nil, err
	}
	facts.Hello = hello
	v := set.OnHello(facts)
	if v.Action != policy.Terminate {
		_ = handshake.SendAlert(raw, v.Alert, hello.RecordVersion) // fails only if the caller is gone
		return nil, refusedBy(v)
	}
	plan, params := v.Plan, v.Plan.ClientParams()
	params.Epoch = s.revocation.Epoch()
	resume := func() error { return turn.Resume(ctx) }
	judge := func(peer *handshake.Peer, state *handshake.State) error {
		facts.Peer, facts.State = peer, state
		if v := set.OnPeer(plan, facts); v.Action != policy.Terminate {
			return refusedBy(v)
		}
		var lost error // set if the turn could not be taken again
		r := s.revocation.Check(revocation.Waiting(ctx, func(ask func()) {
			lost = gateway.WithoutTurn(turn, ask, resume)
		}), peer, facts.Now)
		if lost != nil {
			return lost
		}
		if r.Code != "" {
			return refusedBy(policy.Verdict{Reason: r.Code, Detail: r.Detail, Alert: handshake.AlertOf(r.Code)})
		}
		return nil
	}
	session, err := s.engine.Server(ctx, gateway.NewTurnConn(conn, turn, resume), hello, params, judge, ledger)
	if err != nil {
		return nil, err
	}
	granted := false
	defer func() {
		if !granted {
			_ = session.Conn.Close() // that gives buffers back
		}
	}()
	if session.Peer == nil || !session.Peer.Proven {
		return nil, handshake.Refuse(handshake.StepClientVerified, reason.NoPossession, "")
	}
	// The final answer is the one about the proven peer, by the policy in force now.
	if err := judge(session.Peer, &session.State); err != nil {
		return nil, err
	}
	if now := s.runtime().Metrics; now != set {
		if d := now.Redecide(facts); !d.Keeps(policy.Terminate) {
			return nil, refusedBy(d.Verdict)
		}
	}
	granted = true
	end() // a caller that reads nothing may hold Grant up
	session.Grant()
	return session.Conn, nil
}

func refusedBy(v policy.Verdict) error {
	e := handshake.Refuse(handshake.StepClientVerified, v.Reason, v.Detail)
	e.Wanted = v.Alert
	return e
}

func addrOf(a net.Addr) netip.AddrPort {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{} // no policy lets this address through
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
