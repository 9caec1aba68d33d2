package audit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/sslgate/sslgate/internal/lab/testenv"
)

// broken is a log of room for four on a disk that is full, with a record in
// the writer's hand and four in the queue.
func broken(t *testing.T, d *smallDisk, o OnFull, log *zap.Logger) (*Log, string) {
	t.Helper()
	path := filepath.Join(d.dir, "audit.jsonl")
	f, err := OpenFile(path, Rotate{})
	if err != nil {
		t.Fatal(err)
	}
	d.fill()
	l := Start(Config{Sink: f, Name: f.String(), Queue: 4, OnFull: o, Log: log})
	for i := range 5 {
		if err := l.Write(rec(fmt.Sprint("q", i), true)); err != nil {
			t.Fatal(err)
		}
		testenv.Eventually(t, "taken", func() bool { s := l.Stats(); return s.Queued == i+1 && s.Err != nil })
	}
	return l, path
}

func TestDiskFullDrop(t *testing.T) {
	d := newSmallDisk(t)
	log, logs := observed()
	l, path := broken(t, d, Drop, log)
	if l.Refusing() || l.Admit(context.Background(), time.Now().Add(time.Minute)) != nil {
		t.Error("a flow is refused")
	}
	for range 100 {
		if err := l.Write(rec("lost", true)); !errors.Is(err, ErrLost) {
			t.Fatalf("err = %v", err)
		}
	}
	if s := l.Stats(); s.Lost != 100 || !errors.Is(s.Err, unix.ENOSPC) || s.Capacity != 4 {
		t.Errorf("%+v", s)
	}
	d.free()
	testenv.Eventually(t, "mended", func() bool { return l.Stats().Queued == 0 })
	if err := l.Write(rec("after", true)); err != nil {
		t.Error(err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if got := ids(t, path); !slices.Equal(got, []string{"q0", "q1", "q2", "q3", "q4", "after"}) {
		t.Errorf("%v", got)
	}
	// A hundred lost records and many tries are two messages: it broke, it is mended.
	var said []string
	for _, e := range logs.All() {
		said = append(said, e.Message)
	}
	if !slices.Equal(said, []string{"audit records cannot be written", "audit records are written again"}) {
		t.Errorf("said %q", said)
	}
	if got := fmt.Sprint(logs.All()[0].ContextMap()); !strings.Contains(got, "no space left on device") || !strings.Contains(got, "on_full:drop") {
		t.Errorf("fields %s", got)
	}
}

func TestDiskFullRefuse(t *testing.T) {
	d := newSmallDisk(t)
	log, _ := observed()
	l, path := broken(t, d, Refuse, log)
	if !l.Refusing() {
		t.Error("new flows are not refused")
	}
	if err := l.Admit(context.Background(), time.Now().Add(time.Minute)); !errors.Is(err, ErrUnavailable) {
		t.Errorf("Admit: %v", err)
	}
	// The record of a refused flow does not wait ...
	if err := l.Write(rec("refused", false)); !errors.Is(err, ErrLost) {
		t.Errorf("refused: %v", err)
	}
	// ... that of one that was let through does.
	wrote := make(chan error, 1)
	go func() { wrote <- l.Write(rec("live", true)) }()
	select {
	case err := <-wrote:
		t.Fatalf("did not wait: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	d.free()
	if err := <-wrote; err != nil {
		t.Error(err)
	}
	testenv.Eventually(t, "mended", func() bool { return !l.Refusing() })
	if err := l.Admit(context.Background(), time.Now().Add(time.Minute)); err != nil {
		t.Error(err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if got := ids(t, path); !slices.Equal(got, []string{"q0", "q1", "q2", "q3", "q4", "live"}) {
		t.Errorf("%v", got)
	}
}

func TestDiskFullBlock(t *testing.T) {
	d := newSmallDisk(t)
	log, _ := observed()
	l, path := broken(t, d, Block, log)
	if l.Refusing() {
		t.Error("SYNs are refused")
	}
	if err := l.Admit(context.Background(), time.Now().Add(50*time.Millisecond)); !errors.Is(err, ErrUnavailable) {
		t.Errorf("Admit: %v", err)
	}
	begun, wrote := make(chan error, 1), make(chan error, 1)
	go func() { begun <- l.Admit(context.Background(), time.Now().Add(time.Minute)) }()
	go func() { wrote <- l.Write(rec("waited", false)) }()
	select {
	case err := <-begun:
		t.Fatalf("a new flow did not wait: %v", err)
	case err := <-wrote:
		t.Fatalf("a record did not wait: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	d.free()
	if err := errors.Join(<-begun, <-wrote, l.Close()); err != nil {
		t.Error(err)
	}
	if got := ids(t, path); len(got) != 6 || got[5] != "waited" {
		t.Errorf("%v", got)
	}
}

// A stop is not held up by a sink that is broken, and says what it costs.
func TestCloseWhileBroken(t *testing.T) {
	d := newSmallDisk(t)
	log, _ := observed()
	l, _ := broken(t, d, Block, log)
	wrote := make(chan error, 1)
	go func() { wrote <- l.Write(rec("late", true)) }()
	time.Sleep(20 * time.Millisecond)
	l.Release()
	if err := <-wrote; !errors.Is(err, ErrLost) {
		t.Errorf("err = %v", err)
	}
	if err := l.Close(); err == nil || !strings.Contains(err.Error(), "5 audit records could not be written") {
		t.Errorf("Close: %v", err)
	}
}

// Records that are queued when the log closes are written.
func TestCloseWritesTheQueue(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a")
	f, err := OpenFile(path, Rotate{})
	if err != nil {
		t.Fatal(err)
	}
	l := Start(Config{Sink: f, Name: "a", Log: zap.NewNop()})
	for i := range 1000 {
		if err := l.Write(rec(fmt.Sprint(i), true)); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if got := ids(t, path); len(got) != 1000 || got[999] != "999" {
		t.Errorf("%d records", len(got))
	}
	if err := l.Write(rec("x", true)); !errors.Is(err, ErrLost) {
		t.Errorf("after Close: %v", err)
	}
}

// A pipe that nobody reads holds the writer, not the stop.
func TestCloseDoesNotHang(t *testing.T) {
	r, w := io.Pipe()
	l := Start(Config{Sink: NewStream(w), Name: "standard output", Log: zap.NewNop()})
	if err := l.Write(rec("x", true)); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err == nil || !strings.Contains(err.Error(), "standard output does not take") {
		t.Errorf("err = %v", err)
	}
	_ = r.Close() // lets the writer go
	<-l.queue.done
}

// /dev/full is a disk that is always full, without root.
func TestDevFull(t *testing.T) {
	f, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		testenv.Missing(t, "needs /dev/full: %v", err)
	}
	defer func() { _ = f.Close() }()
	log, logs := observed()
	l := Start(Config{Sink: NewStream(f), Name: "standard output", Log: log})
	if err := l.Write(rec("x", true)); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, "refusing", l.Refusing)
	if err := l.Close(); err == nil {
		t.Error("the loss is not said")
	}
	if logs.FilterMessage("audit records cannot be written").Len() != 1 {
		t.Errorf("%v", logs.All())
	}
}

func TestReopenThroughTheQueue(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a")
	f, err := OpenFile(path, Rotate{})
	if err != nil {
		t.Fatal(err)
	}
	l := Start(Config{Sink: f, Name: "a", Log: zap.NewNop()})
	_ = l.Write(rec("1", true))
	testenv.Eventually(t, "written", func() bool { return l.Stats().Written == 1 })
	if err := os.Rename(path, path+".old"); err != nil {
		t.Fatal(err)
	}
	l.Reopen()
	testenv.Eventually(t, "made anew", func() bool { return exists(path) })
	_ = l.Write(rec("2", true))
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if got := ids(t, path+".old", path); !slices.Equal(got, []string{"1", "2"}) {
		t.Errorf("%v", got)
	}
}

func TestOnFullWords(t *testing.T) {
	for _, o := range []OnFull{Refuse, Block, Drop} {
		if got, err := ParseOnFull(o.String()); err != nil || got != o {
			t.Errorf("%v: %v, %v", o, got, err)
		}
	}
	if o, err := ParseOnFull("allow"); err == nil || o != Refuse {
		t.Errorf("unknown word: %v, %v", o, err)
	}
	if OnFull(9).String() != "refuse" || (OnFull)(0) != Refuse {
		t.Error("the zero value and unknown ones must refuse")
	}
}

// counted counts how it is written to.
type counted struct {
	*File
	calls int
}

func (c *counted) Write(line []byte) error { c.calls++; return c.File.Write(line) }

func (c *counted) WriteLines(lines [][]byte) (int, error) {
	c.calls++
	return c.File.WriteLines(lines)
}

// Many records at once take few writes: all of them, in order, and no file
// becomes larger than it may.
func TestGathered(t *testing.T) {
	for _, size := range []int64{0, 4 << 10} {
		path := filepath.Join(t.TempDir(), "audit.jsonl")
		f, err := OpenFile(path, Rotate{Size: size, Keep: MaxKeep})
		if err != nil {
			t.Fatal(err)
		}
		log, _ := observed()
		sink := &counted{File: f}
		l := Start(Config{Sink: sink, Name: f.String(), Log: log})
		const n = 2000
		var want []string
		for i := range n {
			want = append(want, fmt.Sprint("r", i))
			if err := l.Write(rec(want[i], true)); err != nil {
				t.Fatal(err)
			}
		}
		testenv.Eventually(t, "all are written", func() bool { s := l.Stats(); return s.Written == n && s.Queued == 0 })
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		paths := []string{path}
		for i := 1; exists(fmt.Sprint(path, ".", i)); i++ {
			paths = append([]string{fmt.Sprint(path, ".", i)}, paths...)
		}
		if got := ids(t, paths...); !slices.Equal(got, want) {
			t.Errorf("size %d: %d records, the first %q", size, len(got), got[:min(3, len(got))])
		}
		if sink.calls >= n {
			t.Errorf("size %d: %d writes of %d records", size, sink.calls, n)
		}
		for _, p := range paths {
			if st, err := os.Stat(p); err != nil || size > 0 && st.Size() > size {
				t.Errorf("%s: %v %d bytes", p, err, st.Size())
			}
		}
		if (len(paths) > 1) != (size > 0) {
			t.Errorf("size %d: %d files", size, len(paths))
		}
	}
}

// Records are numbered: a number that is nowhere is one that was lost.
func TestNumbered(t *testing.T) {
	s := &full{}
	l := Start(Config{Sink: s, Name: "x", Queue: 1, OnFull: Drop, Log: zap.NewNop()})
	var taken []uint64
	for range 20 {
		r := rec("x", true)
		if err := l.Write(r); err == nil {
			taken = append(taken, r.Seq)
		} else if !errors.Is(err, ErrLost) {
			t.Fatal(err)
		}
	}
	s.open()
	testenv.Eventually(t, "what was taken is written", func() bool { return l.Stats().Queued == 0 })
	last := rec("x", true)
	if err := errors.Join(l.Write(last), l.Close()); err != nil {
		t.Fatal(err)
	}
	if last.Seq != 21 || len(taken) == 0 || len(taken) == 20 {
		t.Fatalf("the last one is %d, taken were %d", last.Seq, taken)
	}
	var written []uint64
	for _, line := range s.lines {
		p, err := Parse([]byte(line))
		if err != nil {
			t.Fatal(err)
		}
		written = append(written, p.Seq)
	}
	if want := append(taken, 21); !slices.Equal(written, want) {
		t.Errorf("written are %d, want %d", written, want)
	}
	direct := rec("x", true)
	if err := New(io.Discard).Write(direct); err != nil || direct.Seq != 0 {
		t.Errorf("a log without a queue: %v, %d", err, direct.Seq)
	}
}

// full takes nothing until it is opened.
type full struct {
	mu    sync.Mutex
	good  bool
	lines []string
}

func (f *full) Write(line []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.good {
		return unix.ENOSPC
	}
	f.lines = append(f.lines, string(line))
	return nil
}

func (f *full) open() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.good = true
}

func (*full) Reopen() error { return nil }
func (*full) Close() error  { return nil }
