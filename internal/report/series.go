package report

import (
	"math"
	"strings"
)

// maxSeries bounds the processes whose records are counted.
const maxSeries = 1 << 12

// series are the records of each process, which are numbered from 1.
type series struct {
	m    map[string]*numbers // by the part of the flow's id that names the process
	lost int64               // records of processes that found no place
}

// numbers are those of one process that were seen.
type numbers struct{ seen, first, last uint64 }

func (s *series) add(r *record) {
	process, _, ok := strings.Cut(r.ID, "-")
	if r.Seq == 0 || !ok || len(process) > 16 { // of an older version, or made up
		return
	}
	n := s.m[process]
	if n == nil {
		if len(s.m) >= maxSeries {
			s.lost++
			return
		}
		if s.m == nil {
			s.m = map[string]*numbers{}
		}
		n = &numbers{first: r.Seq}
		s.m[strings.Clone(process)] = n
	}
	n.seen++
	n.first, n.last = min(n.first, r.Seq), max(n.last, r.Seq)
}

// missing is how many numbers between the first and the last of each process were not seen. Where
// records were read twice it may be too few.
func (s *series) missing() int64 {
	sum := uint64(0)
	for _, n := range s.m {
		if all := n.last - n.first + 1; all > n.seen {
			sum = min(sum+min(all-n.seen, math.MaxInt64), math.MaxInt64)
		}
	}
	return int64(sum)
}
