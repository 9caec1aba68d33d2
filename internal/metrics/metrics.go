// Package metrics turns finished flows and counters into the metrics that
// Prometheus scrapes. docs/metrics.md lists them. The number of series is
// bounded: labels are rules of the configuration and words of closed lists,
// never addresses or anything else a peer chooses.
package metrics

import (
	"crypto/tls"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/audit"
	"github.com/sslgate/sslgate/internal/reason"
)

// Metrics are the handles of everything that is counted as it happens; what
// has counters already is read at the scrape (Sources). Its methods may be
// called by anyone at any time.
type Metrics struct {
	registry *prometheus.Registry
	suites   map[uint16]string // names of the values of the label suite

	flows      *prometheus.CounterVec
	handshakes *prometheus.CounterVec
	reached    *prometheus.CounterVec
	steps      *prometheus.HistogramVec
	setup      *prometheus.HistogramVec
	duration   prometheus.Histogram
	alerts     *prometheus.CounterVec
	upstream   *prometheus.CounterVec
	ended      *prometheus.CounterVec
	unrecorded prometheus.Counter
	reloads    *prometheus.CounterVec
	reloadOK   prometheus.Gauge
	reloadAt   prometheus.Gauge

	rules ruleNames
	base  atomic.Pointer[[]*dto.MetricFamily] // what the process before this one has counted; nil: none
}

// Info is what is constant while the process lives.
type Info struct {
	Version string
	Started time.Time
}

// New makes live metrics in a registry of their own, with those of the Go
// runtime and of the process.
func New(info Info, src Sources) *Metrics {
	m := handles()
	m.registry = prometheus.NewRegistry()
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "sslgate_build_info", Help: "Always 1; the label says which version runs.",
		ConstLabels: prometheus.Labels{"version": info.Version},
	})
	build.Set(1)
	m.registry.MustRegister(
		build, m.flows, m.handshakes, m.reached, m.steps, m.setup, m.duration, m.alerts, m.upstream, m.ended,
		m.unrecorded, m.reloads, m.reloadOK, m.reloadAt,
		newSourceCollector(src),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	// The configuration that it started with was taken.
	m.reloadOK.Set(1)
	m.reloadAt.Set(float64(info.Started.Unix()))
	for _, result := range []string{"taken", "refused"} {
		m.reloads.WithLabelValues(result)
	}
	return m
}

// handles makes them all, unregistered.
func handles() *Metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "sslgate_" + name, Help: help}, labels)
	}
	histogram := func(name, help string, buckets []float64) prometheus.HistogramOpts {
		return prometheus.HistogramOpts{
			Name: "sslgate_" + name, Help: help, Buckets: buckets,
			// Native buckets, each 10 % wider than the one before, where the
			// scraper asks for them; at most 160, about 2.5 KB, a series.
			NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 160, NativeHistogramMinResetDuration: time.Hour,
		}
	}
	wait := []float64{.0001, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}
	return &Metrics{
		suites:     suiteNames(),
		flows:      counter("flows_total", "Finished flows and refused SYNs with a record, by rule, verdict and reason.", "rule", "verdict", "reason"),
		handshakes: counter("handshakes_total", "Handshakes that were completed, by leg and what was agreed on.", "leg", "version", "suite", "group", "resumed"),
		reached:    counter("flow_steps_total", "Finished flows by the highest of the nine steps they reached; 0 is before the client hello.", "step"),
		steps:      prometheus.NewHistogramVec(histogram("handshake_step_seconds", "Time that the messages and decisions of one of the nine steps took, by leg.", wait), []string{"leg", "step"}),
		setup:      prometheus.NewHistogramVec(histogram("flow_setup_seconds", "Time from the three-way handshake until data could be relayed.", wait), []string{"action"}),
		duration:   prometheus.NewHistogram(histogram("flow_duration_seconds", "Life of the flows that were let through.", []float64{.01, .1, 1, 10, 60, 600, 3600, 36000})),
		alerts:     counter("tls_alerts_total", "TLS alerts by leg, the last of each direction of a flow; what is not listed by an RFC is counted as other.", "leg", "direction", "alert"),
		upstream:   counter("upstream_total", "Attempts to reach a destination: connected, or the reason code of the failure.", "result"),
		ended:      counter("flow_ends_total", "How flows that were let through ended.", "end"),
		unrecorded: prometheus.NewCounter(prometheus.CounterOpts{Name: "sslgate_syns_unrecorded_total", Help: "Refused SYNs without a record of their own, because there were too many."}),
		reloads:    counter("config_reloads_total", "Reloads: taken, or refused, with which the old configuration stays.", "result"),
		reloadOK:   prometheus.NewGauge(prometheus.GaugeOpts{Name: "sslgate_config_last_reload_successful", Help: "1 if the last reload, or the start, was taken."}),
		reloadAt:   prometheus.NewGauge(prometheus.GaugeOpts{Name: "sslgate_config_last_reload_success_timestamp_seconds", Help: "When a configuration was last taken."}),
	}
}

// The values of the label leg.
const (
	legClient      = "client"
	legDestination = "destination"
)

// Finished counts one record.
func (m *Metrics) Finished(r *audit.Record) {
	if r.Suppressed > 0 {
		m.unrecorded.Add(float64(r.Suppressed))
	}
	verdict := r.Verdict()
	m.flows.WithLabelValues(m.rules.bound(r.Rule), verdict, known(r.Reason)).Inc()
	m.reached.WithLabelValues(stepLabel(r.Step)).Inc()
	for _, a := range alertsOf(r) {
		m.alerts.WithLabelValues(a.leg, a.direction, alertLabel(a.alert)).Inc()
	}
	m.leg(legClient, r.ClientLeg, r.Ledger)
	m.leg(legDestination, r.DestinationLeg, r.DestLedger)
	switch {
	case verdict == reason.Allowed.String():
		if r.Setup > 0 { // else it was ended before it had its destination
			m.upstream.WithLabelValues("connected").Inc()
			m.setup.WithLabelValues(actionLabel(r.Action)).Observe(r.Setup.Seconds())
		}
		m.duration.Observe(r.Duration.Seconds())
		m.ended.WithLabelValues(known(r.End)).Inc()
	case verdict == reason.Failed.String() && r.Step == handshake.StepApplicationData:
		m.upstream.WithLabelValues(known(r.Reason)).Inc()
	}
}

// leg counts one handshake: what was agreed on if it was completed, and how
// long its steps took.
func (m *Metrics) leg(name string, s *handshake.State, ledger []handshake.Entry) {
	if s != nil {
		group := "none" // RSA key transport
		if s.Group != 0 {
			group = listed(handshake.GroupName(s.Group))
		}
		m.handshakes.WithLabelValues(name, listed(handshake.VersionName(s.Version)), m.suiteLabel(s.Suite), group, strconv.FormatBool(s.Resumed)).Inc()
	}
	for step, d := range stepTimes(ledger) {
		if d >= 0 {
			m.steps.WithLabelValues(name, stepLabel(handshake.Step(step))).Observe(d.Seconds())
		}
	}
}

// stepTimes says for each step how long its messages and decisions took: each
// entry of the ledger costs the time since the one before it. Negative for a
// step without entries. Alerts belong to no step's work; nor does step 9,
// which lasts as long as the flow.
func stepTimes(ledger []handshake.Entry) [handshake.StepApplicationData]time.Duration {
	var d [handshake.StepApplicationData]time.Duration
	for i := range d {
		d[i] = -1
	}
	var before time.Duration
	for _, e := range ledger {
		took := max(e.At-before, 0)
		before = max(before, e.At)
		if e.Step == handshake.StepNone || e.Step >= handshake.StepApplicationData || e.Message == "Alert" {
			continue
		}
		d[e.Step] = max(d[e.Step], 0) + took
	}
	return d
}

// Reloaded counts a reload.
func (m *Metrics) Reloaded(taken bool, at time.Time) {
	if !taken {
		m.reloads.WithLabelValues("refused").Inc()
		m.reloadOK.Set(0)
		return
	}
	m.reloads.WithLabelValues("taken").Inc()
	m.reloadOK.Set(1)
	m.reloadAt.Set(float64(at.Unix()))
}

// Handler answers GET /metrics. At most four scrapes run at a time.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(prometheus.GathererFunc(m.gather), promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: 10 * time.Second})
}

// maxRules bounds the values of the label rule over the life of the process:
// each reload may bring other names. Those after it are "other".
const maxRules = 2000

// ruleNames hands out the values of the label rule.
type ruleNames struct {
	seen  sync.Map
	count atomic.Int64
}

func (n *ruleNames) bound(rule string) string {
	if rule == "" {
		return "default"
	}
	if _, ok := n.seen.Load(rule); ok {
		return rule
	}
	if n.count.Load() >= maxRules {
		return "other"
	}
	if _, loaded := n.seen.LoadOrStore(rule, struct{}{}); !loaded {
		n.count.Add(1)
	}
	return rule
}

func known(c reason.Code) string {
	if _, ok := reason.Lookup(c); ok {
		return string(c)
	}
	return "other"
}

func actionLabel(action string) string {
	switch action {
	case "terminate", "bypass", "originate":
		return action
	}
	return "other"
}

// listed is a name of a list: a number without one, which only a defect could let
// through, is not a series of its own.
func listed(name string) string {
	if strings.HasPrefix(name, "0x") || strings.HasPrefix(name, "GREASE") {
		return "other"
	}
	return name
}

// suiteNames are those that crypto/tls can agree on; IANA has hundreds more.
func suiteNames() map[uint16]string {
	names := map[uint16]string{}
	for _, s := range append(tls.CipherSuites(), tls.InsecureCipherSuites()...) {
		names[s.ID] = handshake.SuiteName(s.ID)
	}
	return names
}

func (m *Metrics) suiteLabel(id uint16) string {
	if name, ok := m.suites[id]; ok {
		return name
	}
	return "other"
}

func stepLabel(s handshake.Step) string {
	return strconv.Itoa(int(min(s, handshake.StepApplicationData)))
}
