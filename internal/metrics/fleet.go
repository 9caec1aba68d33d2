package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Fleet is how a gateway stands in its fleet.
type Fleet struct {
	// Epochs: of the bundle in force, the highest that was seen, what the source had last, and what
	// waits for a restart. 0: none.
	InForce, Seen, Offered, Pending int64
	Root                            int64             // version
	Contact                         time.Time         // when the source last had what is in force, or newer
	Fresh                           bool              // it had that a short time ago, and the bundle in force has not ended
	Withdrawn                       bool              // the bundle in force should not be any more
	Refused                         map[string]uint64 // by reason, of a closed list
	// The list of what is revoked: its number, the one that the newest bundle names, and how many
	// entries it has. 0: none.
	RevokedNumber, RevokedNamed int64
	RevokedEntries              int
}

type fleetDescs struct{ epoch, root, contact, fresh, withdrawn, refused, revoked, entries *prometheus.Desc }

func newFleetDescs(desc func(name, help string, labels ...string) *prometheus.Desc) fleetDescs {
	return fleetDescs{
		epoch:     desc("fleet_epoch", "Epoch of the fleet's bundle that is in force, the highest seen, the one that the source offers, and the one that waits for a restart; 0 is none.", "bundle"),
		root:      desc("fleet_root_version", "Version of the fleet's root that counts."),
		contact:   desc("fleet_contact_timestamp_seconds", "When the fleet's source last had what is in force, or newer."),
		fresh:     desc("fleet_fresh", "1 if the fleet's source had what is in force, or newer, in the last 90 seconds, and that has not ended."),
		withdrawn: desc("fleet_withdrawn", "1 if the bundle in force is void by the root, or signed by keys that it does not name any more."),
		refused:   desc("fleet_refused_total", "Looks at the fleet's source that ended with a refusal, by reason.", "reason"),
		revoked:   desc("fleet_revoked_list", "Number of the fleet's list of what is revoked that is in force, and of the one that there was when the newest bundle was signed; 0 is none.", "list"),
		entries:   desc("fleet_revoked_entries", "Entries of the fleet's list of what is revoked; at most 8192."),
	}
}

func (d *fleetDescs) collect(ch chan<- prometheus.Metric, f Fleet) {
	gauge := func(desc *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, v, labels...)
	}
	gauge(d.epoch, float64(f.InForce), "in_force")
	gauge(d.epoch, float64(f.Seen), "seen")
	gauge(d.epoch, float64(f.Offered), "offered")
	gauge(d.epoch, float64(f.Pending), "pending")
	gauge(d.root, float64(f.Root))
	gauge(d.contact, float64(f.Contact.Unix()))
	gauge(d.fresh, number(f.Fresh))
	gauge(d.withdrawn, number(f.Withdrawn))
	gauge(d.revoked, float64(f.RevokedNumber), "in_force")
	gauge(d.revoked, float64(f.RevokedNamed), "named")
	gauge(d.entries, float64(f.RevokedEntries))
	for why, n := range f.Refused {
		ch <- prometheus.MustNewConstMetric(d.refused, prometheus.CounterValue, float64(n), why)
	}
}
