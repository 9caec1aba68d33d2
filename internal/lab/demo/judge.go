package demo

import (
	"fmt"

	"github.com/sslgate/sslgate/internal/audit"
)

// Result is a scenario with its outcome.
type Result struct {
	Scenario Scenario
	Record   *audit.Parsed // nil if none is wanted
	outcome

	OK bool
	// Differences are the deviations from what is wanted, one sentence each.
	Differences []string
}

// judge compares the outcome with what is wanted.
func (r *Result) judge() {
	w := r.Scenario.Want
	differ := func(what string, want, got any) {
		if want != got {
			r.Differences = append(r.Differences, fmt.Sprintf("%s: expected %v, seen %v", what, want, got))
		}
	}
	differ("the client saw", w.Saw, r.view.Seen)
	if rec := r.Record; rec != nil {
		differ("verdict", w.Verdict(), rec.Verdict)
		differ("rule", w.Rule, rec.Rule)
		differ("reason", string(w.Reason), rec.Reason)
		differ("alert wanted", w.Alert.String(), rec.AlertWanted)
		if r.view.Seen == SeenAlert {
			differ("alert sent, against the one the client saw", r.view.Alert.String(), rec.AlertSent)
		}
		if w.Proven != AnyProof {
			differ("the client's certificate", w.Proven, proof(rec))
		}
	}
	for _, c := range r.checks {
		if !c.OK {
			r.Differences = append(r.Differences, fmt.Sprintf("%s: no, %s", c.What, c.Detail))
		}
	}
	r.OK = len(r.Differences) == 0
}

func proof(rec *audit.Parsed) Proof {
	switch {
	case rec.Peer == nil:
		return NotShown
	case rec.Peer.Proven:
		return Proven
	}
	return Claimed
}
