package bench

import (
	"errors"
	"fmt"
	"strings"
)

// ErrNotHeld is the error of a run with Options.Hold in which a promised figure was missed.
var ErrNotHeld = errors.New("what is promised did not hold")

// keptAtLeast is the fraction of their rate that clients of other addresses must keep while one
// address attacks. None of their connections may fail.
const keptAtLeast = 0.9

// slowerAtMost is the factor by which the median time of their flows may grow meanwhile.
const slowerAtMost = 2

// notHeld says which rows of assault-… miss that. For rate and time the median of the rounds
// counts, for failures every round.
func notHeld(rows []Row) []string {
	var all []string
	judged := 0
	for _, row := range rows {
		if !strings.HasPrefix(row.Test, "assault-") {
			continue
		}
		switch {
		case strings.HasSuffix(row.Test, ".kept"):
			if judged++; row.Value < keptAtLeast {
				all = append(all, fmt.Sprintf("%s is %s, want at least %v", row.Test, row.Value.text(3), keptAtLeast))
			}
		case strings.HasSuffix(row.Test, ".slower"):
			if judged++; row.Value > slowerAtMost {
				all = append(all, fmt.Sprintf("%s is %s, want at most %v", row.Test, row.Value.text(3), slowerAtMost))
			}
		case strings.HasSuffix(row.Test, ".failed"):
			if judged++; row.Spread[1] > 0 {
				all = append(all, fmt.Sprintf("%s is %s in a round, want none", row.Test, row.Spread[1].text(3)))
			}
		}
	}
	if judged == 0 {
		all = append(all, "no row of assault-... was measured, and nothing else is judged")
	}
	return all
}
