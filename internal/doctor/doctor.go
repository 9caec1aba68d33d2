// Package doctor checks the host that a gateway is to run on. For each obstacle it gives
// the command that removes it. It changes nothing.
package doctor

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sslgate/sslgate/internal/config"
	"github.com/sslgate/sslgate/tun"
)

// Level says how serious a finding is.
type Level uint8

// The levels. Fail is the zero value.
const (
	Fail Level = iota // the gateway cannot run, or captured traffic does not come through
	Warn              // the gateway runs, but worse than it could, or not for long
	Good
)

// String is "fail", "warn" or "ok".
func (l Level) String() string {
	switch l {
	case Good:
		return "ok"
	case Warn:
		return "warn"
	default:
		return "fail"
	}
}

// MarshalText is String, for --json.
func (l Level) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// Finding is the result of one check.
type Finding struct {
	Check string `json:"check"` // a stable word: tun, forwarding, gro, ...
	Level Level  `json:"level"`
	Text  string `json:"text"`
	// Fix is the shell command that corrects it; "" if nothing is wrong, or if no single
	// command does and Text says what to do.
	Fix string `json:"fix,omitempty"`
}

// Options of Examine.
type Options struct {
	// File is the configuration's file name, for the commands; Config is its content.
	// Without a Config only what every gateway needs is checked.
	File   string
	Config *config.Config
	// Steer is what run, guard and release make of a configuration. Required with one.
	Steer func(*config.Config) tun.SteerConfig
	// Now is the time of the host; zero means time.Now.
	Now time.Time
	// Built is when sslgate was built: a clock before that is wrong. Zero means unknown.
	Built time.Time
	// Proc and TUNNode default to /proc and /dev/net/tun if "", Clock to adjtimex(2) if
	// nil.
	Proc, TUNNode string
	Clock         func(*unix.Timex) (int, error)
}

type doctor struct {
	o     Options
	found []Finding
}

// Examine checks everything, in the network namespace of the caller.
func Examine(o Options) []Finding {
	if o.Now.IsZero() {
		o.Now = time.Now()
	}
	if o.Proc == "" {
		o.Proc = "/proc"
	}
	if o.TUNNode == "" {
		o.TUNNode = "/dev/net/tun"
	}
	if o.Clock == nil {
		o.Clock = unix.Adjtimex
	}
	d := &doctor{o: o}
	d.tun()
	d.capabilities()
	d.nft()
	d.forwarding()
	d.reversePath()
	d.interfaces()
	d.rules()
	d.local()
	d.localOut()
	d.foreignRoutes()
	d.source()
	d.nat()
	d.redirects()
	d.firewall()
	d.guard()
	d.drops()
	d.conntrack()
	d.ports()
	d.files()
	d.socket()
	d.clock()
	return d.found
}

// Bad says whether any finding is not good.
func Bad(found []Finding) bool {
	for _, f := range found {
		if f.Level != Good {
			return true
		}
	}
	return false
}

func (d *doctor) good(check, format string, a ...any) {
	d.found = append(d.found, Finding{Check: check, Level: Good, Text: fmt.Sprintf(format, a...)})
}

func (d *doctor) warn(check, fix, format string, a ...any) {
	d.found = append(d.found, Finding{Check: check, Level: Warn, Text: fmt.Sprintf(format, a...), Fix: fix})
}

func (d *doctor) fail(check, fix, format string, a ...any) {
	d.found = append(d.found, Finding{Check: check, Level: Fail, Text: fmt.Sprintf(format, a...), Fix: fix})
}

// steers says whether this gateway sets its own rules; with tun.attach another program
// does.
func (d *doctor) steers() bool { return d.o.Config != nil && !d.o.Config.TUN.Attach }

// captured are the own names of the captured interfaces.
func (d *doctor) captured() []string {
	if !d.steers() {
		return nil
	}
	return tun.OwnNames(d.o.Config.Capture.Interfaces...)
}

// clean says whether check has found nothing bad yet.
func (d *doctor) clean(check string) bool {
	for _, f := range d.found {
		if f.Check == check {
			return false
		}
	}
	return true
}
