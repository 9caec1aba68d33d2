package memory

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime/metrics"
	"strconv"
)

// usage is one measurement, in bytes.
type usage struct {
	total    int64 // mapped and not given back: what the collector's limit bounds
	live     int64 // objects that the last collection found alive
	fixed    int64 // stacks and what the runtime needs for itself
	resident int64 // of the process, its program included (RSS)
	file     int64 // bytes of file mappings: at most this much of resident is the program itself
	cycles   uint64
}

// inUse is the memory that no collection would give back.
func (u usage) inUse() int64 { return u.live + u.fixed }

// Indexes into meter.samples.
const (
	sTotal = iota
	sReleased
	sObjects
	sUnused
	sFree
	sLive
	sCycles
	sStacks
	samples
)

// meter measures this process.
type meter struct {
	statm   *os.File // kept open: a sandbox may hide /proc later
	page    int64
	file    int64
	samples [samples]metrics.Sample
}

func newMeter() (*meter, error) {
	m := &meter{page: int64(os.Getpagesize())}
	for i, name := range [samples]string{
		sTotal:    "/memory/classes/total:bytes",
		sReleased: "/memory/classes/heap/released:bytes",
		sObjects:  "/memory/classes/heap/objects:bytes",
		sUnused:   "/memory/classes/heap/unused:bytes",
		sFree:     "/memory/classes/heap/free:bytes",
		sLive:     "/gc/heap/live:bytes",
		sCycles:   "/gc/cycles/total:gc-cycles",
		sStacks:   "/memory/classes/heap/stacks:bytes",
	} {
		m.samples[i].Name = name
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return nil, err
	}
	if m.file, err = filePages(maps); err != nil {
		return nil, err
	}
	m.statm, err = os.Open("/proc/self/statm")
	return m, err
}

func (m *meter) close() { _ = m.statm.Close() }

func (m *meter) read() (usage, error) {
	metrics.Read(m.samples[:])
	get := func(i int) int64 { return int64(m.samples[i].Value.Uint64()) }
	var buf [256]byte
	n, err := m.statm.ReadAt(buf[:], 0)
	if n == 0 {
		return usage{}, err
	}
	resident, err := parseStatm(buf[:n])
	if err != nil {
		return usage{}, err
	}
	total := get(sTotal) - get(sReleased)
	return usage{
		total: total, live: get(sLive), fixed: total - get(sObjects) - get(sUnused) - get(sFree),
		resident: resident * m.page, file: m.file, cycles: m.samples[sCycles].Value.Uint64(),
	}, nil
}

// Parts of the Go runtime's memory, in bytes.
type Parts struct {
	Live, Garbage, Stacks, Unused, Runtime uint64
}

// Read returns the parts. Garbage is what was allocated since the last collection; some
// of it is still in use.
func Read() Parts {
	m := [...]metrics.Sample{
		{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}, {Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/memory/classes/heap/unused:bytes"}, {Name: "/memory/classes/heap/free:bytes"}, {Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/heap/stacks:bytes"},
	}
	metrics.Read(m[:])
	v := func(i int) uint64 { return m[i].Value.Uint64() }
	sub := func(a, b uint64) uint64 { return max(a, b) - b }
	p := Parts{Live: v(5), Garbage: sub(v(2), v(5)), Stacks: v(6), Unused: v(3) + v(4)}
	p.Runtime = sub(v(0)-v(1), v(2)+v(6)+p.Unused)
	return p
}

// parseStatm returns the second field of /proc/self/statm: resident pages
// (proc_pid_statm(5)).
func parseStatm(text []byte) (int64, error) {
	f := bytes.Fields(text)
	if len(f) < 2 {
		return 0, errors.New("/proc/self/statm: no resident size")
	}
	n, err := strconv.ParseInt(string(f[1]), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("/proc/self/statm: %w", err)
	}
	return n, nil
}

// filePages sums the file mappings in /proc/self/maps, because all of them may become
// resident (proc_pid_maps(5)).
func filePages(text []byte) (int64, error) {
	var sum int64
	for line := range bytes.Lines(text) {
		f := bytes.Fields(line)
		if len(f) < 6 || f[5][0] != '/' {
			continue // anonymous, or of the kernel
		}
		from, to, ok := bytes.Cut(f[0], []byte("-"))
		if !ok {
			return 0, fmt.Errorf("/proc/self/maps: %q", f[0])
		}
		a, err := strconv.ParseUint(string(from), 16, 64)
		if err != nil {
			return 0, fmt.Errorf("/proc/self/maps: %w", err)
		}
		b, err := strconv.ParseUint(string(to), 16, 64)
		if err != nil || b < a {
			return 0, fmt.Errorf("/proc/self/maps: %q", f[0])
		}
		sum += int64(b - a)
	}
	return sum, nil
}
