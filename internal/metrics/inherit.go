package metrics

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/proto"
)

// A process that takes over from another goes on with that one's counters: what is scraped is
// the sum of its own and of what the older process has reported last. So a counter never goes
// back, and the flows that the older one has yet are counted once.

// hostWide are counters of the host, not of a process: both processes read the same.
const hostWide = "sslgate_guard_dropped_packets_total"

// inherited says whether a family is handed over: what this program counts, not the gauges of
// a process.
func inherited(f *dto.MetricFamily) bool {
	return strings.HasPrefix(f.GetName(), "sslgate_") && f.GetName() != hostWide &&
		(f.GetType() == dto.MetricType_COUNTER || f.GetType() == dto.MetricType_HISTOGRAM)
}

// Export returns all counters, with those that were inherited, for Inherit: messages of
// io.prometheus.client.MetricFamily, each after its length (protodelim).
func (m *Metrics) Export() ([]byte, error) {
	all, err := m.gather()
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	for _, f := range all {
		if !inherited(f) {
			continue
		}
		if _, err := protodelim.MarshalTo(&b, f); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), nil
}

// maxFamilies bounds what is inherited: this program has less than a hundred.
const maxFamilies = 1000

// Inherit takes over the counters that another process has exported, in place of those taken
// over before. After an error the former ones stay.
func (m *Metrics) Inherit(exported []byte) error {
	var all []*dto.MetricFamily
	for r := bytes.NewReader(exported); ; {
		f := &dto.MetricFamily{}
		err := protodelim.UnmarshalFrom(r, f)
		if errors.Is(err, io.EOF) && r.Len() == 0 {
			break
		}
		if err != nil {
			return fmt.Errorf("counters of the older process: %w", err)
		}
		if !inherited(f) || len(all) >= maxFamilies {
			return fmt.Errorf("counters of the older process: %q is none of them", f.GetName())
		}
		for _, s := range f.GetMetric() {
			if (f.GetType() == dto.MetricType_COUNTER) != (s.Counter != nil) || (f.GetType() == dto.MetricType_HISTOGRAM) != (s.Histogram != nil) {
				return fmt.Errorf("counters of the older process: %q has a series of another type", f.GetName())
			}
		}
		all = append(all, f)
	}
	m.base.Store(&all)
	return nil
}

// gather returns what there is to scrape.
func (m *Metrics) gather() ([]*dto.MetricFamily, error) {
	own, err := m.registry.Gather()
	base := m.base.Load()
	if err != nil || base == nil {
		return own, err
	}
	for _, b := range *base {
		i, found := slices.BinarySearchFunc(own, b.GetName(), func(f *dto.MetricFamily, name string) int { return strings.Compare(f.GetName(), name) })
		switch {
		case !found: // a counter that this version does not have
			own = slices.Insert(own, i, proto.Clone(b).(*dto.MetricFamily))
		case own[i].GetType() == b.GetType():
			addFamily(own[i], b)
		}
	}
	return own, nil
}

// seriesKey names a series by its labels, which are sorted.
func seriesKey(m *dto.Metric) string {
	var b strings.Builder
	for _, l := range m.GetLabel() {
		fmt.Fprintf(&b, "%q=%q,", l.GetName(), l.GetValue())
	}
	return b.String()
}

// addFamily adds the series of from to those of to.
func addFamily(to, from *dto.MetricFamily) {
	at := make(map[string]*dto.Metric, len(to.GetMetric()))
	for _, m := range to.GetMetric() {
		at[seriesKey(m)] = m
	}
	for _, m := range from.GetMetric() {
		own := at[seriesKey(m)]
		switch {
		case own == nil:
			to.Metric = append(to.Metric, proto.Clone(m).(*dto.Metric))
		case own.Counter != nil && m.Counter != nil:
			own.Counter.Value = proto.Float64(own.Counter.GetValue() + m.Counter.GetValue())
		case own.Histogram != nil && m.Histogram != nil:
			addHistogram(own.Histogram, m.Histogram)
		}
	}
	slices.SortFunc(to.Metric, func(a, b *dto.Metric) int { return strings.Compare(seriesKey(a), seriesKey(b)) })
}

// addHistogram adds from to to. Both have the same buckets, or from is of a version with others:
// then only count and sum are added, and the last bucket.
func addHistogram(to, from *dto.Histogram) {
	to.SampleCount = proto.Uint64(to.GetSampleCount() + from.GetSampleCount())
	to.SampleSum = proto.Float64(to.GetSampleSum() + from.GetSampleSum())
	for _, b := range to.Bucket {
		b.CumulativeCount = proto.Uint64(b.GetCumulativeCount() + below(from, b.GetUpperBound()))
	}
	addNative(to, from)
}

// below counts the samples that are certainly not above the bound.
func below(h *dto.Histogram, bound float64) (n uint64) {
	for _, b := range h.Bucket {
		if b.GetUpperBound() <= bound {
			n = max(n, b.GetCumulativeCount())
		}
	}
	return n
}

// addNative adds the native buckets of positive samples; all of ours are times. Bucket i of
// schema s has the samples up to 2**(i*2**-s), so one of a finer schema is part of one of a
// coarser schema.
func addNative(to, from *dto.Histogram) {
	if to.Schema == nil || from.Schema == nil || to.GetZeroThreshold() != from.GetZeroThreshold() {
		// Without them a scraper takes the other buckets.
		to.Schema, to.ZeroThreshold, to.ZeroCount, to.PositiveSpan, to.PositiveDelta = nil, nil, nil, nil, nil
		return
	}
	schema := min(to.GetSchema(), from.GetSchema())
	counts := map[int32]int64{}
	for _, h := range []*dto.Histogram{to, from} {
		eachNative(h, func(i int32, n int64) { counts[coarser(i, h.GetSchema()-schema)] += n })
	}
	to.Schema = proto.Int32(schema)
	to.ZeroCount = proto.Uint64(to.GetZeroCount() + from.GetZeroCount())
	to.PositiveSpan, to.PositiveDelta = nil, nil
	indexes := make([]int32, 0, len(counts))
	for i := range counts {
		indexes = append(indexes, i)
	}
	slices.Sort(indexes)
	var next int32
	var before int64
	for _, i := range indexes {
		if k := len(to.PositiveSpan); k > 0 && i == next {
			*to.PositiveSpan[k-1].Length++
		} else {
			to.PositiveSpan = append(to.PositiveSpan, &dto.BucketSpan{Offset: proto.Int32(i - next), Length: proto.Uint32(1)})
		}
		to.PositiveDelta = append(to.PositiveDelta, counts[i]-before)
		before, next = counts[i], i+1
	}
	if len(to.PositiveSpan) == 0 && to.GetZeroCount() == 0 {
		// What marks a native histogram without samples (client_golang does the same).
		to.PositiveSpan = []*dto.BucketSpan{{Offset: proto.Int32(0), Length: proto.Uint32(0)}}
	}
}

// eachNative calls f for each bucket that is listed.
func eachNative(h *dto.Histogram, f func(index int32, n int64)) {
	var index int32
	var n int64
	deltas := h.GetPositiveDelta()
	for _, span := range h.GetPositiveSpan() {
		index += span.GetOffset()
		for range span.GetLength() {
			if len(deltas) == 0 {
				return
			}
			n += deltas[0]
			deltas = deltas[1:]
			f(index, n)
			index++
		}
	}
}

// coarser is the bucket that a bucket is part of, in a schema that is less by steps.
func coarser(index, steps int32) int32 {
	if steps == 0 {
		return index
	}
	return (index-1)>>steps + 1
}
