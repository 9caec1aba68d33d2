package main

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/admin"
	"github.com/sslgate/sslgate/internal/service"
)

func (d *door) Drain() time.Time { d.drained = true; return time.Unix(1e9, 0) }

func TestDrainCommand(t *testing.T) {
	d := &door{}
	socket := openDoor(t, d, admin.NewHub())
	if code, out, errs := called("drain", "--socket", socket); code != 0 || errs != "" || !strings.Contains(out, "2001-09-09T01:46:40Z") || !d.drained {
		t.Errorf("%d %q %q", code, out, errs)
	}
	if code, out, _ := called("drain", "--socket", socket, "--json"); code != 0 || !strings.Contains(out, `"draining": true`) && !strings.Contains(out, `"draining":true`) {
		t.Errorf("%d %q", code, out)
	}
	if code, _, errs := called("drain", "--socket", socket+"x"); code != 1 || !strings.Contains(errs, "no gateway answers") {
		t.Errorf("no gateway: %d %q", code, errs)
	}
}

// The unit does not start a gateway again that was drained by command, but one
// that has ended in any other way.
func TestExitCodesOfRun(t *testing.T) {
	code := func(err error) int {
		var e *exitError
		if errors.As(ranUntil(err), &e) {
			return e.code
		}
		return 0
	}
	failed := errors.New("the TUN device is gone")
	for want, err := range map[int]error{0: nil, 1: failed, exitDrained: errors.Join(service.ErrDrained, failed)} {
		if got := code(err); got != want {
			t.Errorf("%v: %d, want %d", err, got, want)
		}
	}
	unit, err := os.ReadFile(filepath.Join("..", "..", "dist", "systemd", "sslgate.service"))
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"RestartPreventExitStatus", "SuccessExitStatus"} {
		if !regexp.MustCompile(`(?m)^` + key + `=` + strconv.Itoa(exitDrained) + `$`).Match(unit) {
			t.Errorf("the unit has no %s=%d", key, exitDrained)
		}
	}
}
