package metrics

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/reason"
	"github.com/sslgate/sslgate/tun"
)

// labels of one series; its name is __name__.
type labels = map[string]string

// series are all that a gateway may export, with every word of the closed lists.
func series(t *testing.T) []labels {
	t.Helper()
	src := fullSources()
	gauges := src.Gauges()
	gauges.Dropped = map[string]uint64{}
	for _, why := range tun.DropReasons() {
		gauges.Dropped[why] = 0
	}
	src.Gauges = func() Gauges { return gauges }
	m := New(Info{Version: "1"}, src)
	m.Reloaded(true, time.Unix(1e9, 0))
	m.Reloaded(false, time.Unix(1e9, 0))
	for _, e := range reason.All() {
		r := record("pay", e.Code)
		r.Step = handshake.StepApplicationData
		r.AlertSent, r.AlertReceived = 48, 42
		r.ClientLeg = &handshake.State{Version: 0x304, Suite: 0x1301, Group: 29}
		r.DestinationLeg = r.ClientLeg
		r.Ledger = []handshake.Entry{{Step: 1, At: 1}}
		r.DestLedger = r.Ledger
		if e.Kind == reason.Ended {
			r.Reason, r.End = reason.OK, e.Code
		}
		m.Finished(r)
	}
	families, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var all []labels
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "sslgate_") {
			continue
		}
		for _, metric := range f.GetMetric() {
			s := labels{"__name__": f.GetName()}
			for _, l := range metric.GetLabel() {
				s[l.GetName()] = l.GetValue()
			}
			all = append(all, s)
		}
	}
	if len(all) < 200 {
		t.Fatalf("only %d series", len(all))
	}
	return all
}

// selector is the part of an expression that chooses series.
type selector struct {
	name string
	on   map[string]func(string) bool
}

var (
	selectorText = regexp.MustCompile(`\b(sslgate_\w+|process_\w+|go_\w+)(?:\{([^}]*)\})?`)
	matcherText  = regexp.MustCompile(`(\w+)(=~|!~|!=|=)["']([^"']*)["']`)
)

// selectors are those of an expression. promtool has seen that it is PromQL.
func selectors(t *testing.T, expr string) []selector {
	t.Helper()
	var all []selector
	for _, m := range selectorText.FindAllStringSubmatch(expr, -1) {
		s := selector{name: strings.TrimSuffix(m[1], "_bucket"), on: map[string]func(string) bool{}}
		for _, x := range matcherText.FindAllStringSubmatch(m[2], -1) {
			op, text := x[2], x[3]
			match := func(v string) bool { return v == text }
			if strings.HasSuffix(op, "~") {
				re, err := regexp.Compile("^(?:" + strings.ReplaceAll(text, "$instance", ".*") + ")$")
				if err != nil {
					t.Fatal(err)
				}
				match = re.MatchString
			}
			if op[0] == '!' {
				not := match
				match = func(v string) bool { return !not(v) }
			}
			s.on[x[1]] = match
		}
		all = append(all, s)
	}
	return all
}

// matches says whether a selector chooses a series; what scrapes add is not
// looked at, unless it is among with.
func (s selector) matches(l labels, with ...string) bool {
	if s.name != l["__name__"] {
		return false
	}
	for label, match := range s.on {
		added := label == "instance" || label == "job"
		if added && !slices.Contains(with, label) {
			continue
		}
		if !match(l[label]) {
			return false
		}
	}
	return true
}

// Every series is shown by a panel.
func TestEverySeriesHasAPanel(t *testing.T) {
	var shown []selector
	for _, e := range expressions(dashboard(t)) {
		shown = append(shown, selectors(t, e)...)
	}
	for _, s := range series(t) {
		if !slices.ContainsFunc(shown, func(x selector) bool { return x.matches(s) }) {
			t.Errorf("no panel of dist/grafana/sslgate.json shows %v", s)
		}
	}
}

// unalarmed are the series that no alert looks at, each with the reason.
func unalarmed() []struct{ series, why string } {
	return []struct{ series, why string }{
		{`sslgate_flows_total{verdict="allowed"}`, "good news"},
		{`sslgate_flows_total{verdict="failed"}`, "SslgateDestinationsFail counts them by sslgate_upstream_total, SslgateAuditBroken those without a record"},
		{`sslgate_flow_steps_total`, "says where flows end, not that something is wrong"},
		{`sslgate_flow_ends_total`, "mostly what peers do; those by memory, and what limits end, are counted elsewhere"},
		{`sslgate_flow_bytes_total`, "work"},
		{`sslgate_flow_setup_seconds`, "depends on the destinations: a bound is the operator's to choose"},
		{`sslgate_flow_duration_seconds`, "work"},
		{`sslgate_flows_lingering`, "SslgateLingeringResets says when there are too many"},
		{`sslgate_syns_unrecorded_total`, "part of sslgate_audit_records_suppressed_total"},
		{`sslgate_handshakes_total`, "work"},
		{`sslgate_handshake_step_seconds`, "depends on the peers: a bound is the operator's to choose"},
		{`sslgate_handshakes_in_flight`, "bounded; SslgateHandshakesRefused says when the bound is met"},
		{`sslgate_handshakes_waiting`, "bounded by limits.flows and the deadlines"},
		{`sslgate_handshakes_limit`, "a setting"},
		{`sslgate_handshake_clients`, "bounded, the table forgets"},
		{`sslgate_handshake_turns_total{event="begun"}`, "work"},
		{`sslgate_handshake_turns_total{event="waited"}`, "happens every day and harms nobody"},
		{`sslgate_handshake_turns_total{event="paced"}`, "the limit at work, on the client's own flow"},
		{`sslgate_tls_alerts_total`, "peers send them every day; refused flows have their alert"},
		{`sslgate_upstream_total{result="connected"}`, "good news"},
		{`sslgate_stack_packets_total`, "work"},
		{`sslgate_stack_bytes_total`, "work"},
		{`sslgate_stack_queue_packets_total`, "work"},
		{`sslgate_stack_ignored_packets_total`, "a ping at the TUN; what may not pass is dropped by the guard"},
		{`sslgate_stack_odd_segments_total`, "taken like all others; a scanner or an old program"},
		{`sslgate_stack_too_big_total{result="passed"}`, "path MTU discovery at work"},
		{`sslgate_stack_fragments_total{event="received"}`, "work"},
		{`sslgate_stack_fragments_total{event="reassembled"}`, "work"},
		{`sslgate_fragmented_packets`, "bounded; SslgateFragments says when the bound is met"},
		{`sslgate_stack_syns_total{answer="passed"}`, "work"},
		{`sslgate_stack_syns_total{answer="reset"}`, "the policy's answer; SslgateManyRefused looks at it"},
		{`sslgate_stack_syns_total{answer="dropped"}`, "the policy's answer; SslgateManyRefused looks at it"},
		{`sslgate_stack_syn_cookies_total{event="accepted"}`, "good news"},
		{`sslgate_stack_early_packets_total{event="held"}`, "work"},
		{`sslgate_stack_recovery_packets_total{event="held"}`, "work"},
		{`sslgate_stack_paced_events_total`, "the paths of clients, and clients that lie: neither is the operator's to mend"},
		{`sslgate_stack_retransmits_total`, "the paths of clients: a bound is the operator's to choose"},
		{`sslgate_stack_retransmission_timeouts_total`, "the paths of clients: a bound is the operator's to choose"},
		{`sslgate_stack_acks_outdated_total`, "work saved"},
		{`sslgate_stack_acks_merged_total`, "work saved"},
		{`sslgate_stack_resets_total`, "an everyday end of clients"},
		{`sslgate_stack_flows_total{result="accepted"}`, "work"},
		{`sslgate_build_info`, "a name"},
		{`sslgate_config_reloads_total`, "SslgateReloadRefused looks at the last one"},
		{`sslgate_config_last_reload_success_timestamp_seconds`, "an old configuration is not a wrong one"},
		{`sslgate_guard_dropped_packets_total{reason="quic"}`, "browsers try QUIC every day, and fall back"},
		{`sslgate_guard_dropped_packets_total{reason="redirect"}`, "as meant: no client is led round the gateway"},
		{`sslgate_guard_dropped_packets_total{reason="older_connection"}`, "as meant, after each start"},
		{`sslgate_crl_memory_bytes`, "part of limits.memory"},
		{`sslgate_ocsp_requests_total{result="cached"}`, "work saved"},
		{`sslgate_revocation_bad_staples_total`, "a peer's own, and never believed"},
		{`sslgate_revocation_checks_total{result="good"}`, "good news"},
		{`sslgate_revocation_checks_total{result="revoked"}`, "as meant: refused, with the reason"},
		{`sslgate_fleet_epoch{bundle="seen"}`, "a number that only grows"},
		{`sslgate_fleet_epoch{bundle="pending"}`, "SslgateFleetNotTaken says when what is offered is not in force"},
		{`sslgate_fleet_root_version`, "a number that only grows"},
		{`sslgate_fleet_contact_timestamp_seconds`, "sslgate_fleet_fresh is made of it"},
		{`sslgate_fleet_refused_total{reason="unreachable"}`, "sslgate_fleet_fresh says when it lasts"},
		{`sslgate_audit_records_written_total`, "work"},
		{`sslgate_memory_bytes`, "parts of what SslgateMemoryShort looks at"},
		{`sslgate_memory_ceiling_bytes`, "a setting"},
		{`sslgate_memory_limit_bytes`, "a setting"},
		{`sslgate_memory_in_use_bytes`, "sslgate_memory_level is made of it"},
		{`sslgate_memory_shed_bytes_total`, "SslgateMemoryFlowsLost counts the flows"},
		{`sslgate_memory_loans_unmeasured_bytes`, "until the next garbage collection"},
		{`sslgate_memory_loaned_bytes`, "bounded; SslgateLoanRefused says when the bound is met"},
	}
}

// Every series is in an alert, or in the list of those that need none.
func TestEverySeriesHasAnAlert(t *testing.T) {
	var looked, excepted []selector
	for _, a := range alertRules(t) {
		of := selectors(t, a.Expr)
		// Whole, where one part of the same is chosen, it is only what that is divided by.
		part := func(s selector) bool {
			return len(s.on) == 0 && slices.ContainsFunc(of, func(o selector) bool { return o.name == s.name && len(o.on) > 0 })
		}
		looked = append(looked, slices.DeleteFunc(slices.Clone(of), part)...)
	}
	all := series(t)
	for _, e := range unalarmed() {
		s := selectors(t, e.series)
		if len(s) != 1 || e.why == "" {
			t.Fatalf("%+v", e)
		}
		needed := func(l labels) bool {
			return s[0].matches(l) && !slices.ContainsFunc(looked, func(x selector) bool { return x.matches(l) })
		}
		if !slices.ContainsFunc(all, needed) {
			t.Errorf("%s is in an alert, or is not there: take it out of unalarmed()", e.series)
		}
		excepted = append(excepted, s[0])
	}
	looked = append(looked, excepted...)
	for _, s := range all {
		if !slices.ContainsFunc(looked, func(x selector) bool { return x.matches(s) }) {
			t.Errorf("no alert of dist/alerts looks at %v: write one, or say in unalarmed() why none is needed", s)
		}
	}
}

// docs/metrics.md says of each alert what to do, and of no other; each has a
// severity and says it itself.
func TestAlertsAreDocumented(t *testing.T) {
	doc, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := strings.Cut(string(doc), "## What the alerts ask")
	if !found {
		t.Fatal("docs/metrics.md has no table of alerts")
	}
	named := map[string]bool{}
	for _, name := range regexp.MustCompile(`\bSslgate\w+`).FindAllString(table, -1) {
		named[name] = true
	}
	for _, a := range alertRules(t) {
		if !named[a.Alert] {
			t.Errorf("docs/metrics.md does not say what %s asks", a.Alert)
		}
		delete(named, a.Alert)
		if s := a.Labels["severity"]; s != "warning" && s != "critical" || a.Annotations["summary"] == "" || a.Annotations["description"] == "" {
			t.Errorf("%s: severity %q, annotations %v", a.Alert, s, a.Annotations)
		}
	}
	for name := range named {
		t.Errorf("docs/metrics.md: there is no alert %s", name)
	}
}
