package bench

import (
	"bytes"
	"encoding/json"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		in   []float64
		want float64
	}{
		{[]float64{7}, 7},
		{[]float64{3, 1}, 2},
		{[]float64{9, 1, 5}, 5},
		{[]float64{4, 1, 3, 2}, 2.5},
		{[]float64{100, 1, 1, 1, 1}, 1}, // one bad round does not count
	} {
		in := append([]float64(nil), c.in...)
		if got := median(c.in); got != c.want {
			t.Errorf("median(%v) = %v, want %v", in, got, c.want)
		}
		if !cmp.Equal(in, c.in) {
			t.Errorf("median changed %v to %v", in, c.in)
		}
	}
}

func TestNumberText(t *testing.T) {
	for _, c := range []struct {
		n      number
		digits int
		want   string
	}{
		{0, 4, "0"}, {1, 4, "1.000"}, {0.0123456, 4, "0.01235"}, {1234567, 4, "1234567"},
		{1.5, 3, "1.50"}, {99.96, 3, "100.0"}, {-2.5, 3, "-2.50"}, {17041, 3, "17041"},
		{number(math.NaN()), 4, "0"}, {number(math.Inf(1)), 4, "0"},
	} {
		if got := c.n.text(c.digits); got != c.want {
			t.Errorf("%v with %d digits: %q, want %q", float64(c.n), c.digits, got, c.want)
		}
	}
}

// sample is a run of two rounds with a peer that lacks one row and one that
// has 0.
func sample() *results {
	r := newResults()
	for _, v := range []float64{2, 1, 6} {
		r.add("tls-up1", SSLGate, value{"", "GiB/s", v})
		r.add("tls-up1", Go, value{"", "GiB/s", 2 * v})
	}
	r.add("tls-up1", HAProxy, value{"", "GiB/s", 0.5})
	r.add("tls-rtt", HAProxy, value{".p50", "µs", 150})
	r.add("tls-rtt", SSLGate, value{".p50", "µs", 200})
	r.add("tls-synflood", Go, value{".upstream", "connections", 0})
	r.add("tls-synflood", SSLGate, value{".upstream", "connections", 0})
	return r
}

func TestJSON(t *testing.T) {
	var b bytes.Buffer
	if err := writeJSON(&b, sample().rows()); err != nil {
		t.Fatal(err)
	}
	want := `{"test":"tls-up1","peer":"go","value":4.000,"unit":"GiB/s","spread":[2.000,12.00],"ratio":{"haproxy":8.000,"sslgate":2.000}}
{"test":"tls-up1","peer":"haproxy","value":0.5000,"unit":"GiB/s","spread":[0.5000,0.5000],"ratio":{"go":0.1250,"sslgate":0.2500}}
{"test":"tls-up1","peer":"sslgate","value":2.000,"unit":"GiB/s","spread":[1.000,6.000],"ratio":{"go":0.5000,"haproxy":4.000}}
{"test":"tls-rtt.p50","peer":"haproxy","value":150.0,"unit":"µs","spread":[150.0,150.0],"ratio":{"sslgate":0.7500}}
{"test":"tls-rtt.p50","peer":"sslgate","value":200.0,"unit":"µs","spread":[200.0,200.0],"ratio":{"haproxy":1.333}}
{"test":"tls-synflood.upstream","peer":"go","value":0,"unit":"connections","spread":[0,0],"ratio":{}}
{"test":"tls-synflood.upstream","peer":"sslgate","value":0,"unit":"connections","spread":[0,0],"ratio":{}}
`
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Error(diff)
	}
	for line := range strings.Lines(b.String()) {
		var row struct {
			Test, Peer, Unit string
			Value            float64
			Spread           [2]float64
			Ratio            map[string]float64
		}
		if err := json.Unmarshal([]byte(line), &row); err != nil {
			t.Errorf("%s: %v", line, err)
		}
	}
}

func TestTable(t *testing.T) {
	var b bytes.Buffer
	table := newTable(sample().rows())
	table.write(&b)
	want := `test                   unit                       go  haproxy           sslgate   /go  /haproxy
tls-up1                GiB/s        4.00 (2.00-12.0)    0.500  2.00 (1.00-6.00)  0.50      4.00
tls-rtt.p50            µs                          -      150               200            1.33
tls-synflood.upstream  connections                 0        -                 0
`
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Error(diff)
	}
	b.Reset()
	table.markdown(&b)
	want = `| test | unit | go | haproxy | sslgate | /go | /haproxy |
|---|---|---:|---:|---:|---:|---:|
| tls-up1 | GiB/s | 4.00 (2.00-12.0) | 0.500 | 2.00 (1.00-6.00) | 0.50 | 4.00 |
| tls-rtt.p50 | µs | - | 150 | 200 |  | 1.33 |
| tls-synflood.upstream | connections | 0 | - | 0 |  |  |
`
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Error(diff)
	}
}
