package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sslgate/sslgate/internal/fairqueue"
)

// Staple is an OCSP response that is stapled to an identity's certificate.
type Staple struct {
	Name  string    // of the identity
	Until time.Time // not served any more then
}

// Renewal says of an identity, or an authority, whether its source fails.
type Renewal struct {
	Authority bool
	Name      string
	Failed    bool
}

// handshakeDescs are the metrics of handshakes in flight, and of what they show.
type handshakeDescs struct {
	inFlight, inFlightMax, waiting, clients, turns, staple, renewal, trust *prometheus.Desc
}

func newHandshakeDescs(desc func(name, help string, labels ...string) *prometheus.Desc) handshakeDescs {
	return handshakeDescs{
		inFlight:    desc("handshakes_in_flight", "Handshakes with clients under way, those that wait for somebody else included."),
		inFlightMax: desc("handshakes_limit", "limits.handshakes: no more are worked on at a time."),
		waiting:     desc("handshakes_waiting", "Of those in flight, the ones that wait for their client, or for others: a destination or a responder.", "for"),
		clients:     desc("handshake_clients", "Clients that are remembered for limits.handshakes_per_client and handshakes_per_second."),
		turns:       desc("handshake_turns_total", "Turns by what came of them: begun; waited did not get theirs at once; refused found too many waiting; expired had their deadline before their turn; paced is no turn: a flow of small records was not read for a while.", "event"),
		staple:      desc("ocsp_staple_expiry_timestamp_seconds", "When the OCSP response of an identity ends, after which it is not stapled; of several of that name, the first.", "name"),
		renewal:     desc("identity_source_failed", "Whether the source of an identity fails (1): what stands in its files cannot be used, or its signer does not answer.", "name"),
		trust:       desc("authority_source_failed", "Whether the source of an authority fails (1): what stands in its files cannot be used.", "name"),
	}
}

func (c *sourceCollector) collectHandshakes(ch chan<- prometheus.Metric, s fairqueue.Stats) {
	gauge := func(d *prometheus.Desc, v int, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), labels...)
	}
	gauge(c.handshakes.inFlight, s.InFlight)
	gauge(c.handshakes.inFlightMax, s.InFlightMax)
	gauge(c.handshakes.waiting, s.ForClient, "client")
	gauge(c.handshakes.waiting, s.ForOthers, "others")
	gauge(c.handshakes.clients, s.Clients)
	gauge(c.queue, s.Waiting, "handshakes")
	gauge(c.queueMax, s.WaitingMax, "handshakes")
	for event, n := range map[string]uint64{"begun": s.Begun, "waited": s.Waited, "refused": s.Refused, "expired": s.Expired, "paced": s.Paced} {
		ch <- prometheus.MustNewConstMetric(c.handshakes.turns, prometheus.CounterValue, float64(n), event)
	}
}

func (c *sourceCollector) collectStaples(ch chan<- prometheus.Metric, all []Staple) {
	first := map[string]time.Time{}
	for _, s := range all {
		if t, ok := first[s.Name]; !ok || s.Until.Before(t) {
			first[s.Name] = s.Until
		}
	}
	for name, t := range first {
		ch <- prometheus.MustNewConstMetric(c.handshakes.staple, prometheus.GaugeValue, float64(t.Unix()), name)
	}
}

func (c *sourceCollector) collectRenewals(ch chan<- prometheus.Metric, all []Renewal) {
	for _, r := range all {
		failed, desc := 0.0, c.handshakes.renewal
		if r.Failed {
			failed = 1
		}
		if r.Authority {
			desc = c.handshakes.trust
		}
		ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, failed, r.Name)
	}
}
