package metrics

import "github.com/prometheus/client_golang/prometheus"

// memoryDescs are the metrics of Memory.
type memoryDescs struct {
	ceiling, limit, inUse, level, refused, shed, shedBytes, loaned, unmeasured, loansRefused, loansRecalled *prometheus.Desc
}

func newMemoryDescs(desc func(name, help string, labels ...string) *prometheus.Desc) memoryDescs {
	return memoryDescs{
		ceiling:   desc("memory_ceiling_bytes", "limits.memory: resident memory stays below it."),
		limit:     desc("memory_limit_bytes", "What of it is left to the garbage collector; the levels are parts of this."),
		inUse:     desc("memory_in_use_bytes", "Memory that no garbage collection would give back, as of the last one."),
		level:     desc("memory_level", "0 calm, 1 buffers shrink, 2 no flow is taken, 3 flows are ended, 4 nothing is taken in."),
		refused:   desc("memory_refused_flows_total", "Flows that were refused after their TCP handshake for want of memory."),
		shed:      desc("memory_shed_flows_total", "Flows that were ended for want of memory."),
		shedBytes: desc("memory_shed_bytes_total", "What those flows held."),

		loaned:        desc("memory_loaned_bytes", "Borrowed for revocation lists and configurations that are being loaded."),
		unmeasured:    desc("memory_loans_unmeasured_bytes", "Lent since the last garbage collection, given back or not: not in memory_in_use_bytes yet."),
		loansRefused:  desc("memory_loans_refused_total", "Requests for a loan that were refused."),
		loansRecalled: desc("memory_loans_recalled_total", "Loans that were called back before a flow was ended."),
	}
}

func (d *memoryDescs) collect(ch chan<- prometheus.Metric, m *Memory) {
	if m == nil {
		return
	}
	gauge := func(desc *prometheus.Desc, v int64) {
		ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, float64(v))
	}
	count := func(desc *prometheus.Desc, v uint64) {
		ch <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(v))
	}
	gauge(d.ceiling, m.Ceiling)
	gauge(d.limit, m.Limit)
	gauge(d.inUse, m.InUse)
	gauge(d.level, int64(m.Level))
	count(d.refused, m.Refused)
	count(d.shed, m.Shed)
	count(d.shedBytes, m.ShedBytes)
	gauge(d.loaned, m.Loaned)
	gauge(d.unmeasured, m.Unmeasured)
	count(d.loansRefused, m.LoansRefused)
	count(d.loansRecalled, m.LoansRecalled)
}
