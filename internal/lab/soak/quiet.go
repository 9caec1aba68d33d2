package soak

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Sample is the state of the gateway's process while no connection is active.
type Sample struct {
	Second     int   `json:"second"`     // since the start
	RSS        int64 `json:"rss"`        // bytes
	Runtime    int64 `json:"runtime"`    // part of rss: memory that Go's runtime has from the system, in bytes
	Heap       int64 `json:"heap"`       // part of runtime: memory in use after a garbage collection, in bytes
	Goroutines int   `json:"goroutines"` // of Go's runtime
	FDs        int   `json:"fds"`        // open file descriptors
	Flows      int   `json:"flows"`      // in the registry
	Lingering  int   `json:"lingering"`  // closed, with last bytes not acknowledged
}

// series is one line of /metrics.
type series struct {
	labels map[string]string
	value  float64
}

type samples map[string][]series

// one returns the value of the series with the label, 0 if there is none.
func (m samples) one(name string, label ...string) float64 {
	for _, s := range m[name] {
		if len(label) == 0 || s.labels[label[0]] == label[1] {
			return s.value
		}
	}
	return 0
}

// adminTimeout bounds a question to the gateway.
const adminTimeout = 30 * time.Second

// admin asks the gateway by its socket.
func (s *site) admin(ctx context.Context, method, path string) (int, []byte, error) {
	return s.ask(ctx, "admin.sock", method, path)
}

// ask asks the gateway on a socket in the directory.
func (s *site) ask(ctx context.Context, socket, method, path string) (int, []byte, error) {
	ctx, cancel := context.WithTimeout(ctx, adminTimeout)
	defer cancel()
	c := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", s.file(socket))
	}}}
	req, err := http.NewRequestWithContext(ctx, method, "http://gateway"+path, nil)
	if err != nil {
		return 0, nil, err
	}
	res, err := c.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, 16<<20))
	return res.StatusCode, b, err
}

// metrics reads /metrics: counters and gauges.
func (s *site) metrics(ctx context.Context) (samples, error) {
	code, b, err := s.admin(ctx, http.MethodGet, "/metrics")
	if err == nil && code != http.StatusOK {
		err = fmt.Errorf("/metrics answers %d", code)
	}
	if err != nil {
		return nil, err
	}
	return parseMetrics(string(b))
}

// parseMetrics parses Prometheus's text format as far as client_golang writes it. It skips
// comments.
func parseMetrics(text string) (samples, error) {
	m := samples{}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		i := strings.LastIndexByte(line, ' ')
		if i < 0 {
			return nil, fmt.Errorf("/metrics: no value in %q", line)
		}
		value, err := strconv.ParseFloat(line[i+1:], 64)
		if err != nil {
			return nil, fmt.Errorf("/metrics: %q: %w", line, err)
		}
		name, rest, _ := strings.Cut(line[:i], "{")
		v := series{labels: map[string]string{}, value: value}
		for rest != "" && rest != "}" {
			label, after, ok := strings.Cut(rest, "=")
			quoted, err := strconv.QuotedPrefix(after)
			if !ok || err != nil {
				return nil, fmt.Errorf("/metrics: labels of %q", line)
			}
			if v.labels[label], err = strconv.Unquote(quoted); err != nil {
				return nil, fmt.Errorf("/metrics: labels of %q: %w", line, err)
			}
			rest = strings.TrimPrefix(after[len(quoted):], ",")
		}
		m[name] = append(m[name], v)
	}
	return m, nil
}

// look takes a sample.
func (s *site) look(ctx context.Context, since time.Time) (x Sample, m samples, err error) {
	// The profile is discarded; it is requested because it collects garbage first. What a
	// sync.Pool holds becomes garbage at the second collection.
	for range 2 {
		if code, _, err := s.admin(ctx, http.MethodGet, "/debug/pprof/heap?gc=1"); err != nil || code != http.StatusOK {
			return x, nil, errors.Join(err, fmt.Errorf("garbage collection: status %d", code))
		}
	}
	if m, err = s.metrics(ctx); err != nil {
		return x, nil, err
	}
	x = Sample{
		Second: int(time.Since(since).Seconds()), Heap: int64(m.one("go_memstats_heap_alloc_bytes")),
		Goroutines: int(m.one("go_goroutines")), Flows: int(m.one("sslgate_flows_live")), Lingering: int(m.one("sslgate_flows_lingering")),
	}
	for _, part := range []string{"heap_live", "heap_garbage", "heap_unused", "stacks", "runtime"} {
		x.Runtime += int64(m.one("sslgate_memory_bytes", "part", part))
	}
	x.RSS, x.FDs, err = process(s.gateway.Process.Pid)
	return x, m, err
}

// process reads the resident memory in bytes and the number of descriptors of
// a process (proc(5)).
func process(pid int) (rss int64, fds int, err error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	for sc := bufio.NewScanner(f); sc.Scan(); {
		if kib, ok := strings.CutPrefix(sc.Text(), "VmRSS:"); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(kib, "kB")), 10, 64)
			if err != nil {
				return 0, 0, err
			}
			rss = n << 10
		}
	}
	all, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	return rss, len(all), err
}

// growth returns what has grown from the first samples to the last, by more than noise. A
// leak per flow shows soon: there are hundreds of flows between two quiet moments. The caller
// leaves the first sample out, because caches fill then. With the race detector resident
// memory is ignored: the detector's own memory, outside of Go's runtime and of the shadow,
// grows by a third of a kilobyte for each goroutine that ever was.
func growth(all []Sample, race bool) []string {
	if len(all) < 2 {
		return nil
	}
	third := max(1, len(all)/3)
	first, last := all[:third], all[len(all)-third:]
	var grown []string
	for _, c := range []struct {
		what  string
		of    func(Sample) int64
		slack func(int64) int64 // over the middle of the first third
	}{
		// Connections of the admin socket and of CRLs come and go.
		{"goroutines", func(s Sample) int64 { return int64(s.Goroutines) }, func(int64) int64 { return 6 }},
		{"file descriptors", func(s Sample) int64 { return int64(s.FDs) }, func(int64) int64 { return 3 }},
		// TIME_WAIT of the stack and the rings of finished flows fill for a minute or two: some
		// megabytes.
		{"heap", func(s Sample) int64 { return s.Heap }, func(n int64) int64 { return n/5 + 8<<20 }},
		{"memory of Go's runtime", func(s Sample) int64 { return s.Runtime }, func(n int64) int64 { return n/3 + 32<<20 }},
		// Memory that Go has given back counts until the kernel takes it.
		{"resident memory", func(s Sample) int64 { return s.RSS }, func(n int64) int64 { return n/3 + 32<<20 }},
	} {
		if race && c.what == "resident memory" {
			continue
		}
		values := func(all []Sample) (out []int64) {
			for _, s := range all {
				out = append(out, c.of(s))
			}
			return out
		}
		before, after := median(values(first)), median(values(last))
		if after > before+c.slack(before) {
			grown = append(grown, fmt.Sprintf("%s grew: %d in the first quiet moments, %d in the last", c.what, before, after))
		}
	}
	return grown
}

func median(all []int64) int64 {
	slices.Sort(all)
	return all[len(all)/2]
}
