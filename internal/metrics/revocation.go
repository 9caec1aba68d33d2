package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sslgate/sslgate/internal/revocation"
)

// revocationDescs are the metrics of revocation.Stats; the label authority is
// a name of the configuration.
type revocationDescs struct {
	checks, loads, ocsp, staples, made, due, memory, missing *prometheus.Desc
}

func newRevocationDescs(desc func(name, help string, labels ...string) *prometheus.Desc) revocationDescs {
	return revocationDescs{
		checks:  desc("revocation_checks_total", "Answers about client certificates.", "authority", "result"),
		loads:   desc("crl_loads_total", "CRL sources that were read, by what came of it.", "authority", "result"),
		ocsp:    desc("ocsp_requests_total", "Questions to OCSP responders; cached ones were not asked.", "authority", "result"),
		staples: desc("revocation_bad_staples_total", "OCSP responses that a peer sent with its certificate and that say nothing of use: of another certificate, badly signed, or too old.", "authority"),
		made:    desc("crl_this_update_timestamp_seconds", "When the oldest CRL in use was made; 0 where a source has given none.", "authority"),
		due:     desc("crl_next_update_timestamp_seconds", "When the first CRL in use ends; 0 where a source has given none.", "authority"),
		missing: desc("crl_missing", "CRLs in use that their source does not carry any more.", "authority"),
		memory:  desc("crl_memory_bytes", "Memory of the serial numbers of CRLs.", "authority"),
	}
}

func (d *revocationDescs) collect(ch chan<- prometheus.Metric, s revocation.Stats) {
	for name, a := range s.Authorities {
		count := func(desc *prometheus.Desc, n uint64, result string) {
			ch <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, float64(n), name, result)
		}
		count(d.checks, a.Good, "good")
		count(d.checks, a.Revoked, "revoked")
		count(d.checks, a.UnknownRefused, "unknown_refused")
		count(d.checks, a.UnknownAllowed, "unknown_allowed")
		count(d.loads, a.Loaded, "loaded")
		count(d.loads, a.NotModified, "not_modified")
		count(d.loads, a.Failures, "failed")
		count(d.ocsp, a.OCSPAsked, "asked")
		count(d.ocsp, a.OCSPFailures, "failed")
		count(d.ocsp, a.OCSPCached, "cached")
		ch <- prometheus.MustNewConstMetric(d.staples, prometheus.CounterValue, float64(a.BadStaples), name)
		if len(a.Lists) == 0 {
			continue
		}
		made, due, bytes, missing := a.Lists[0].ThisUpdate, a.Lists[0].NextUpdate, 0, 0
		for _, l := range a.Lists {
			bytes += l.Bytes
			if l.State == "missing" {
				missing++
			}
			if l.ThisUpdate.Before(made) {
				made = l.ThisUpdate
			}
			if l.NextUpdate.Before(due) {
				due = l.NextUpdate
			}
		}
		gauge := func(desc *prometheus.Desc, v float64) {
			ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, v, name)
		}
		if due.IsZero() { // a source has given no list
			made, due = time.Unix(0, 0), time.Unix(0, 0)
		}
		gauge(d.made, float64(made.Unix()))
		gauge(d.due, float64(due.Unix()))
		gauge(d.memory, float64(bytes))
		gauge(d.missing, float64(missing))
	}
}
