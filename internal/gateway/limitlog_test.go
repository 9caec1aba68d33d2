package gateway

import (
	"net/netip"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/sslgate/sslgate/internal/audit"
	"github.com/sslgate/sslgate/internal/reason"
)

// Every reason that is a limit is named with its setting, once in ten seconds
// whatever comes, and the next line has what was not said.
func TestLimitLog(t *testing.T) {
	core, seen := observer.New(zap.InfoLevel)
	now := time.Now()
	l := newLimitLog(zap.New(core), func() time.Time { return now })
	client := netip.MustParseAddrPort("192.0.2.1:4242")
	note := func(code reason.Code, detail string, suppressed int64) {
		r := audit.NewRecord("x", now, client, netip.MustParseAddrPort("203.0.113.5:443"))
		r.Reason, r.Detail, r.Suppressed = code, detail, suppressed
		if e, _ := reason.Lookup(code); e.Kind == reason.Ended {
			r.Reason, r.End = reason.OK, code
		}
		l.note(r)
	}
	for code, limit := range map[reason.Code]string{
		reason.FlowLimit: "limits.flows", reason.ClientLimit: "limits.flows_per_client",
		reason.HandshakeLimit: "limits.handshakes",
		reason.MemoryLimit:    "limits.memory", reason.EndMemory: "limits.memory",
		reason.HelloTooLarge: "limits.hello", reason.HelloTimeout: "limits.handshake", reason.HandshakeTimeout: "limits.handshake",
		reason.ChainTooLong: "limits.chain, limits.chain_bytes",
		reason.EndIdle:      "limits.idle", reason.EndHalfClosed: "limits.half_closed",
		reason.EndClientStalled: "limits.stall", reason.EndDestinationStalled: "limits.stall",
	} {
		for range 5 {
			note(code, "why\x1b[31m", 2)
		}
		now = now.Add(limitEvery)
		note(code, "", 0)
		lines := seen.TakeAll()
		if len(lines) != 2 || lines[0].Message != "limit met" || lines[1].Message != "limit met" {
			t.Fatalf("%s: %v", code, lines)
		}
		first, second := lines[0].ContextMap(), lines[1].ContextMap()
		if first["limit"] != limit || first["reason"] != string(code) || first["flows"] != int64(1) ||
			first["one_of_them"] != client.String() || first["syns_without_record"] != int64(2) || first["detail"] != `why\x1b[31m` {
			t.Errorf("%s: first %v", code, first)
		}
		if second["flows"] != int64(5) || second["syns_without_record"] != int64(8) {
			t.Errorf("%s: second %v", code, second)
		}
	}
	note(reason.NoCertificate, "", 0)
	note(reason.OK, "", 0)
	if lines := seen.TakeAll(); len(lines) != 0 {
		t.Errorf("no limit, and yet: %v", lines)
	}
}
