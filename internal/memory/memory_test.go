package memory

import (
	"context"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab/testenv"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

func TestMain(m *testing.M) { testenv.NoLeaks(m) }

const mib = 1 << 20

// bench is a Budget with a meter, a collector and a clock of its own.
type bench struct {
	b       *Budget
	u       usage // what is measured; live is as of the last collection
	alive   int64 // what the next collection will find
	now     time.Time
	made    int // collections
	freed   int // those that give memory back
	rooms   []int64
	asked   []int64 // of shed
	held    int64   // what there is to shed, in flows of 1 MiB
	logged  *observer.ObservedLogs
	ceiling int64
	mu      sync.Mutex // of u and made, where loans collect from several goroutines
}

func newBench(t *testing.T) *bench {
	t.Helper()
	core, logs := observer.New(zap.InfoLevel)
	x := &bench{now: time.Unix(1000, 0), logged: logs, ceiling: 256 * mib}
	x.u = usage{file: 16 * mib, total: 20 * mib, live: 10 * mib, resident: 30 * mib, cycles: 1}
	x.alive = x.u.live
	b, undo, err := Start(Config{
		Ceiling: x.ceiling, Log: zap.New(core),
		Actions: Actions{
			Tighten: func(room int64) { x.rooms = append(x.rooms, room) },
			Shed: func(need int64) (int64, int) {
				x.asked = append(x.asked, need)
				n := min((need+mib-1)/mib, x.held/mib)
				x.held -= n * mib
				x.alive -= n * mib
				return n * mib, int(n)
			},
		},
		measure: func() (usage, error) {
			x.mu.Lock()
			defer x.mu.Unlock()
			return x.u, nil
		},
		collect: func() {
			x.mu.Lock()
			defer x.mu.Unlock()
			x.made++
			x.u.cycles++
			x.u.live = x.alive
		},
		free: func() { x.freed++; x.u.cycles++; x.u.live = x.alive },
		now:  func() time.Time { return x.now },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(undo)
	x.b = b
	return x
}

func (x *bench) look(t *testing.T) Level {
	t.Helper()
	if _, err := x.b.look(); err != nil {
		t.Fatal(err)
	}
	if err := x.b.act(); err != nil {
		t.Fatal(err)
	}
	return x.b.Level()
}

// The collector's limit leaves room for the program and five 32nds.
func TestLimitIsSetFromTheCeiling(t *testing.T) {
	before := debug.SetMemoryLimit(-1)
	x := newBench(t)
	if want := int64(256-16-40) * mib; x.b.Stats().Limit != want || debug.SetMemoryLimit(-1) != want {
		t.Errorf("limit %d, of the runtime %d, want %d", x.b.Stats().Limit, debug.SetMemoryLimit(-1), want)
	}
	t.Cleanup(func() {}) // undo runs after this
	_, undo, err := Start(Config{Ceiling: MinCeiling, Log: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	undo()
	if now := debug.SetMemoryLimit(-1); now == before || now != x.b.limit.Load() {
		t.Errorf("undo left %d", now)
	}
	if _, _, err := Start(Config{Ceiling: MinCeiling - 1, Log: zap.NewNop()}); err == nil {
		t.Error("a ceiling below the least was taken")
	}
}

// What is in use decides the level, at the documented thresholds, and each level is left
// below where it was entered.
func TestLevels(t *testing.T) {
	x := newBench(t) // the limit is 200 MiB
	for _, c := range []struct {
		live int64 // MiB
		want Level
	}{
		{99, Calm}, {100, Tight}, {95, Tight}, {89, Calm},
		{150, Full}, {141, Full}, {139, Tight}, {170, Over}, {161, Over}, {159, Full}, {10, Calm},
	} {
		x.held = 0 // nothing to shed
		x.u.live, x.alive = c.live*mib, c.live*mib
		x.u.cycles++
		if got := x.look(t); got != c.want {
			t.Errorf("%d MiB of 200: %s, want %s", c.live, got, c.want)
		}
		for _, small := range []bool{false, true} {
			refuse := c.want > Full || c.want == Full && !small
			if _, ok := x.b.Admit(small); ok == refuse || x.b.Refusing(small) != refuse {
				t.Errorf("%d MiB, small %v: admitted %v, refusing %v", c.live, small, ok, x.b.Refusing(small))
			}
		}
	}
	x.u.resident = x.ceiling - x.ceiling/32*3
	if got := x.look(t); got != Flood || !x.b.Flooded() {
		t.Errorf("resident at 29/32 of the ceiling: %s", got)
	}
}

// Garbage up to the limit is no reason to refuse anybody: a collection tells.
func TestGarbageIsNotInUse(t *testing.T) {
	x := newBench(t)
	x.u.total = 199 * mib
	x.now = x.now.Add(2 * collectEvery)
	if got := x.look(t); got != Calm || x.made != 1 {
		t.Errorf("%s after %d collections", got, x.made)
	}
	// And collections have a bound.
	for range 10 {
		x.look(t)
	}
	if x.made != 1 {
		t.Errorf("%d collections at once", x.made)
	}
	// What it finds counts.
	x.now, x.alive = x.now.Add(2*collectEvery), 160*mib
	if got := x.look(t); got != Full || x.made != 2 {
		t.Errorf("%s after %d collections, want full", got, x.made)
	}
}

// Flows are counted with their reserve until a collection has measured them,
// and not longer than they live.
func TestReservations(t *testing.T) {
	x := newBench(t)
	var leave []func()
	for {
		l, ok := x.b.Admit(true)
		if !ok {
			break
		}
		leave = append(leave, l)
	}
	// 85 % of 200 MiB, less the 10 in use.
	if want := 160 * mib / FlowReserve; len(leave) != want {
		t.Errorf("%d flows at once, want %d", len(leave), want)
	}
	if x.look(t) < Full {
		t.Error("promised memory does not count")
	}
	for _, l := range leave[:len(leave)-100] {
		l()
	}
	if got := x.look(t); got != Calm {
		t.Errorf("after they have ended: %s", got)
	}
	x.u.cycles++
	x.look(t)
	leave[len(leave)-1]() // measured meanwhile: must not count below nothing
	if n := x.b.admitted.Load(); n != 0 {
		t.Errorf("%d flows are promised after a collection", n)
	}
	if st := x.b.Stats(); st.Refused != 1 {
		t.Errorf("%d refused", st.Refused)
	}
}

// Over the line flows are ended down to 65 %, a collection at once shows what that freed,
// and no more flows are ended than needed.
func TestShed(t *testing.T) {
	x := newBench(t)
	x.held = 150 * mib
	x.u.live, x.alive = 180*mib, 180*mib
	x.u.cycles++
	if got := x.look(t); got != Over || len(x.asked) != 1 || x.asked[0] != 50*mib {
		t.Fatalf("%s, asked for %v", got, x.asked)
	}
	if got := x.look(t); x.made != 1 || len(x.asked) != 1 || got != Tight {
		t.Errorf("%s after %d collections, asked for %v", got, x.made, x.asked)
	}
	if st := x.b.Stats(); st.Shed != 50 || st.ShedBytes != 50*mib {
		t.Errorf("%+v", st)
	}
	if n := x.logged.FilterMessage("memory").Len(); n != 1 {
		t.Errorf("%d lines for two changes within a moment, want 1", n)
	}
}

// Buffers get what is left. They are told again only after a large change, and get all of
// their room back in the end.
func TestTighten(t *testing.T) {
	x := newBench(t)
	for _, live := range []int64{50, 110, 112, 114, 140, 50, 40} {
		x.u.live, x.alive = live*mib, live*mib
		x.u.cycles++
		x.look(t)
	}
	want := []int64{20 * mib, 5 * mib, 0}
	if len(x.rooms) != len(want) {
		t.Fatalf("rooms %v, want %v", x.rooms, want)
	}
	for i := range want {
		if x.rooms[i] != want[i] {
			t.Errorf("rooms %v, want %v", x.rooms, want)
		}
	}
}

// The real meter sees what this process holds and gives back.
func TestMeter(t *testing.T) {
	m, err := newMeter()
	if err != nil {
		t.Fatal(err)
	}
	defer m.close()
	before, err := m.read()
	if err != nil {
		t.Fatal(err)
	}
	const n = 64 * mib
	block := make([]byte, n)
	for i := 0; i < n; i += 4096 {
		block[i] = 1
	}
	after, err := m.read()
	if err != nil {
		t.Fatal(err)
	}
	if d := after.total - before.total; d < n*9/10 {
		t.Errorf("total grew by %d of %d", d, int64(n))
	}
	if d := after.resident - before.resident; d < n*9/10 {
		t.Errorf("resident grew by %d of %d", d, int64(n))
	}
	if before.file < 1*mib || before.file > 1<<30 || before.inUse() <= 0 || before.inUse() > before.total {
		t.Errorf("%+v", before)
	}
	p := Read()
	if p.Live+p.Garbage < n || p.Stacks == 0 || p.Runtime == 0 {
		t.Errorf("%+v", p)
	}
	if block[4096] != 1 {
		t.Error("gone")
	}
}

// Run ends with its context.
func TestRun(t *testing.T) {
	b, undo, err := Start(Config{Ceiling: 64 << 30, Log: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer undo()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ran := make(chan error, 1)
	go func() { ran <- b.Run(ctx) }()
	testenv.Eventually(t, "it has looked", func() bool { return b.Stats().Resident > 0 })
	cancel()
	if err := testenv.Receive(t, "the end of Run", ran); err != nil {
		t.Fatal(err)
	}
	if st := b.Stats(); st.Resident == 0 || st.InUse == 0 || st.Level != Calm {
		t.Errorf("%+v", st)
	}
}

func TestDefaultCeiling(t *testing.T) {
	dir := t.TempDir()
	put := func(name, text string) {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want := func(n int64) {
		t.Helper()
		if got := defaultCeiling(dir); got != n {
			t.Errorf("%d, want %d", got, n)
		}
	}
	want(0)
	put("proc/meminfo", "MemTotal:       1048576 kB\nMemFree: 1 kB\n")
	want(768 * mib)
	put("proc/self/cgroup", "0::/system.slice/sslgate.service\n")
	put("sys/fs/cgroup/system.slice/sslgate.service/memory.max", "max\n")
	want(768 * mib)
	put("sys/fs/cgroup/system.slice/memory.max", "536870912\n")
	want(384 * mib)
	put("proc/self/cgroup", "0::/../outside\n") // of another namespace: no file, no harm
	want(768 * mib)
	if n := DefaultCeiling(); n <= 0 {
		t.Errorf("this machine: %d", n)
	}
}

func FuzzProc(f *testing.F) {
	f.Add([]byte("5 3 1 0 0 0 0\n"))
	f.Add([]byte("00400000-00600000 r-xp 00000000 08:01 1 /usr/bin/sslgate\n7ff0-7ff1 rw-p 0 00:00 0\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if n, err := parseStatm(text); err != nil && n != 0 {
			t.Errorf("%d and %v", n, err)
		}
		if n, err := filePages(text); err != nil && n != 0 {
			t.Errorf("%d and %v", n, err)
		}
		if n := memTotal(text); n != 0 && !strings.Contains(string(text), "MemTotal:") {
			t.Errorf("%d of nothing", n)
		}
	})
}

// A ceiling that is lowered and raised again moves the collector's limit, the levels and the
// line of the intake; garbage above it is given back at once.
func TestSetCeiling(t *testing.T) {
	x := newBench(t)
	before := x.b.Stats().Limit
	x.u.resident, x.u.live, x.u.total, x.alive = 140*mib, 90*mib, 120*mib, 90*mib
	x.u.cycles++
	x.look(t)
	if x.b.Level() != Calm {
		t.Fatalf("level %v", x.b.Level())
	}
	if err := x.b.SetCeiling(160 * mib); err != nil {
		t.Fatal(err)
	}
	if x.freed != 1 {
		t.Errorf("given back %d times", x.freed)
	}
	st := x.b.Stats()
	if st.Ceiling != 160*mib || st.Limit >= before || st.Level == Calm || debug.SetMemoryLimit(-1) != st.Limit {
		t.Errorf("%+v", st)
	}
	if err := x.b.SetCeiling(x.ceiling); err != nil {
		t.Fatal(err)
	}
	if st := x.b.Stats(); st.Ceiling != x.ceiling || st.Limit != before || debug.SetMemoryLimit(-1) != before {
		t.Errorf("%+v, limit before %d", st, before)
	}
	if x.b.SetCeiling(MinCeiling-1) == nil {
		t.Error("a ceiling below the least is taken")
	}
}
