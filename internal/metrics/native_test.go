package metrics

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/encoding/protodelim"

	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/reason"
)

// A scraper that asks for protobuf gets native buckets, with classic ones for
// those that do not read them; one that asks for text has the classic ones.
func TestNativeHistograms(t *testing.T) {
	m := full()
	r := record("pay", reason.OK)
	r.Setup, r.Action = 3*time.Millisecond, "terminate"
	m.Finished(r)
	ask := httptest.NewRequest(http.MethodGet, "/metrics", nil)
	ask.Header.Set("Accept", "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited")
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, ask)
	if kind := w.Header().Get("Content-Type"); !strings.HasPrefix(kind, "application/vnd.google.protobuf") {
		t.Fatalf("the answer is %q", kind)
	}
	histograms := map[string]*dto.Histogram{}
	for body := bufio.NewReader(w.Body); ; {
		var f dto.MetricFamily
		if err := protodelim.UnmarshalFrom(body, &f); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if f.GetType() == dto.MetricType_HISTOGRAM && strings.HasPrefix(f.GetName(), "sslgate_") {
			histograms[f.GetName()] = f.GetMetric()[0].GetHistogram()
		}
	}
	for _, name := range []string{"sslgate_flow_setup_seconds", "sslgate_flow_duration_seconds"} {
		h := histograms[name]
		if h == nil || h.Schema == nil || len(h.GetPositiveSpan())+int(h.GetZeroCount()) == 0 || len(h.GetBucket()) < 8 || h.GetSampleCount() != 1 {
			t.Errorf("%s: %v", name, h)
		}
	}
	has(t, scrape(t, m), `sslgate_flow_setup_seconds_bucket{action="terminate",le="0.005"} 1`)
}

// Debian's Prometheus takes the native buckets with the flag that
// docs/metrics.md names, and the classic ones without; the dashboard shows
// either.
func TestPrometheusScrapes(t *testing.T) {
	prometheus := testenv.Tool(t, "prometheus")
	m := full()
	r := record("pay", reason.OK)
	r.Setup, r.Action = 3*time.Millisecond, "terminate"
	gateway := httptest.NewServer(m.Handler())
	t.Cleanup(gateway.Close) // after the parallel ones
	quantile := ""
	for _, e := range expressions(dashboard(t)) {
		if strings.Contains(e, "histogram_quantile(0.5, ") && strings.Contains(e, "flow_setup") {
			quantile = strings.NewReplacer("$__rate_interval", "5s", "$instance", ".*").Replace(e)
		}
	}
	for _, c := range []struct {
		name  string
		flags []string
		query string
	}{
		{"native", []string{"--enable-feature=native-histograms"}, `histogram_count(sslgate_flow_setup_seconds)`},
		{"classic", nil, `sslgate_flow_setup_seconds_count`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel() // it waits for scrapes
			dir := t.TempDir()
			config := fmt.Sprintf("global: {scrape_interval: 200ms, scrape_timeout: 200ms}\nscrape_configs:\n  - job_name: sslgate\n    static_configs: [{targets: [%q]}]\n", strings.TrimPrefix(gateway.URL, "http://"))
			if err := os.WriteFile(filepath.Join(dir, "p.yml"), []byte(config), 0o644); err != nil {
				t.Fatal(err)
			}
			start := func() *program {
				at := freePort(t)
				return run(t, dir, at, prometheus, append(c.flags, "--config.file=p.yml", "--storage.tsdb.path=data", "--web.listen-address="+at)...)
			}
			p := start()
			defer func() { p.stop() }()
			var count, median float64
			for deadline, tries := testenv.Deadline(), 1; time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
				if p.over() && tries < 3 { // somebody else has taken the port meanwhile
					tries++
					p = start()
				}
				m.Finished(r)
				count, median = query(p.at, c.query), query(p.at, quantile)
				if count > 1 && median > 0.0025 && median < 0.005 {
					return
				}
			}
			p.stop()
			t.Errorf("%s is %v, and the dashboard's median %v\n%s", c.query, count, median, p.said.String())
		})
	}
}

// program is one that runs, and listens at an address.
type program struct {
	at    string
	cmd   *exec.Cmd
	said  strings.Builder // read it after stop
	ended chan struct{}
}

func run(t *testing.T, dir, at, name string, args ...string) *program {
	t.Helper()
	p := &program{at: at, cmd: exec.Command(name, args...), ended: make(chan struct{})}
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = dir, &p.said, &p.said
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { defer close(p.ended); _ = p.cmd.Wait() }()
	return p
}

func (p *program) stop() {
	_ = p.cmd.Process.Kill()
	<-p.ended
}

// over says whether it has ended.
func (p *program) over() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// query returns the only value of an expression, 0 if there is none yet.
func query(at, expr string) float64 {
	resp, err := http.Get("http://" + at + "/api/v1/query?query=" + url.QueryEscape(expr))
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	var answer struct {
		Data struct{ Result []struct{ Value [2]any } }
	}
	if json.NewDecoder(resp.Body).Decode(&answer) != nil || len(answer.Data.Result) != 1 {
		return 0
	}
	text, _ := answer.Data.Result[0].Value[1].(string)
	v, _ := strconv.ParseFloat(text, 64)
	return v
}

func freePort(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}
