package soak

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/sslgate/sslgate/internal/admin"
	"github.com/sslgate/sslgate/internal/lab"
)

// handOver makes one hand-over. If kill, one of the two processes is killed at some moment, and
// another one started where none is left that takes new flows.
func (u *upgrades) handOver(ctx context.Context, i int, kill bool) error {
	began := time.Now()
	older := u.main
	release := make(chan bool)
	var held sync.WaitGroup
	up := make(chan struct{}, heldFlows)
	for i := range heldFlows {
		held.Go(func() { u.holdOne(ctx, i%2*cutServer, up, release) })
	}
	for range heldFlows {
		<-up
	}
	said, err := os.CreateTemp(u.site.dir, "upgrade")
	if err != nil {
		return err
	}
	defer func() { _ = said.Close(); _ = os.Remove(said.Name()) }()
	cmd := u.site.lab.Command(lab.Gateway, u.run.opt.Binary, "upgrade", "-c", u.site.file("sslgate.yaml"), "--watch", upgradeWatch.String())
	cmd.Dir, cmd.Stdout, cmd.Stderr = u.site.dir, said, u.out
	if err := cmd.Start(); err != nil {
		return err
	}
	newer := func() int {
		text, _ := os.ReadFile(said.Name())
		_, rest, _ := strings.Cut("\n"+string(text), "\nprocess ")
		for ok := true; ok; _, rest, ok = strings.Cut(rest, "\nprocess ") {
			number, what, _ := strings.Cut(rest, " ")
			if pid, err := strconv.Atoi(number); err == nil && pid != older && strings.HasPrefix(what, "is ready") {
				return pid
			}
		}
		return 0
	}
	what, oldKilled := "", false
	var dead span
	if kill {
		at := time.Duration(u.rng.Int64N(int64(upgradeWatch + time.Second)))
		oldKilled = u.rng.IntN(2) == 0
		sleep(ctx, at)
		victim := older
		if what = "the older process"; !oldKilled {
			victim, what = newer(), "the newer process"
		}
		dead.from = time.Now().Add(-lostBefore)
		if victim != 0 {
			_ = syscall.Kill(victim, syscall.SIGKILL)
			if !gone(ctx, victim, settleTime) {
				return errors.Join(ctx.Err(), fmt.Errorf("hand-over %d: process %d does not end on SIGKILL", i, victim))
			}
		} else { // the newer one is not that far
			what = "the command and with it the newer process"
			_ = cmd.Process.Signal(syscall.SIGTERM)
		}
		what = fmt.Sprintf(", %s killed after %v", what, at.Round(time.Millisecond))
	}
	select {
	case <-cmd.Done():
	case <-time.After(startTimeout + upgradeWatch):
		_ = cmd.Process.Kill()
		return fmt.Errorf("hand-over %d does not end%s", i, what)
	}
	code := cmd.ProcessState.ExitCode()
	next := newer()
	switch {
	case code == 0 && alive(next):
		u.main = next
	case code != 0 && !kill && alive(older):
		text, _ := os.ReadFile(said.Name())
		return fmt.Errorf("hand-over %d is refused:\n%s", i, text)
	case !kill:
		return fmt.Errorf("hand-over %d: a process has ended by itself", i)
	case code == 0 || !u.goesOn(ctx, older):
		if err := u.serve(ctx); err != nil { // as systemd does
			return err
		}
	}
	if kill {
		if err := u.ready(ctx); err != nil {
			return err
		}
		dead.to = time.Now().Add(lostAfter)
		u.book.disturb(dead)
		u.sum.Killed++
	}
	// Whatever was held by a process that lives must talk on, and end in order.
	for range heldFlows {
		release <- !oldKilled
	}
	held.Wait()
	u.sum.Held += heldFlows
	if older != u.main && !gone(ctx, older, settleTime) {
		return errors.Join(ctx.Err(), fmt.Errorf("hand-over %d: the older process does not end", i))
	}
	u.sum.HandOvers++
	if !kill {
		u.spans = append(u.spans, span{began, time.Now()})
	}
	u.say(fmt.Sprintf("hand-over %d%s: %v, process %d", i, what, time.Since(began).Round(time.Millisecond), u.main))
	return nil
}

// holdOne holds a connection to that address of the server until it is released, which says whether it must have lived.
func (u *upgrades) holdOne(ctx context.Context, server int, up chan<- struct{}, release <-chan bool) {
	t := &try{site: u.site, want: want{kind: "held", id: u.ids.Add(1), outcomes: one(clean)}}
	raw, err := t.connect(ctx, &u.ports, server, portPay)
	if err == nil {
		if err = t.speak(raw, nil); err == nil {
			err = t.ask(opEcho, 16)
		}
	}
	up <- struct{}{}
	for released := false; !released; {
		select {
		case t.want.strict = <-release:
			released = true
		case <-time.After(100 * time.Millisecond):
		}
		if err == nil {
			err = t.echo(64)
		}
	}
	if err == nil {
		err = t.end()
	}
	if raw != nil {
		_ = raw.Close()
		t.want.sent, t.want.got = t.c.out.Load(), t.c.in.Load()
	}
	if t.want.err, t.want.ended = err, time.Now(); err != nil && t.want.strict {
		u.book.complain("held %s: %v", t.want.key, err)
	}
	u.book.client(t.want)
}

// serve starts a gateway, again and again until one serves, as systemd does.
func (u *upgrades) serve(ctx context.Context) error {
	for end := time.Now().Add(startTimeout); time.Now().Before(end) && ctx.Err() == nil; sleep(ctx, 100*time.Millisecond) {
		cmd := u.site.lab.Command(lab.Gateway, u.run.opt.Binary, "run", "-c", u.site.file("sslgate.yaml"))
		cmd.Dir, cmd.Stdout, cmd.Stderr = u.site.dir, u.out, u.out
		if err := cmd.Start(); err != nil {
			return err
		}
		u.main = cmd.Process.Pid
		if u.ready(ctx) == nil {
			return nil
		}
	}
	return errors.Join(ctx.Err(), errors.New("no gateway becomes ready"))
}

// goesOn says, after the newer process was killed, whether the older one takes new flows again.
// It does not if it has ended too, or was told before to end with its last flow.
func (u *upgrades) goesOn(ctx context.Context, older int) bool {
	for end := time.Now().Add(startTimeout); alive(older) && time.Now().Before(end); {
		if code, _, err := u.site.admin(ctx, http.MethodGet, "/v1/ready"); err == nil && code == http.StatusOK {
			return true
		}
		var st struct {
			HandedOver bool `json:"handed_over"`
		}
		_, b, err := u.site.ask(ctx, "admin.sock.old", http.MethodGet, "/v1/status")
		if err == nil && json.Unmarshal(b, &st) == nil && st.HandedOver {
			return false
		}
		if !sleep(ctx, 20*time.Millisecond) {
			break
		}
	}
	return false
}

// ready waits until the main process answers and takes flows. An older one may answer before it:
// that takes new flows until the main one takes over from it.
func (u *upgrades) ready(ctx context.Context) error {
	for end := time.Now().Add(startTimeout); time.Now().Before(end); sleep(ctx, 20*time.Millisecond) {
		if !alive(u.main) {
			return fmt.Errorf("process %d has ended", u.main)
		}
		if process, err := admin.NewClient(u.site.file("admin.sock")).Process(ctx); err != nil || process != u.main {
			continue
		}
		if code, _, err := u.site.admin(ctx, http.MethodGet, "/v1/ready"); err == nil && code == http.StatusOK {
			return nil
		}
	}
	return fmt.Errorf("process %d is not ready", u.main)
}

// gone waits until a process has ended. False: it has not within that time, or ctx is over.
func gone(ctx context.Context, pid int, within time.Duration) bool {
	for end := time.Now().Add(within); alive(pid); {
		if time.Now().After(end) || !sleep(ctx, 5*time.Millisecond) {
			return false
		}
	}
	return true
}

// alive says whether a process lives, which may be no child of this one.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return pid > 0 && err == nil && !strings.Contains(string(stat), ") Z ")
}
