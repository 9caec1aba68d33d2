package metrics

import (
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/sslgate/sslgate/internal/audit"
	"github.com/sslgate/sslgate/internal/fairqueue"
	"github.com/sslgate/sslgate/internal/revocation"
	"github.com/sslgate/sslgate/stack"
)

// numbers puts n into every number below v, one after another, and calls each
// with the field's name.
func numbers(v reflect.Value, name string, n *int, put func(name, text string)) {
	for i := range v.NumField() {
		f, name := v.Field(i), name+v.Type().Field(i).Name
		if f.Kind() == reflect.Struct {
			numbers(f, name+".", n, put)
			continue
		}
		*n++
		switch {
		case f.CanInt():
			f.SetInt(int64(*n))
		case f.CanUint():
			f.SetUint(uint64(*n))
		case f.CanFloat():
			f.SetFloat(float64(*n))
		case f.Kind() == reflect.Slice && f.Type().Elem().Kind() == reflect.Uint64:
			f.Set(reflect.ValueOf([]uint64{uint64(*n)}))
		default:
			continue // a text, an error
		}
		put(name, strconv.FormatFloat(float64(*n), 'g', -1, 64)) // as a scrape writes it
	}
}

// What the packages count is exported: a counter that is added later too.
func TestWhatIsCountedIsExported(t *testing.T) {
	// Not exported, with the reason.
	not := map[string]string{
		"stack.PacedFlows":   "of the moment; sslgate_flows_live and the memory say what matters of it",
		"stack.PacedPackets": "of the moment; what they hold is in sslgate_memory_bytes",
		"stack.FlowsLive":    "sslgate_flows_live is the gateway's own figure",
		"fairqueue.Work":     "goes down too, where a handshake cost less than it was charged with",
		"revocation.Mode":    "a setting",
		"revocation.Fetches": "the sum of the results of sslgate_crl_loads_total",
		"memory.Resident":    "process_resident_memory_bytes",
	}
	n := 7_100_000 // no other number of a scrape looks like those
	check := func(pkg string, v reflect.Value, src func() Sources) {
		want := map[string]string{}
		numbers(v, pkg+".", &n, func(name, text string) { want[name] = text })
		if len(want) < 5 {
			t.Fatalf("%s: %d numbers", pkg, len(want))
		}
		out := scrape(t, New(Info{Version: "1"}, src()))
		for name, text := range want {
			exported := strings.Contains(out, " "+text+"\n")
			if _, ok := not[name]; ok == exported {
				t.Errorf("%s: exported: %t, in the list of those that are not: %t", name, exported, ok)
			}
		}
	}
	var st stack.Stats
	check("stack", reflect.ValueOf(&st).Elem(), func() Sources { return Sources{Stack: func() stack.Stats { return st }} })
	var records audit.Stats
	check("audit", reflect.ValueOf(&records).Elem(), func() Sources { return Sources{Audit: func() audit.Stats { return records }} })
	var turns fairqueue.Stats
	check("fairqueue", reflect.ValueOf(&turns).Elem(), func() Sources { return Sources{Handshakes: func() fairqueue.Stats { return turns }} })
	var mem Memory
	check("memory", reflect.ValueOf(&mem).Elem(), func() Sources { return Sources{Memory: func() *Memory { return &mem }} })
	var authority revocation.AuthorityStats
	check("revocation", reflect.ValueOf(&authority).Elem(), func() Sources {
		return Sources{Revocation: func() revocation.Stats {
			return revocation.Stats{Authorities: map[string]revocation.AuthorityStats{"a": authority}}
		}}
	})
}
