package applog

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// bench is a log whose clock and timers are the test's.
type bench struct {
	out    bytes.Buffer
	core   bound
	at     time.Time
	timers []func()
}

func newBench(t *testing.T) *bench {
	t.Helper()
	x := &bench{at: time.Now()}
	log, _ := New("info", "json", &x.out)
	x.core = log.Core().(bound)
	x.core.counts.after = func(_ time.Duration, f func()) { x.timers = append(x.timers, f) }
	return x
}

func (x *bench) write(msg string, fields ...zap.Field) {
	if ce := x.core.Check(zapcore.Entry{Level: zapcore.WarnLevel, Message: msg, Time: x.at}, nil); ce != nil {
		ce.Write(fields...)
	}
}

type line struct {
	Msg     string `json:"msg"`
	SuchAs  string `json:"such_as"`
	LeftOut uint64 `json:"left_out"`
}

func (x *bench) lines(t *testing.T) (all []line, left map[string]uint64) {
	t.Helper()
	left = map[string]uint64{}
	for l := range bytes.Lines(x.out.Bytes()) {
		var one line
		if err := json.Unmarshal(l, &one); err != nil {
			t.Fatal(err)
		}
		if one.Msg == LeftOut {
			left[one.SuchAs] += one.LeftOut
			continue
		}
		all = append(all, one)
	}
	x.out.Reset()
	return all, left
}

// One that says the same without end writes a hundred lines in ten seconds and one
// that counts all of the rest when they are over; other messages are not held up, and
// each has its own count.
func TestBound(t *testing.T) {
	x := newBench(t)
	for i := range 100000 {
		x.at = x.at.Add(50 * time.Microsecond)
		x.write("limit met", zap.Int("client", i))
		if i%100 == 0 {
			x.write("another", zap.Int("client", i))
		}
	}
	x.write("a third")
	all, left := x.lines(t)
	if len(all) != 2*Most+1 || len(left) != 0 {
		t.Fatalf("%d lines, left out %v", len(all), left)
	}
	x.at = x.at.Add(Every)
	x.write("limit met")
	x.write("another")
	all, left = x.lines(t)
	if len(all) != 2 || left["limit met"] != 100000-Most || left["another"] != 1000-Most {
		t.Errorf("%v, left out %v", all, left)
	}
}

// The rest is counted when the time is over though nothing more is said, and at the
// end of the log; nothing is counted twice.
func TestBoundTellsAtTheEnd(t *testing.T) {
	x := newBench(t)
	for range Most + 7 {
		x.write("once more")
	}
	if len(x.timers) != 1 {
		t.Fatalf("%d timers", len(x.timers))
	}
	x.core.counts.tell(x.at.Add(Every), false)
	if _, left := x.lines(t); left["once more"] != 7 {
		t.Errorf("left out %v", left)
	}
	for range Most + 5 {
		x.write("once more")
	}
	_ = x.core.Sync()
	_ = x.core.Sync()
	if _, left := x.lines(t); left["once more"] != 5 {
		t.Errorf("at the end: left out %v", left)
	}
	// The timer of before finds nothing.
	for _, f := range x.timers {
		f()
	}
	if _, left := x.lines(t); len(left) != 0 {
		t.Errorf("told again: %v", left)
	}
}

// What is said of each list, authority or file once is not lost, however many there
// are; a client's fields make no messages of their own.
func TestBoundKeepsWhatIsSaidOnce(t *testing.T) {
	x := newBench(t)
	for i := range 700 {
		x.write("revocation list vanished", zap.String("authority", "staff"), zap.Stringer("list", text(fmt.Sprint("list ", i))))
		x.write("not taken", zap.String("source", fmt.Sprintf("/crl/%d", i)))
		x.write("flow ended", zap.String("client", fmt.Sprint("192.0.2.", i)))
	}
	all, _ := x.lines(t)
	if len(all) != 700+700+Most {
		t.Errorf("%d lines", len(all))
	}
}

type text string

func (s text) String() string { return string(s) }

// Whoever writes at the same time, and whatever is told meanwhile: each message was
// either written or counted, once.
func TestBoundLosesNothing(t *testing.T) {
	var out bytes.Buffer // the core writes one line at a time
	log, _ := New("info", "json", &out)
	const writers, each = 8, 300
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				log.Warn("from all", zap.Int("i", i))
				log.With(zap.Int("writer", w)).Info("from one", zap.String("source", fmt.Sprint(w)))
				if i%100 == 0 {
					_ = log.Sync()
				}
			}
		})
	}
	wg.Wait()
	_ = log.Sync()
	x := &bench{out: out}
	all, left := x.lines(t)
	count := map[string]uint64{}
	for _, l := range all {
		count[l.Msg]++
	}
	for _, m := range []string{"from all", "from one"} {
		if got := count[m] + left[m]; got != writers*each || left[m] == 0 {
			t.Errorf("%s: %d written, %d left out", m, count[m], left[m])
		}
	}
}

// Messages of which each is another one are bounded too, in memory and in lines.
func TestBoundOfManyMessages(t *testing.T) {
	x := newBench(t)
	for i := range 3 * maxMessages {
		x.write("message " + fmt.Sprint(i))
	}
	if n := len(x.core.counts.windows); n > maxMessages+1 {
		t.Errorf("%d windows", n)
	}
	_ = x.core.Sync()
	all, left := x.lines(t)
	if len(all) != maxMessages+Most || left[others] != 2*maxMessages-Most {
		t.Errorf("%d lines, left out %v", len(all), left)
	}
	x.at = x.at.Add(Every)
	x.write("message of later")
	if n := len(x.core.counts.windows); n != 1 {
		t.Errorf("%d windows are kept", n)
	}
	if all, _ := x.lines(t); len(all) != 1 || !strings.HasPrefix(all[0].Msg, "message of") {
		t.Errorf("%v", all)
	}
}

// The level still counts, and a logger with fields has the same bound.
func TestBoundWithFields(t *testing.T) {
	var out bytes.Buffer
	log, level := New("info", "json", &out)
	for range Most {
		log.Warn("w")
		log.With(zap.Int("n", 1)).Warn("w")
	}
	if n := bytes.Count(out.Bytes(), []byte("\n")); n != Most {
		t.Errorf("%d lines", n)
	}
	out.Reset()
	level.SetLevel(zapcore.ErrorLevel)
	log.Warn("quiet")
	if out.Len() > 0 {
		t.Error("the level does not change")
	}
	_ = log.Sync()
}

// What net/http says is one message, whatever callers have sent.
func TestStandardLogIsOneMessage(t *testing.T) {
	var out bytes.Buffer
	log, _ := New("info", "json", &out)
	std := zap.NewStdLog(AsDetail(log, "HTTP server"))
	for i := range 5 * Most {
		std.Printf("http: panic serving %d: \x1b[31m\nforged", i)
	}
	_ = log.Sync()
	lines := bytes.Split(bytes.TrimSpace(out.Bytes()), []byte("\n"))
	if len(lines) != Most+1 || !bytes.Contains(lines[0], []byte(`"msg":"HTTP server"`)) || !bytes.Contains(lines[0], []byte("panic serving 0: ")) ||
		!bytes.Contains(lines[Most], []byte(fmt.Sprintf(`"left_out":%d`, 4*Most))) {
		t.Errorf("%d lines: %s\n%s", len(lines), lines[0], lines[len(lines)-1])
	}
}
