package metrics

import (
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/audit"
	"github.com/sslgate/sslgate/internal/reason"
)

// scramble puts another value into everything that a record holds, whatever it
// is: a field that is added later is scrambled too.
func scramble(v reflect.Value, r *rand.Rand, depth int) {
	if !v.CanSet() || depth > 6 {
		return
	}
	switch v.Kind() {
	case reflect.String:
		b := make([]byte, 1+r.IntN(12))
		for i := range b {
			b[i] = byte(' ' + r.IntN(95))
		}
		v.SetString(string(b))
	case reflect.Bool:
		v.SetBool(r.IntN(2) == 0)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(int64(r.Uint32()))
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(r.Uint64())
	case reflect.Pointer:
		if p := v.Type().Elem(); p.Kind() == reflect.Struct && !strings.HasPrefix(p.PkgPath(), "crypto/") {
			v.Set(reflect.New(p))
			scramble(v.Elem(), r, depth+1)
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Pointer {
			return // certificates
		}
		v.Set(reflect.MakeSlice(v.Type(), 3, 3))
		for i := range 3 {
			scramble(v.Index(i), r, depth+1)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			scramble(v.Field(i), r, depth+1)
		}
	}
}

// No label has values of a peer's choice: thousands of records with anything in
// them make no more series than a few words can.
func TestNoLabelIsAPeersChoice(t *testing.T) {
	m := full()
	r := rand.New(rand.NewPCG(1, 2))
	codes := reason.All()
	for i := range 4000 {
		rec := &audit.Record{}
		scramble(reflect.ValueOf(rec).Elem(), r, 0)
		rec.Rule = "pay" // a name of the configuration, bounded by TestRulesAreBounded
		rec.Setup, rec.Duration = time.Second, time.Second
		if i%2 == 0 {
			rec.Reason = codes[i/2%len(codes)].Code
		}
		for j := range rec.Ledger {
			if j%2 == 0 {
				rec.Ledger[j].Message = "Alert"
			}
			rec.Ledger[j].Step %= handshake.StepApplicationData
		}
		m.Finished(rec)
	}
	families, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	// The longest list of words there is, that of the reasons.
	most, values := len(codes)+1, map[string]map[string]bool{}
	for _, f := range families {
		for _, metric := range f.GetMetric() {
			for _, l := range metric.GetLabel() {
				at := f.GetName() + " " + l.GetName()
				if values[at] == nil {
					values[at] = map[string]bool{}
				}
				values[at][l.GetValue()] = true
			}
		}
	}
	if len(values) < 10 {
		t.Fatalf("only %d labels: the test looks at nothing", len(values))
	}
	for at, v := range values {
		if len(v) > most {
			t.Errorf("%s has %d values: somebody else chooses them", at, len(v))
		}
	}
	if n := len(values["sslgate_handshakes_total suite"]); n < 2 {
		t.Errorf("%d CipherSuites were counted", n)
	}
}
