package metrics

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"

	"github.com/sslgate/sslgate/internal/reason"
)

// family returns one of those that are scraped.
func (m *Metrics) family(t *testing.T, name string) *dto.MetricFamily {
	t.Helper()
	all, err := m.gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		if f.GetName() == name {
			return f
		}
	}
	t.Fatalf("no %s", name)
	return nil
}

func export(t *testing.T, m *Metrics) []byte {
	t.Helper()
	b, err := m.Export()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Two processes that count one half each say in the end what one would have said that counted
// all of it; a third goes on with both.
func TestInherit(t *testing.T) {
	one, older, newer := full(), New(Info{Version: "1"}, Sources{}), full()
	r := rand.New(rand.NewPCG(3, 4))
	for i := range 400 {
		rec := record([]string{"pay", "other"}[i%2], []reason.Code{reason.OK, reason.NoRule}[i/2%2])
		rec.Setup, rec.Duration = time.Duration(r.ExpFloat64()*float64(time.Second)), time.Duration(r.Int64N(int64(time.Hour)))
		one.Finished(rec)
		if i < 250 {
			older.Finished(rec)
		} else {
			newer.Finished(rec)
		}
	}
	for range 3 { // each report takes the place of the one before
		if err := newer.Inherit(export(t, older)); err != nil {
			t.Fatal(err)
		}
	}
	third := full()
	if err := third.Inherit(export(t, newer)); err != nil {
		t.Fatal(err)
	}
	for _, m := range []*Metrics{newer, third} {
		for _, name := range []string{"sslgate_flows_total", "sslgate_flow_steps_total", "sslgate_upstream_total"} {
			if got, want := m.family(t, name).String(), one.family(t, name).String(); withoutTimes(got) != withoutTimes(want) {
				t.Errorf("%s:\n%s\nwant\n%s", name, got, want)
			}
		}
		for _, name := range []string{"sslgate_flow_setup_seconds", "sslgate_flow_duration_seconds"} {
			got, want := m.family(t, name), one.family(t, name)
			for i, s := range want.GetMetric() {
				sameHistogram(t, name, got.GetMetric()[i].GetHistogram(), s.GetHistogram())
			}
		}
	}
	if text := scrape(t, newer); !strings.Contains(text, `sslgate_flows_total{reason="no_rule"`) {
		t.Errorf("the scrape has it not:\n%s", text)
	}
	// A gauge, what the host counts, and what is cut off are not taken.
	for _, bad := range [][]byte{{200}, export(t, older)[1:], {1, 0}} {
		if newer.Inherit(bad) == nil {
			t.Errorf("%.20q is taken", bad)
		}
	}
}

// withoutTimes leaves out when a series was created.
func withoutTimes(text string) string {
	var kept []string
	for f := range strings.FieldsSeq(text) {
		if !strings.HasPrefix(f, "seconds:") && !strings.HasPrefix(f, "nanos:") && !strings.HasPrefix(f, "created_timestamp:") {
			kept = append(kept, strings.TrimRight(f, "}"))
		}
	}
	return strings.Join(kept, " ")
}

func sameHistogram(t *testing.T, name string, got, want *dto.Histogram) {
	t.Helper()
	if got.GetSampleCount() != want.GetSampleCount() || math.Abs(got.GetSampleSum()-want.GetSampleSum()) > 1e-6*want.GetSampleSum() {
		t.Errorf("%s: %d samples, sum %v; want %d, %v", name, got.GetSampleCount(), got.GetSampleSum(), want.GetSampleCount(), want.GetSampleSum())
	}
	for i, b := range want.GetBucket() {
		if got.GetBucket()[i].GetCumulativeCount() != b.GetCumulativeCount() {
			t.Errorf("%s up to %v: %d, want %d", name, b.GetUpperBound(), got.GetBucket()[i].GetCumulativeCount(), b.GetCumulativeCount())
		}
	}
	// Whoever has more samples may have had to take coarser buckets: compared in the coarsest.
	schema := min(got.GetSchema(), want.GetSchema())
	counts := func(h *dto.Histogram) (map[int32]int64, int64) {
		all, sum := map[int32]int64{}, int64(h.GetZeroCount())
		eachNative(h, func(i int32, n int64) {
			if n != 0 {
				all[coarser(i, h.GetSchema()-schema)] += n
			}
			sum += n
		})
		return all, sum
	}
	a, sum := counts(got)
	b, _ := counts(want)
	if sum != int64(got.GetSampleCount()) {
		t.Errorf("%s: the native buckets have %d samples of %d", name, sum, got.GetSampleCount())
	}
	if len(a) != len(b) {
		t.Errorf("%s: native buckets %v, want %v", name, a, b)
	}
	for i, n := range b {
		if a[i] != n {
			t.Errorf("%s: native bucket %d: %d, want %d", name, i, a[i], n)
		}
	}
}

// What an older process sends is parsed without harm, and what was taken is scraped.
func FuzzInherit(f *testing.F) {
	m := full()
	b, err := m.Export()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(b[:len(b)/2])
	f.Fuzz(func(t *testing.T, b []byte) {
		if m.Inherit(b) != nil {
			return
		}
		if _, err := m.Export(); err != nil {
			t.Errorf("what was taken cannot be exported: %v", err)
		}
	})
}
