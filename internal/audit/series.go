package audit

import (
	"hash/maphash"
	"math"
	"strings"
)

const (
	// maxSeries bounds the processes whose records are counted.
	maxSeries = 1 << 12
	// maxPages bounds the records that are told apart, in pages: 32 million, in 64 MiB.
	maxPages = 1 << 13
	onPage   = 1 << 12
)

// Series are the records of each process, which are numbered from 1 (seq): which of them were
// read, so that it is known what is missing and what is read twice, in whatever order files
// are given. The zero value has none. It is for one goroutine.
type Series struct {
	m     map[string]*processRecords // by the part of the flow's id that names the process
	pages int
	again int64
	lost  int64 // records that found no place
	seed  maphash.Seed
}

// processRecords are those of one process that were seen.
type processRecords struct {
	seen, first, last uint64
	// pages have for each number a digest of its record, 0 where there was none.
	pages map[uint64]*[onPage]uint16
}

// Add says whether a record was added before: one of the same id, number and time. A record
// without a number, of an older version, never was.
func (s *Series) Add(id string, seq uint64, time string) (again bool) {
	process, _, ok := strings.Cut(id, "-")
	if seq == 0 || !ok || len(process) > 16 { // of an older version, or made up
		return false
	}
	n := s.m[process]
	if n == nil {
		if len(s.m) >= maxSeries {
			s.lost++
			return false
		}
		if s.m == nil {
			s.m, s.seed = map[string]*processRecords{}, maphash.MakeSeed()
		}
		n = &processRecords{first: seq, pages: map[uint64]*[onPage]uint16{}}
		s.m[strings.Clone(process)] = n
	}
	page := n.pages[seq/onPage]
	if page == nil {
		if s.pages >= maxPages {
			s.lost++
			return false
		}
		s.pages++
		page = new([onPage]uint16)
		n.pages[seq/onPage] = page
	}
	digest, at := s.digest(id, time), &page[seq%onPage]
	switch *at {
	case digest:
		s.again++
		return true
	case 0:
		*at = digest
		n.seen++
		n.first, n.last = min(n.first, seq), max(n.last, seq)
	}
	return false // else of another process whose id begins alike
}

// digest is never 0.
func (s *Series) digest(id, time string) uint16 {
	return max(1, uint16(maphash.String(s.seed, id)^maphash.String(s.seed, time)))
}

// Missing is how many numbers between the first and the last of each process were not seen.
func (s *Series) Missing() int64 {
	sum := uint64(0)
	for _, n := range s.m {
		if all := n.last - n.first + 1; all > n.seen {
			sum = min(sum+min(all-n.seen, math.MaxInt64), math.MaxInt64)
		}
	}
	return int64(sum)
}

// Again is how many records were added before.
func (s *Series) Again() int64 { return s.again }

// Full says that some records found no place: how many are missing, and whether they were
// read twice, is not known of them.
func (s *Series) Full() bool { return s.lost > 0 }
