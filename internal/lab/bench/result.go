package bench

import (
	"encoding/json"
	"io"
	"math"
	"slices"
	"strconv"
)

// Row is one figure of one peer, as printed by --json, one a line.
type Row struct {
	// Test is the test's name, followed by a dot and the metric if that is not the main one:
	// "tls-up1", "tls-up1.cpu".
	Test string `json:"test"`
	Peer Peer   `json:"peer"`
	// Value is the median of the rounds.
	Value number `json:"value"`
	Unit  string `json:"unit"`
	// Spread is the lowest and the highest round.
	Spread [2]number `json:"spread"`
	// Ratio is Value divided by that of each other peer with this row; peers with value 0 are
	// left out.
	Ratio map[Peer]number `json:"ratio"`
}

// number is printed with four significant digits; more would be noise.
type number float64

// MarshalJSON implements json.Marshaler.
func (n number) MarshalJSON() ([]byte, error) { return []byte(n.text(4)), nil }

// text is the number with about so many significant digits, without exponent.
func (n number) text(digits int) string {
	f := float64(n)
	if f == 0 || math.IsNaN(f) || math.IsInf(f, 0) {
		return "0"
	}
	after := digits - 1 - int(math.Floor(math.Log10(math.Abs(f))))
	return strconv.FormatFloat(f, 'f', max(0, after), 64)
}

// results collects the figures of all rounds.
type results struct {
	order   []string // of tests with their metrics, as they first came
	units   map[string]string
	samples map[string]map[Peer][]float64
}

func newResults() *results {
	return &results{units: map[string]string{}, samples: map[string]map[Peer][]float64{}}
}

func (r *results) add(test string, p Peer, v value) {
	name := test + v.metric
	if r.samples[name] == nil {
		r.order = append(r.order, name)
		r.units[name], r.samples[name] = v.unit, map[Peer][]float64{}
	}
	r.samples[name][p] = append(r.samples[name][p], v.value)
}

// rows returns a row for every test and peer that was measured: tests in the
// order of allTests, peers in that of Peers.
func (r *results) rows() []Row {
	var all []Row
	for _, name := range r.order {
		for _, p := range Peers() {
			s := r.samples[name][p]
			if len(s) == 0 {
				continue
			}
			row := Row{
				Test: name, Peer: p, Value: number(median(s)), Unit: r.units[name],
				Spread: [2]number{number(slices.Min(s)), number(slices.Max(s))}, Ratio: map[Peer]number{},
			}
			for _, other := range Peers() {
				if o := r.samples[name][other]; other != p && len(o) > 0 && median(o) != 0 {
					row.Ratio[other] = number(median(s) / median(o))
				}
			}
			all = append(all, row)
		}
	}
	return all
}

// median returns the median of at least one sample: for an even number the mean of the middle
// two.
func median(s []float64) float64 {
	s = slices.Sorted(slices.Values(s))
	mid := len(s) / 2
	if len(s)%2 == 1 {
		return s[mid]
	}
	return (s[mid-1] + s[mid]) / 2
}

// writeJSON prints the rows, one object a line.
func writeJSON(w io.Writer, rows []Row) error {
	enc := json.NewEncoder(w)
	for _, row := range rows {
		if err := enc.Encode(row); err != nil {
			return err
		}
	}
	return nil
}
