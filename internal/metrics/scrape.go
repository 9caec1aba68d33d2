package metrics

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sslgate/sslgate/internal/audit"
	"github.com/sslgate/sslgate/internal/fairqueue"
	"github.com/sslgate/sslgate/internal/revocation"
	"github.com/sslgate/sslgate/stack"
)

// Sources are read at each scrape. A nil function leaves its metrics out.
type Sources struct {
	Stack        func() stack.Stats
	Gauges       func() Gauges
	Memory       func() *Memory
	Audit        func() audit.Stats
	Revocation   func() revocation.Stats
	Certificates func() []Certificate
	Handshakes   func() fairqueue.Stats
	Staples      func() []Staple
	Renewals     func() []Renewal
	Fleet        func() Fleet
}

// Gauges is how the gateway stands at one moment.
type Gauges struct {
	Flows, FlowsMax int
	Draining        bool
	Ready           bool
	// Reasons is how many /v1/ready gives: warnings while it is ready.
	Reasons int
	// BytesUp and BytesDown are relayed by all flows since the start, live ones
	// so far; up is from client to destination.
	BytesUp, BytesDown int64
	// Queues by name: how many wait, and how many fit.
	Queues map[string][2]int
	// Repairs of rules, routes and nft table that others changed.
	Repairs uint64
	// Dropped by the guard, by reason.
	Dropped map[string]uint64
	// Memory in bytes by part, beside the Go runtime's own figures.
	Memory map[string]uint64
}

// Memory is how the process stands with limits.memory; bytes.
type Memory struct {
	Ceiling, Limit, InUse, Resident int64
	Level                           int
	Refused, Shed, ShedBytes        uint64
	Loaned, Unmeasured              int64
	LoansRefused, LoansRecalled     uint64
}

// Certificate is one whose end matters.
type Certificate struct {
	Kind     string // identity or authority
	Name     string // in the configuration
	NotAfter time.Time
}

// stackMetric is one counter of stack.Stats.
type stackMetric struct {
	desc  *prometheus.Desc
	label []string
	value func(*stack.Stats) uint64
}

// sourceCollector reads Sources.
type sourceCollector struct {
	src                                                           Sources
	revocation                                                    revocationDescs
	fleet                                                         fleetDescs
	mem                                                           memoryDescs
	handshakes                                                    handshakeDescs
	stack                                                         []stackMetric
	flows, flowsMax, lingering, draining, ready, repairs, dropped *prometheus.Desc
	reasons                                                       *prometheus.Desc
	queue, queueMax, memory, fragments, expiry, relayed           *prometheus.Desc
	auditWritten, auditLost, auditBroken, queuePackets            *prometheus.Desc
	auditSuppressed                                               *prometheus.Desc
}

func newSourceCollector(src Sources) *sourceCollector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("sslgate_"+name, help, labels, nil)
	}
	return &sourceCollector{
		src: src, stack: stackMetrics(desc), revocation: newRevocationDescs(desc), fleet: newFleetDescs(desc), mem: newMemoryDescs(desc),
		handshakes:      newHandshakeDescs(desc),
		flows:           desc("flows_live", "Flows held now."),
		relayed:         desc("flow_bytes_total", "Bytes relayed, by live flows too, without TLS; up is from client to destination.", "direction"),
		flowsMax:        desc("flows_limit", "limits.flows: no more are held at a time."),
		lingering:       desc("flows_lingering", "Flows that are closed, with last bytes not acknowledged yet."),
		draining:        desc("draining", "1 while no new flows are taken."),
		ready:           desc("ready", "1 if the gateway takes flows and nothing is known to be wrong."),
		reasons:         desc("ready_reasons", "Reasons that /v1/ready gives: why it is not ready, and warnings."),
		repairs:         desc("steering_repairs_total", "Repairs of rules, routes and nft table that others changed."),
		dropped:         desc("guard_dropped_packets_total", "Packets that the guard in the kernel dropped or rejected, by reason.", "reason"),
		queue:           desc("queue_length", "Entries that wait, by queue.", "queue"),
		queuePackets:    desc("stack_queue_packets_total", "Packets read from each queue of the device.", "queue"),
		queueMax:        desc("queue_capacity", "Entries that fit, by queue.", "queue"),
		memory:          desc("memory_bytes", "Memory by part of the gateway.", "part"),
		fragments:       desc("fragmented_packets", "Incomplete packets held now."),
		auditWritten:    desc("audit_records_written_total", "Audit records that were written."),
		auditLost:       desc("audit_records_lost_total", "Audit records that could not be written and are lost."),
		auditSuppressed: desc("audit_records_suppressed_total", "Refused SYNs and flows that got no audit record of their own, because there were too many."),
		auditBroken:     desc("audit_broken", "1 while audit records cannot be written."),
		expiry:          desc("certificate_expiry_timestamp_seconds", "When the certificate ends; of several of that name, the first.", "kind", "name"),
	}
}

func stackMetrics(desc func(name, help string, labels ...string) *prometheus.Desc) []stackMetric {
	var all []stackMetric
	add := func(name, help, label string, values map[string]func(*stack.Stats) uint64) {
		if label == "" {
			all = append(all, stackMetric{desc: desc(name, help), value: values[""]})
			return
		}
		d := desc(name, help, label)
		for v, f := range values {
			all = append(all, stackMetric{d, []string{v}, f})
		}
	}
	type by = map[string]func(*stack.Stats) uint64
	add("stack_packets_total", "Packets read from (in) and written to (out) the device; with offload each may be up to 64 KiB.", "direction", by{
		"in":  func(s *stack.Stats) uint64 { return s.PacketsIn },
		"out": func(s *stack.Stats) uint64 { return s.PacketsOut },
	})
	add("stack_bytes_total", "Bytes read from (in) and written to (out) the device.", "direction", by{
		"in":  func(s *stack.Stats) uint64 { return s.BytesIn },
		"out": func(s *stack.Stats) uint64 { return s.BytesOut },
	})
	add("stack_write_errors_total", "Packets that the device did not take.", "", by{"": func(s *stack.Stats) uint64 { return s.WriteErrors }})
	add("stack_bad_packets_total", "Packets dropped as malformed, by what was wrong.", "kind", by{
		"length":          func(s *stack.Stats) uint64 { return s.Bad.Length },
		"version":         func(s *stack.Stats) uint64 { return s.Bad.Version },
		"header_checksum": func(s *stack.Stats) uint64 { return s.Bad.HeaderChecksum },
		"options":         func(s *stack.Stats) uint64 { return s.Bad.Options },
		"fragment":        func(s *stack.Stats) uint64 { return s.Bad.Fragment },
		"overlap":         func(s *stack.Stats) uint64 { return s.Bad.Overlap },
		"address":         func(s *stack.Stats) uint64 { return s.Bad.Address },
		"tcp_header":      func(s *stack.Stats) uint64 { return s.Bad.TCPHeader },
		"flags":           func(s *stack.Stats) uint64 { return s.Bad.Flags },
		"checksum":        func(s *stack.Stats) uint64 { return s.Bad.Checksum },
		"icmp":            func(s *stack.Stats) uint64 { return s.Bad.ICMP },
	})
	add("stack_ignored_packets_total", "Well-formed packets that are neither TCP nor \"packet too big\".", "", by{"": func(s *stack.Stats) uint64 { return s.Ignored }})
	add("stack_too_big_total", "ICMP \"packet too big\" about data that is under way: passed to the TCP stack, or limited because there were too many about one client.", "result", by{
		"passed":  func(s *stack.Stats) uint64 { return s.TooBig },
		"limited": func(s *stack.Stats) uint64 { return s.TooBigLimited },
	})
	add("stack_odd_segments_total", "TCP segments that are taken, and that few programs or networks make: with the URG flag; SYNs with data; completing a handshake without the timestamps that were agreed on.", "kind", by{
		"urgent":             func(s *stack.Stats) uint64 { return s.Urgent },
		"syn_data":           func(s *stack.Stats) uint64 { return s.SYNData },
		"without_timestamps": func(s *stack.Stats) uint64 { return s.Unstamped },
	})
	add("stack_fragments_total", "IP fragments, by what became of them.", "event", by{
		"received":    func(s *stack.Stats) uint64 { return s.Fragments },
		"reassembled": func(s *stack.Stats) uint64 { return s.Reassembled },
		"timed_out":   func(s *stack.Stats) uint64 { return s.FragmentsTimedOut },
		"evicted":     func(s *stack.Stats) uint64 { return s.FragmentsEvicted },
	})
	add("stack_syns_total", "SYNs by answer; limited are those over limits.flows or limits.flows_per_client, overflow found a queue full.", "answer", by{
		"passed":   func(s *stack.Stats) uint64 { return s.SYNPassed },
		"reset":    func(s *stack.Stats) uint64 { return s.SYNReset },
		"dropped":  func(s *stack.Stats) uint64 { return s.SYNDropped },
		"limited":  func(s *stack.Stats) uint64 { return s.SYNLimited },
		"overflow": func(s *stack.Stats) uint64 { return s.SYNOverflow },
	})
	add("stack_data_dropped_total", "TCP segments with data that were dropped for want of memory; the client sends them again.", "", by{"": func(s *stack.Stats) uint64 { return s.DataDropped }})
	add("stack_syn_cookies_total", "SYN cookies.", "event", by{
		"sent":     func(s *stack.Stats) uint64 { return s.SYNCookiesSent },
		"accepted": func(s *stack.Stats) uint64 { return s.SYNCookiesAccepted },
		"invalid":  func(s *stack.Stats) uint64 { return s.SYNCookiesInvalid },
	})
	add("stack_early_packets_total", "Packets that came behind the ACK of a SYN cookie before its connection was made: held until it was, or dropped for want of room, and then sent again by the client.", "event", by{
		"held":    func(s *stack.Stats) uint64 { return s.EarlyHeld },
		"dropped": func(s *stack.Stats) uint64 { return s.EarlyDropped },
	})
	add("stack_recovery_packets_total", "Packets of connections that recover from a loss, whose client has used up what that may cost: acknowledgements held until later, or for a newer one; segments with data dropped, and then sent again by the client.", "event", by{
		"held":    func(s *stack.Stats) uint64 { return s.RecoveryHeld },
		"dropped": func(s *stack.Stats) uint64 { return s.RecoveryDropped },
	})
	add("stack_handshakes_evicted_total", "TCP handshakes that gave way to a newer one, with capture.ports all.", "", by{"": func(s *stack.Stats) uint64 { return s.HandshakesEvicted }})
	add("stack_handshakes_timed_out_total", "TCP handshakes that the client did not complete.", "", by{"": func(s *stack.Stats) uint64 { return s.HandshakesTimedOut }})
	add("stack_paced_events_total", "With tun.sender: paced: tail loss probes sent; segments that clients say they got twice; acknowledgements refused, of bytes that were not sent.", "event", by{
		"probe":     func(s *stack.Stats) uint64 { return s.PacedProbes },
		"duplicate": func(s *stack.Stats) uint64 { return s.PacedDuplicates },
		"refused":   func(s *stack.Stats) uint64 { return s.PacedRefused },
	})
	add("stack_retransmits_total", "TCP segments sent again.", "", by{"": func(s *stack.Stats) uint64 { return s.Retransmits }})
	add("stack_retransmission_timeouts_total", "TCP retransmission timeouts.", "", by{"": func(s *stack.Stats) uint64 { return s.Timeouts }})
	add("stack_acks_outdated_total", "Acknowledgements that came together with a later one, so that they were not looked at.", "", by{"": func(s *stack.Stats) uint64 { return s.ACKsOutdated }})
	add("stack_acks_merged_total", "Acknowledgements that waited a few milliseconds, and went with data.", "", by{"": func(s *stack.Stats) uint64 { return s.ACKsMerged }})
	add("stack_resets_total", "TCP resets, without those that answer a SYN.", "direction", by{
		"sent":     func(s *stack.Stats) uint64 { return s.ResetsSent },
		"received": func(s *stack.Stats) uint64 { return s.ResetsReceived },
	})
	add("stack_lingering_resets_total", "Closed flows that were reset because their last bytes were not acknowledged in time, or too many of them lingered.", "", by{"": func(s *stack.Stats) uint64 { return s.LingeringReset }})
	add("stack_flows_total", "Flows with a complete TCP handshake: accepted, or rejected for want of room.", "result", by{
		"accepted": func(s *stack.Stats) uint64 { return s.FlowsAccepted },
		"rejected": func(s *stack.Stats) uint64 { return s.FlowsRejected },
	})
	return all
}

// Describe sends nothing: what is there depends on Sources, and all of it is
// named here and nowhere else.
func (c *sourceCollector) Describe(chan<- *prometheus.Desc) {}

// Collect reads the sources.
func (c *sourceCollector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	if c.src.Stack != nil {
		st := c.src.Stack()
		for _, m := range c.stack {
			ch <- prometheus.MustNewConstMetric(m.desc, prometheus.CounterValue, float64(m.value(&st)), m.label...)
		}
		for i, n := range st.QueuePackets {
			ch <- prometheus.MustNewConstMetric(c.queuePackets, prometheus.CounterValue, float64(n), strconv.Itoa(i))
		}
		gauge(c.lingering, float64(st.FlowsLingering))
		gauge(c.fragments, float64(st.FragmentPackets))
		gauge(c.memory, float64(st.FragmentBytes), "fragments")
		gauge(c.memory, float64(st.EarlyBytes), "early_data")
	}
	if c.src.Gauges != nil {
		g := c.src.Gauges()
		gauge(c.flows, float64(g.Flows))
		gauge(c.flowsMax, float64(g.FlowsMax))
		ch <- prometheus.MustNewConstMetric(c.relayed, prometheus.CounterValue, float64(g.BytesUp), "up")
		ch <- prometheus.MustNewConstMetric(c.relayed, prometheus.CounterValue, float64(g.BytesDown), "down")
		gauge(c.draining, number(g.Draining))
		gauge(c.ready, number(g.Ready))
		gauge(c.reasons, float64(g.Reasons))
		ch <- prometheus.MustNewConstMetric(c.repairs, prometheus.CounterValue, float64(g.Repairs))
		for reason, n := range g.Dropped {
			ch <- prometheus.MustNewConstMetric(c.dropped, prometheus.CounterValue, float64(n), reason)
		}
		for name, q := range g.Queues {
			gauge(c.queue, float64(q[0]), name)
			gauge(c.queueMax, float64(q[1]), name)
		}
		for part, n := range g.Memory {
			gauge(c.memory, float64(n), part)
		}
	}
	if c.src.Memory != nil {
		c.mem.collect(ch, c.src.Memory())
	}
	if c.src.Audit != nil {
		a := c.src.Audit()
		ch <- prometheus.MustNewConstMetric(c.auditWritten, prometheus.CounterValue, float64(a.Written))
		ch <- prometheus.MustNewConstMetric(c.auditLost, prometheus.CounterValue, float64(a.Lost))
		ch <- prometheus.MustNewConstMetric(c.auditSuppressed, prometheus.CounterValue, float64(a.Suppressed))
		gauge(c.auditBroken, number(a.Err != nil))
		gauge(c.queue, float64(a.Queued), "audit")
		gauge(c.queueMax, float64(a.Capacity), "audit")
	}
	if c.src.Revocation != nil {
		c.revocation.collect(ch, c.src.Revocation())
	}
	if c.src.Fleet != nil {
		c.fleet.collect(ch, c.src.Fleet())
	}
	if c.src.Handshakes != nil {
		c.collectHandshakes(ch, c.src.Handshakes())
	}
	if c.src.Staples != nil {
		c.collectStaples(ch, c.src.Staples())
	}
	if c.src.Renewals != nil {
		c.collectRenewals(ch, c.src.Renewals())
	}
	if c.src.Certificates != nil {
		first := map[[2]string]time.Time{}
		for _, cert := range c.src.Certificates() {
			key := [2]string{cert.Kind, cert.Name}
			if t, ok := first[key]; !ok || cert.NotAfter.Before(t) {
				first[key] = cert.NotAfter
			}
		}
		for key, t := range first {
			gauge(c.expiry, float64(t.Unix()), key[0], key[1])
		}
	}
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

var _ prometheus.Collector = (*sourceCollector)(nil)
