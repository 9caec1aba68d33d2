package metrics

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/audit"
	"github.com/sslgate/sslgate/internal/fairqueue"
	"github.com/sslgate/sslgate/internal/reason"
	"github.com/sslgate/sslgate/internal/revocation"
	"github.com/sslgate/sslgate/stack"
)

func full() *Metrics {
	return New(Info{Version: "1", Started: time.Unix(1e9, 0)}, fullSources())
}

// fullSources have something of everything.
func fullSources() Sources {
	return Sources{
		Stack: func() stack.Stats {
			return stack.Stats{PacketsIn: 7, TooBig: 21, ACKsOutdated: 22, ACKsMerged: 23, QueuePackets: []uint64{3, 4}, Bad: stack.BadPackets{Checksum: 3}, FragmentBytes: 9}
		},
		Gauges: func() Gauges {
			return Gauges{Reasons: 14, Flows: 1, FlowsMax: 2, BytesUp: 11, BytesDown: 12, Queues: map[string][2]int{"q": {3, 4}}, Memory: map[string]uint64{"part": 5}, Dropped: map[string]uint64{"quic": 13}}
		},
		Audit: func() audit.Stats { return audit.Stats{Written: 10, Lost: 2, Queued: 1, Capacity: 8, Suppressed: 6} },
		Revocation: func() revocation.Stats {
			return revocation.Stats{Authorities: map[string]revocation.AuthorityStats{"staff": {
				Good: 4, UnknownRefused: 1, BadStaples: 16, Loaded: 2, OCSPCached: 3,
				Lists: []revocation.ListStats{
					{ThisUpdate: time.Unix(500, 0), NextUpdate: time.Unix(900, 0), Bytes: 10},
					{ThisUpdate: time.Unix(400, 0), NextUpdate: time.Unix(1000, 0), Bytes: 5},
				},
			}, "new": {Lists: []revocation.ListStats{{State: "expired"}}}}}
		},
		Memory: func() *Memory {
			return &Memory{Ceiling: 100, Limit: 80, InUse: 60, Resident: 70, Level: 2, Refused: 5, Shed: 3, ShedBytes: 9, Loaned: 11, LoansRefused: 2}
		},
		Handshakes: func() fairqueue.Stats {
			return fairqueue.Stats{Begun: 6, Waited: 2, Refused: 1, InFlight: 3, InFlightMax: 8, ForClient: 1, ForOthers: 15, Waiting: 4, WaitingMax: 32, Clients: 5}
		},
		Staples: func() []Staple {
			return []Staple{{"a", time.Unix(500, 0)}, {"a", time.Unix(400, 0)}}
		},
		Fleet: func() Fleet {
			return Fleet{InForce: 41, Seen: 43, Offered: 42, Pending: 42, Root: 2, Contact: time.Unix(600, 0), Fresh: true, Refused: map[string]uint64{"unsigned": 17, "unreachable": 18}, RevokedNumber: 6, RevokedNamed: 7, RevokedEntries: 19}
		},
		Renewals: func() []Renewal {
			return []Renewal{{false, "a", false}, {false, "b", true}, {true, "b", false}, {true, "c", true}}
		},
		Certificates: func() []Certificate {
			return []Certificate{{"identity", "a", time.Unix(200, 0)}, {"identity", "a", time.Unix(100, 0)}, {"authority", "a", time.Unix(300, 0)}}
		},
	}
}

func scrape(t *testing.T, m *Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != 200 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	return w.Body.String()
}

func has(t *testing.T, text string, lines ...string) {
	t.Helper()
	for _, l := range lines {
		if !strings.Contains(text, "\n"+l+"\n") {
			t.Errorf("lacks %s", l)
		}
	}
}

func record(rule string, code reason.Code) *audit.Record {
	r := audit.NewRecord("x", time.Now(), netip.MustParseAddrPort("192.0.2.1:1"), netip.MustParseAddrPort("203.0.113.5:443"))
	r.Rule, r.Reason = rule, code
	if r.Verdict() == reason.Allowed.String() {
		r.Setup = time.Millisecond
	}
	return r
}

// A flow that was let through and ended before it had its destination is counted as let through
// and as ended, and its destination neither as connected nor as failed.
func TestEndedBeforeItsDestination(t *testing.T) {
	m := full()
	r := record("pay", reason.OK)
	r.Setup, r.End = 0, reason.EndRevoked
	m.Finished(r)
	text := scrape(t, m)
	has(t, text, `sslgate_flows_total{reason="verified",rule="pay",verdict="allowed"} 1`, `sslgate_flow_ends_total{end="client_certificate_revoked"} 1`)
	if strings.Contains(text, "sslgate_upstream_total{") || strings.Contains(text, "sslgate_flow_setup_seconds_count{") {
		t.Errorf("counted as connected:\n%s", text)
	}
}

func TestSources(t *testing.T) {
	has(t, scrape(t, full()),
		`sslgate_stack_packets_total{direction="in"} 7`, `sslgate_stack_queue_packets_total{queue="0"} 3`, `sslgate_stack_queue_packets_total{queue="1"} 4`,
		`sslgate_stack_bad_packets_total{kind="checksum"} 3`,
		`sslgate_memory_bytes{part="fragments"} 9`, `sslgate_memory_bytes{part="part"} 5`,
		`sslgate_flow_bytes_total{direction="up"} 11`, `sslgate_flow_bytes_total{direction="down"} 12`,
		`sslgate_queue_length{queue="q"} 3`, `sslgate_queue_capacity{queue="audit"} 8`,
		`sslgate_guard_dropped_packets_total{reason="quic"} 13`,
		`sslgate_audit_records_lost_total 2`, `sslgate_audit_records_suppressed_total 6`, `sslgate_audit_broken 0`, `sslgate_ready 0`,
		`sslgate_certificate_expiry_timestamp_seconds{kind="identity",name="a"} 100`,
		`sslgate_certificate_expiry_timestamp_seconds{kind="authority",name="a"} 300`,
		`sslgate_config_last_reload_success_timestamp_seconds 1e+09`,
		`sslgate_revocation_checks_total{authority="staff",result="good"} 4`,
		`sslgate_crl_this_update_timestamp_seconds{authority="staff"} 400`,
		`sslgate_crl_next_update_timestamp_seconds{authority="staff"} 900`,
		`sslgate_crl_next_update_timestamp_seconds{authority="new"} 0`,
		`sslgate_crl_memory_bytes{authority="staff"} 15`,
		`sslgate_ocsp_requests_total{authority="staff",result="cached"} 3`,
		`sslgate_handshakes_in_flight 3`, `sslgate_handshakes_limit 8`, `sslgate_handshake_clients 5`,
		`sslgate_queue_length{queue="handshakes"} 4`, `sslgate_queue_capacity{queue="handshakes"} 32`,
		`sslgate_stack_too_big_total{result="passed"} 21`, `sslgate_stack_acks_outdated_total 22`, `sslgate_stack_acks_merged_total 23`, `sslgate_ready_reasons 14`,
		`sslgate_handshakes_waiting{for="client"} 1`, `sslgate_handshakes_waiting{for="others"} 15`,
		`sslgate_revocation_bad_staples_total{authority="staff"} 16`,
		`sslgate_handshake_turns_total{event="begun"} 6`, `sslgate_handshake_turns_total{event="refused"} 1`,
		`sslgate_ocsp_staple_expiry_timestamp_seconds{name="a"} 400`,
		`sslgate_identity_source_failed{name="a"} 0`, `sslgate_identity_source_failed{name="b"} 1`,
		`sslgate_authority_source_failed{name="b"} 0`, `sslgate_authority_source_failed{name="c"} 1`,
	)
}

// A failed destination, an alert with a number of the peer's own, and what was
// not recorded by itself.
func TestFinished(t *testing.T) {
	m := full()
	r := record("pay", reason.DialRefused)
	r.Step, r.Suppressed, r.AlertReceived = handshake.StepApplicationData, 41, 201
	m.Finished(r)
	r = record("", "made_up")
	r.Step = 200
	m.Finished(r)
	m.Reloaded(false, time.Now())
	m.Reloaded(true, time.Unix(2e9, 0))
	has(t, scrape(t, m),
		`sslgate_flows_total{reason="destination_refused",rule="pay",verdict="failed"} 1`,
		`sslgate_flows_total{reason="other",rule="default",verdict="refused"} 1`,
		`sslgate_upstream_total{result="destination_refused"} 1`,
		`sslgate_tls_alerts_total{alert="other",direction="received",leg="client"} 1`,
		`sslgate_flow_steps_total{step="9"} 2`,
		`sslgate_syns_unrecorded_total 41`,
		`sslgate_config_reloads_total{result="taken"} 1`, `sslgate_config_reloads_total{result="refused"} 1`,
		`sslgate_config_last_reload_successful 1`, `sslgate_config_last_reload_success_timestamp_seconds 2e+09`,
	)
}

// Whatever reloads bring, the number of series has a bound.
func TestRulesAreBounded(t *testing.T) {
	m := full()
	for i := range maxRules + 500 {
		m.Finished(record(fmt.Sprintf("rule-%d", i), reason.NoCertificate))
	}
	out := scrape(t, m)
	if n := strings.Count(out, "\nsslgate_flows_total{"); n != maxRules+1 {
		t.Errorf("%d series", n)
	}
	has(t, out, `sslgate_flows_total{reason="no_certificate",rule="other",verdict="refused"} 500`)
}

// Every alert number a peer may send makes at most as many series as the RFCs
// have alerts.
func TestAlertLabels(t *testing.T) {
	seen := map[string]bool{}
	for a := range 255 {
		seen[alertLabel(handshake.Alert(a))] = true
	}
	if len(seen) > 40 || !seen["unknown_ca"] || !seen["other"] || seen["alert"] {
		t.Errorf("%d labels: %v", len(seen), seen)
	}
}

// Alerts count on the leg where they were seen, once each.
func TestAlertLegs(t *testing.T) {
	entry := func(from handshake.Side, a handshake.Alert) handshake.Entry {
		return handshake.Entry{From: from, Message: "Alert", Alert: a}
	}
	const us, peer, none = handshake.SideUs, handshake.SidePeer, handshake.AlertNone
	for _, c := range []struct {
		name           string
		sent, received handshake.Alert // of the record
		end            reason.Code
		client, dest   []handshake.Entry
		want           string
	}{
		{"nothing", none, none, "", []handshake.Entry{{From: us, Alert: none}}, nil, "[]"},
		{"both close", 0, 0, reason.EndClean, []handshake.Entry{entry(peer, 0), entry(us, 0)}, nil, "[{client sent 0} {client received 0}]"},
		{"we refuse the client", 116, none, "", []handshake.Entry{entry(us, 116)}, nil, "[{client sent 116}]"},
		{"the destination refuses us", 80, 40, "", []handshake.Entry{entry(us, 80)}, []handshake.Entry{entry(peer, 40)}, "[{client sent 80} {destination received 40}]"},
		{"we refuse the destination", 80, none, "", []handshake.Entry{entry(us, 80)}, []handshake.Entry{entry(us, 48)}, "[{client sent 80} {destination sent 48}]"},
		{"the destination ends the relay", none, 80, reason.EndDestinationError, nil, nil, "[{destination received 80}]"},
		{"the client ends the relay", none, 80, reason.EndClientError, []handshake.Entry{entry(peer, 80)}, nil, "[{client received 80}]"},
		{"the ledger was full", 47, 42, reason.EndClientError, nil, nil, "[{client sent 47} {client received 42}]"},
	} {
		r := record("pay", reason.OK)
		r.AlertSent, r.AlertReceived, r.End, r.Ledger, r.DestLedger = c.sent, c.received, c.end, c.client, c.dest
		var got []string
		for _, a := range alertsOf(r) {
			got = append(got, fmt.Sprintf("{%s %s %d}", a.leg, a.direction, uint8(a.alert)))
		}
		if fmt.Sprint(got) != c.want {
			t.Errorf("%s: %v, want %s", c.name, got, c.want)
		}
	}
}

func TestStepTimes(t *testing.T) {
	ms := time.Millisecond
	got := stepTimes([]handshake.Entry{
		{Step: 1, At: 2 * ms}, {Step: 2, At: 5 * ms}, {Step: 8, At: 5 * ms}, {Step: 2, At: 6 * ms},
		{Step: 5, At: 20 * ms},
		{Step: 6, At: 19 * ms}, // a clock that went back costs nothing
		{Step: 6, At: 25 * ms},
		{Step: 6, At: 40 * ms, Message: "Alert"},
		{Step: 9, At: time.Hour}, {Step: 77, At: time.Hour},
	})
	want := [...]time.Duration{-1, 2 * ms, 4 * ms, -1, -1, 14 * ms, 5 * ms, -1, 0}
	if got[1] != want[1] || got[2] != want[2] || got[3] != want[3] || got[5] != want[5] || got[6] != want[6] || got[8] != want[8] || got[0] >= 0 {
		t.Errorf("%v, want %v", got, want)
	}
}

func BenchmarkFinished(b *testing.B) {
	m := full()
	r := record("pay", reason.OK)
	r.ClientLeg = &handshake.State{Version: 0x304, Suite: 0x1301, Group: 29}
	for i := range 14 {
		r.Ledger = append(r.Ledger, handshake.Entry{Step: handshake.Step(1 + i%8), At: time.Duration(i) * time.Millisecond})
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			m.Finished(r)
		}
	})
}
