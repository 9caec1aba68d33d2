package admin

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	"go.uber.org/zap/zaptest"
)

// Only the kinds that were asked for count, none asked for is all, and what says no kinds counts
// always.
func TestReadyKinds(t *testing.T) {
	old := Readiness{Reasons: []string{"draining"}}
	of := func(kinds ...ReadyKind) Readiness {
		r := Readiness{Reasons: []string{"a warning"}, Ready: len(kinds) == 0}
		for _, k := range kinds {
			r.Reasons, r.Causes = append(r.Reasons, string(k)), append(r.Causes, Cause{k, string(k)})
		}
		return r
	}
	for _, c := range []struct {
		name  string
		r     Readiness
		kinds string
		code  int
		left  []ReadyKind
	}{
		{"ready", of(), "", 200, nil},
		{"load counts where all do", of(ReadyLoad), "", 503, []ReadyKind{ReadyLoad}},
		{"load does not move addresses", of(ReadyLoad), "stop,own", 200, nil},
		{"what is shared does not either", of(ReadyShared, ReadyLoad), "stop,own", 200, nil},
		{"a stop does", of(ReadyLoad, ReadyStop), "stop,own", 503, []ReadyKind{ReadyStop}},
		{"a fault of its own does", of(ReadyOwn), "own, stop", 503, []ReadyKind{ReadyOwn}},
		{"a version without kinds", old, "stop,own", 503, nil},
		{"two parameters", of(ReadyOwn), "stop&kinds=own", 503, []ReadyKind{ReadyOwn}},
		{"no such kind", of(), "stop,mine", 400, nil},
		{"an empty kind", of(), "stop,", 400, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := New(Options{Backend: readied{r: c.r}, Hub: NewHub(), Metrics: http.NotFoundHandler(), Log: zaptest.NewLogger(t)})
			w := httptest.NewRecorder()
			req := httptest.NewRequest(http.MethodGet, "/v1/ready", nil)
			req.URL.RawQuery = "kinds=" + c.kinds
			req.URL.RawQuery = req.URL.Query().Encode()
			s.ready(w, req)
			var got Readiness
			if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
				t.Fatal(err)
			}
			var left []ReadyKind
			for _, cause := range got.Causes {
				left = append(left, cause.Kind)
			}
			if w.Code != c.code || !slices.Equal(left, c.left) || c.code != 400 && !slices.Equal(got.Reasons, c.r.Reasons) {
				t.Errorf("%d %+v", w.Code, got)
			}
			if kinds, err := ParseReadyKinds(c.kinds); err == nil && c.r.Of(kinds).Ready != (w.Code == 200) {
				t.Errorf("the client's answer differs: %+v", c.r.Of(kinds))
			}
		})
	}
}

type readied struct {
	fixed
	r Readiness
}

func (b readied) Readiness() Readiness { return b.r }
