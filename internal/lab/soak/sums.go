package soak

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
)

// againstMetrics compares the sums of the audit log with /metrics, and both with the number of
// connections that the steady origins have accepted. A connection to an origin that is being
// killed may count on one side only.
func (b *book) againstMetrics(m samples, accepted int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	theirs := map[decided]int64{}
	for _, s := range m["sslgate_flows_total"] {
		theirs[decided{s.labels["rule"], s.labels["verdict"], s.labels["reason"]}] += int64(s.value)
	}
	for _, d := range slices.SortedFunc(maps.Keys(merge(theirs, b.decisions)), func(a, b decided) int {
		return cmp.Or(cmp.Compare(a.rule, b.rule), cmp.Compare(a.verdict, b.verdict), cmp.Compare(a.reason, b.reason))
	}) {
		if !b.same(fmt.Sprint(d), theirs[d], b.decisions[d]) {
			b.note("flows by rule %s, %s, %s: /metrics %d, audit log %d", d.rule, d.verdict, d.reason, theirs[d], b.decisions[d])
		}
	}
	equal := func(what string, metrics, audit int64) {
		if !b.same(what, metrics, audit) {
			b.note("%s: %d, audit log %d", what, metrics, audit)
		}
	}
	within := func(what string, metrics, audit, more int64) {
		if b.apart != nil { // bytes of what was killed are nowhere
			return
		}
		if metrics < audit || metrics > audit+more {
			b.note("%s: %d, audit log %d and at most %d of flows that were cut off", what, metrics, audit, more)
		}
	}
	within("bytes up by /metrics", int64(m.one("sslgate_flow_bytes_total", "direction", "up")), b.up, b.cutUp)
	within("bytes down by /metrics", int64(m.one("sslgate_flow_bytes_total", "direction", "down")), b.down, b.cutDown)
	equal("records written by /metrics", int64(m.one("sslgate_audit_records_written_total")), b.written)
	equal("destinations connected by /metrics", int64(m.one("sslgate_upstream_total", "result", "connected")), b.connected)
	b.againstOrigins(accepted)
	equal("refused SYNs without a record by /metrics", int64(m.one("sslgate_syns_unrecorded_total")), b.suppressed)
	equal("refusals without a record by /metrics", int64(m.one("sslgate_audit_records_suppressed_total")), b.suppressed+b.suppFlows)
	if lost := m.one("sslgate_audit_records_lost_total"); lost != 0 {
		b.note("%v audit records were lost", lost)
	}
	if bad := m.one("sslgate_stack_bad_packets_total", "kind", "checksum"); bad != 0 {
		b.note("%v packets with a wrong checksum on a path that makes no errors", bad)
	}
}

// againstOrigins compares the connections that the steady origins have accepted with the records.
func (b *book) againstOrigins(accepted int64) {
	const what = "connections accepted by origins"
	if b.rebasing {
		b.apart[what], b.halfwayLost = accepted-b.steady, b.halfway
	}
	seen, more := accepted-b.apart[what], b.halfway-b.halfwayLost
	if seen < b.steady || seen > b.steady+more {
		b.note("%s: %d, audit log %d and at most %d of flows that were ended while they connected", what, seen, b.steady, more)
	}
}

// same compares two accounts, but for what a kill has made of them.
func (b *book) same(what string, metrics, audit int64) bool {
	if b.rebasing {
		b.apart[what] = metrics - audit
	}
	return metrics-audit == b.apart[what]
}

// rebase takes the difference between the accounts for what was lost with a killed process.
func (b *book) rebase(m samples, accepted int64) {
	b.mu.Lock()
	b.rebasing, b.apart = true, map[string]int64{}
	b.mu.Unlock()
	b.againstMetrics(m, accepted)
	b.mu.Lock()
	b.rebasing = false
	b.mu.Unlock()
}

func merge(a, b map[decided]int64) map[decided]int64 {
	all := maps.Clone(a)
	maps.Copy(all, b)
	return all
}
