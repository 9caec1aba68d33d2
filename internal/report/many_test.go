package report

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"runtime/metrics"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/audit"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/policytest"
	"github.com/sslgate/sslgate/internal/reason"
)

// writer writes records that are like those of a gateway: of so many clients, some thousand
// of them with certificates, with both ledgers. Hostile ones have nothing in common: each has
// another client, certificate, name and hello, as long as they may be.
type writer struct {
	lines   [][]byte
	hostile bool
	r       *rand.Rand
}

// Marks in the lines of templates, which are replaced by texts of the same length.
const (
	markClient = "10.111.112.113"
	markSerial = "77665544332211aa"
	markSeq    = 7766554433
)

func newWriter(t testing.TB, hostile bool) *writer {
	t.Helper()
	w := &writer{hostile: hostile, r: rand.New(rand.NewPCG(1, 2))}
	ca := testpki.Must(testpki.NewCA(testpki.Options{CN: "Staff"}))
	leaf := testpki.Must(ca.Issue(testpki.Leaf{CN: "user", DNS: []string{"user.example"}}))
	var entries []handshake.Entry
	for i := range 9 {
		entries = append(entries, handshake.Entry{Step: handshake.Step(i + 1), Message: "EncryptedExtensions", At: time.Duration(i) * time.Millisecond, Size: 1000, Facts: "TLS 1.3, 1.2; 17 CipherSuites; X25519MLKEM768 share; sni shop.example", Alert: handshake.AlertNone})
	}
	old := hello(t, policytest.Hello{SNI: "shop.example", Versions: []string{"1.2"}, Groups: []string{"secp256r1"}})
	for i := range 8 {
		line := written(t, func(r *audit.Record) {
			r.ID, r.Seq = "0badcafe-1", markSeq
			r.Ledger, r.DestLedger = entries, entries
			r.DestinationLeg = r.ClientLeg
			switch {
			case i < 5:
				r.Peer = &handshake.Peer{Shown: leaf.Chain, Authority: "staff", Proven: true}
			case i == 5:
				r.Hello, r.ClientLeg, r.DestinationLeg, r.DestLedger, r.Action, r.Reason = old, nil, nil, nil, "deny", reason.ProtocolVersion
			case i == 6:
				r.Seen = &audit.Seen{State: r.ClientLeg}
				r.ClientLeg, r.DestinationLeg, r.Ledger, r.DestLedger, r.Action, r.Reason = nil, nil, nil, nil, "bypass", reason.Bypassed
			}
		})
		line = bytes.Replace(line, []byte("10.1.0.7"), []byte(markClient), 1)
		serial := []byte(`"serial":"` + leaf.Cert.SerialNumber.Text(16) + `"`)
		line = bytes.Replace(line, serial, []byte(`"serial":"`+markSerial+`"`), 1)
		if hostile {
			long := bytes.Repeat([]byte("x"), 120)
			line = bytes.Replace(line, []byte(`"subject":"CN=user`), append(append([]byte(`"subject":"CN=`), long...), []byte(markSerial)...), 1)
			line = bytes.Replace(line, []byte(`"sni":"pay.example"`), append(append([]byte(`"sni":"`), long...), []byte(markSerial+`"`)...), 1)
			line = bytes.Replace(line, []byte(`"ja4":"`), []byte(`"ja4":"`+markSerial), 1)
			line = bytes.Replace(line, []byte(`"extensions":"`), []byte(`"extensions":"`+"7766 5544 3322 11aa "), 1)
		}
		w.lines = append(w.lines, line)
	}
	return w
}

// line is the n-th record.
func (w *writer) line(n int, into []byte) []byte {
	into = append(into[:0], w.lines[n%len(w.lines)]...)
	client, serial := n, n
	if !w.hostile {
		client, serial = w.r.IntN(5000), w.r.IntN(1000)
	}
	fill := func(mark, text string) {
		for at := 0; ; {
			i := bytes.Index(into[at:], []byte(mark))
			if i < 0 {
				return
			}
			at += i + copy(into[at+i:], text)
		}
	}
	fill(markClient, fmt.Sprintf("10.1%02d.1%02d.1%02d", client/10000%100, client/100%100, client%100))
	fill(markSerial, fmt.Sprintf("%016x", serial+1))
	fill(fmt.Sprint(markSeq), fmt.Sprint(1_000_000_000+n))
	if s := fmt.Sprintf("%016x", serial+1); w.hostile {
		fill("7766 5544 3322 11aa", s[:4]+" "+s[4:8]+" "+s[8:12]+" "+s[12:])
	}
	return into
}

// files writes n records to so many compressed files. It returns their names, and the bytes
// of the records.
func (w *writer) files(t testing.TB, dir string, n, files int) (names []string, size int64) {
	t.Helper()
	var line []byte
	for f := range files {
		name := filepath.Join(dir, fmt.Sprintf("audit.jsonl.%d.gz", f+1))
		file, err := os.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		out := bufio.NewWriterSize(file, 1<<20)
		z := testpki.Must(gzip.NewWriterLevel(out, gzip.BestSpeed))
		for i := f * n / files; i < (f+1)*n/files; i++ {
			line = w.line(i, line)
			size += int64(len(line))
			if _, err := z.Write(line); err != nil {
				t.Fatal(err)
			}
		}
		for _, end := range []func() error{z.Close, out.Flush, file.Close} {
			if err := end(); err != nil {
				t.Fatal(err)
			}
		}
		names = append(names, name)
	}
	return names, size
}

// live is the live heap in bytes.
func live() uint64 {
	runtime.GC()
	runtime.GC()
	m := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(m)
	return m[0].Value.Uint64()
}

// Memory does not grow with the number of records, not even where each has nothing in common
// with any other; what found no room is said, and still counted.
func TestMemoryIsBounded(t *testing.T) {
	w := newWriter(t, true)
	v := newInventory(bounds{clients: 256, certificates: 256, judged: 64, bytes: 256 << 10})
	var line []byte
	add := func(from, to int) {
		t.Helper()
		for n := from; n < to; n++ {
			if line = w.line(n, line); v.Add(bytes.TrimSpace(line)) != nil {
				t.Fatalf("%s", line)
			}
		}
	}
	before := live()
	add(0, 4000) // more than the bounds, and than maxNames
	full := live()
	add(4000, 12000)
	later := live()
	runtime.KeepAlive(v)
	t.Logf("%d KiB live when the tables are full, %d KiB after three times as many records", (full-before)>>10, (later-before)>>10)
	if later > full+64<<10 {
		t.Errorf("%d KiB more live after more records", (later-full)>>10)
	}
	if grown := full - min(full, before); grown > 4<<20 {
		t.Errorf("%d KiB live: more than the bounds allow", grown>>10)
	}
	rd := v.Read(nil, &Reader{})
	if v.flows != 12000 || fmt.Sprint(rd.Full) != "[clients certificates]" {
		t.Errorf("%d flows, full %v", v.flows, rd.Full)
	}
	c := v.Crypto(rd)
	if last := c.Offered.JA4[len(c.Offered.JA4)-1]; last.Name != "others, for which the table has no room" || last.Flows < 5000 {
		t.Errorf("the last JA4 is %+v", last)
	}
}

// TestManyRecords reads compressed files with progress. SSLGATE_TEST_RECORDS=10000000 makes
// it the measurement of docs/report.md, of usual and of hostile records: memory below 512 MiB,
// at least 150 MB/s of JSON for each second of CPU time. SSLGATE_TEST_RECORDS_DIR keeps the
// files.
func TestManyRecords(t *testing.T) {
	n, files := 4000, 4
	byHand := os.Getenv("SSLGATE_TEST_RECORDS") != ""
	if byHand {
		n, files = testpki.Must(strconv.Atoi(os.Getenv("SSLGATE_TEST_RECORDS"))), 100
	}
	for _, hostile := range []bool{false, true} {
		t.Run(fmt.Sprintf("hostile=%v", hostile), func(t *testing.T) {
			dir := t.TempDir()
			if keep := os.Getenv("SSLGATE_TEST_RECORDS_DIR"); keep != "" {
				dir = filepath.Join(keep, fmt.Sprintf("hostile-%v", hostile))
				if err := os.MkdirAll(dir, 0o700); err != nil {
					t.Fatal(err)
				}
			}
			names, size := newWriter(t, hostile).files(t, dir, n, files)
			runtime.GC()
			memory := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
			most, last := uint64(0), Progress{}
			r := &Reader{Tell: func(p Progress) {
				if p.Lines < last.Lines || p.Bytes < last.Bytes || p.At < last.At || p.Of != files {
					t.Errorf("progress %+v after %+v", p, last)
				}
				last = p
				metrics.Read(memory)
				most = max(most, memory[0].Value.Uint64()-memory[1].Value.Uint64())
			}}
			v := New()
			began, cpu := time.Now(), cpuTime(t)
			if err := r.Each(context.Background(), names, v.Add); err != nil {
				t.Fatal(err)
			}
			took, spent := time.Since(began), cpuTime(t)-cpu
			if v.flows != int64(n) || r.Bad != 0 || last.Lines != int64(n) || last.Bytes != size || last.At != files || last.Compressed >= size {
				t.Errorf("%d flows, %d damaged %v, %+v of %d bytes", v.flows, r.Bad, r.Damaged, last, size)
			}
			rate := float64(size) / 1e6 / spent.Seconds()
			t.Logf("%d records in %d files, %d MB of JSON, %d MB compressed: %.0f s, %.0f MB/s of CPU time, at most %d MiB", n, files, size/1e6, last.Compressed/1e6, took.Seconds(), rate, most>>20)
			if most > 512<<20 {
				t.Errorf("%d MiB", most>>20)
			}
			if byHand && !hostile && rate < 150 {
				t.Errorf("%.0f MB/s", rate)
			}
		})
	}
}

// cpuTime is what the process has used so far, in all threads.
func cpuTime(t testing.TB) time.Duration {
	t.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
