package applog

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// stream is a file that stands for standard error, and what was written to it.
func stream(t *testing.T) (*os.File, func() string) {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f, func() string {
		b, err := os.ReadFile(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
}

// identity is what systemd would set for the file.
func identity(t *testing.T, f *os.File) string {
	t.Helper()
	var st syscall.Stat_t
	if err := syscall.Fstat(int(f.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%d:%d", st.Dev, st.Ino)
}

func say(l *zap.Logger) {
	l.Debug("d")
	l.Info("i", zap.String("who", "a\nb"))
	l.Warn("w\x1b[31m\n<1>forged")
	l.Error("e", zap.Error(errors.New("one\ntwo")))
}

func TestJournal(t *testing.T) {
	for _, format := range []string{"console", "json"} {
		f, text := stream(t)
		t.Setenv("JOURNAL_STREAM", identity(t, f))
		log, _ := New("debug", format, f)
		say(log)
		lines := strings.Split(strings.TrimSuffix(text(), "\n"), "\n")
		if len(lines) != 4 {
			t.Fatalf("%s: %d lines:\n%s", format, len(lines), text())
		}
		for i, want := range []string{"<7>", "<6>", "<4>", "<3>"} {
			if !strings.HasPrefix(lines[i], want) {
				t.Errorf("%s: %q does not begin with %s", format, lines[i], want)
			}
			if regexp.MustCompile(`20\d\d-|"ts"|\x1b`).MatchString(lines[i]) {
				t.Errorf("%s: %q has a time, or what a peer sent", format, lines[i])
			}
			if format == "json" && !json.Valid([]byte(lines[i][3:])) {
				t.Errorf("no JSON: %s", lines[i])
			}
		}
	}
}

// Anything else than the journal gets the time and no priority: a terminal, a file
// to which a shell has sent it, a variable that was inherited or is nonsense.
func TestNoJournal(t *testing.T) {
	f, text := stream(t)
	other, _ := stream(t)
	own := identity(t, f)
	for _, v := range []string{"", own + "0", "1" + own, identity(t, other), "x", ":", own[:strings.Index(own, ":")], own + ":0"} {
		t.Setenv("JOURNAL_STREAM", v)
		if err := f.Truncate(0); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Seek(0, 0); err != nil {
			t.Fatal(err)
		}
		log, _ := New("info", "console", f)
		say(log)
		fmt.Fprint(At(zapcore.ErrorLevel, f), "plain\n")
		lines := strings.Split(strings.TrimSuffix(text(), "\n"), "\n")
		if len(lines) != 4 || !regexp.MustCompile(`^20\d\d-\d\d-\d\dT`).MatchString(lines[0]) || lines[3] != "plain" {
			t.Errorf("%q:\n%s", v, text())
		}
	}
	t.Setenv("JOURNAL_STREAM", own)
	if IsJournal(&bytes.Buffer{}) {
		t.Error("a buffer is the journal")
	}
}

func TestPlainLines(t *testing.T) {
	f, text := stream(t)
	t.Setenv("JOURNAL_STREAM", identity(t, f))
	n, err := fmt.Fprint(At(zapcore.WarnLevel, f), "a.yaml:1:2: wrong\n   1 | x\n")
	if got := text(); err != nil || n != 27 || got != "<4>a.yaml:1:2: wrong\n<4>   1 | x\n" {
		t.Errorf("%d, %v, %q", n, err, got)
	}
}
