package service

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// notifier tells systemd the state of the service (sd_notify(3)). Without systemd, or if nil, it
// does nothing. It keeps its socket open, so that it still works after paths are restricted.
type notifier struct {
	conn  *net.UnixConn // nil: without systemd
	every time.Duration // between two signs of life; 0: no watchdog
	log   *zap.Logger
	muted atomic.Bool // another process is the main one of the service
	said  time.Time   // when main was repeated last; for Service.repeatMain alone
}

// newNotifier reads the environment that systemd has set.
func newNotifier(getenv func(string) string, log *zap.Logger) *notifier {
	n := &notifier{log: log}
	addr := getenv("NOTIFY_SOCKET")
	if addr == "" {
		return n
	}
	if rest, ok := strings.CutPrefix(addr, "@"); ok {
		addr = "\x00" + rest // an abstract address (unix(7))
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: addr, Net: "unixgram"})
	if err != nil {
		log.Warn("systemd cannot be told how the service stands", zap.Error(err))
		return n
	}
	n.conn = conn
	usec, err := strconv.ParseInt(getenv("WATCHDOG_USEC"), 10, 64)
	pid := getenv("WATCHDOG_PID")
	if err == nil && usec > 0 && (pid == "" || pid == strconv.Itoa(os.Getpid())) {
		// Half of the time, as sd_watchdog_enabled(3) recommends.
		n.every = time.Duration(usec) * time.Microsecond / 2
	}
	return n
}

func (n *notifier) send(state string) {
	if n == nil || n.conn == nil || n.muted.Load() {
		return
	}
	if _, err := n.conn.Write([]byte(state)); err != nil {
		n.log.Warn("systemd cannot be told how the service stands", zap.String("state", state), zap.Error(err))
	}
}

func (n *notifier) ready(status string) { n.send("READY=1\nSTATUS=" + status) }

// main says that this process is the main one of the service from now on (sd_notify(3)).
func (n *notifier) main() { n.send(fmt.Sprintf("MAINPID=%d", os.Getpid())) }

// reloading must be followed by ready. The time is for Type=notify-reload.
func (n *notifier) reloading() {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return
	}
	n.send(fmt.Sprintf("RELOADING=1\nMONOTONIC_USEC=%d\nSTATUS=reloading", now.Nano()/1000))
}

// stopping also asks for the time that the flows may take to end, on top of the unit's
// TimeoutStopSec.
func (n *notifier) stopping(drain time.Duration) {
	n.send(fmt.Sprintf("STOPPING=1\nSTATUS=draining\nEXTEND_TIMEOUT_USEC=%d", (drain + 10*time.Second).Microseconds()))
}

func (n *notifier) alive() { n.send("WATCHDOG=1") }

func (n *notifier) close() {
	if n != nil && n.conn != nil {
		_ = n.conn.Close()
	}
}
