package tun

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"
)

// checkEvery is how often everything is checked without an event: events are lost when
// the socket's buffer overflows.
const checkEvery = time.Second

// settle is the least time between two checks, so that somebody who undoes every repair
// causes at most 50 checks a second.
const settle = 20 * time.Millisecond

// ErrNoTUN is returned by Watch when the TUN was deleted. Captured traffic then
// goes nowhere.
var ErrNoTUN = errors.New("the TUN device was deleted")

// Watch restores what others change: rules, routes, nft table, the state of the TUN,
// interfaces made anew. It returns nil when ctx ends, and ErrNoTUN. A repair that fails
// is logged and tried again.
func (s *Steering) Watch(ctx context.Context) error {
	s.mu.Lock()
	s.ending = ctx.Err
	s.mu.Unlock()
	end := ctx
	group, ctx := errgroup.WithContext(ctx)
	kick := make(chan struct{}, 1)
	for _, e := range s.events {
		group.Go(func() error { return e.run(ctx, kick) })
	}
	group.Go(func() error { s.watchForeign(ctx, kick); return nil })
	group.Go(func() error {
		tick := time.NewTicker(checkEvery)
		defer tick.Stop()
		for {
			err := s.check()
			if end.Err() != nil {
				return nil // a stop closes the device: that it is gone is no error
			}
			if err != nil {
				return err
			}
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(settle):
			}
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
			case <-kick:
			}
		}
	})
	return group.Wait()
}

// check checks everything once and repairs it.
func (s *Steering) check() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failedBefore, s.unrepaired = s.unrepaired, nil
	link, err := s.rt.LinkByIndex(s.tunIdx)
	var notFound netlink.LinkNotFoundError
	switch {
	case errors.As(err, &notFound):
		return fmt.Errorf("%s: %w", s.cfg.TUN, ErrNoTUN)
	case err != nil:
		s.failed("look at the TUN", err)
	default:
		s.repairTUN(link.Attrs())
	}
	s.noteIngress()
	s.repairTwin()
	if s.owns {
		s.repairTable()
		s.repairRedirects()
	} else if _, err := s.listTable(); err != nil { // only for its counters
		s.failed("read the nft table", err)
	}
	s.noteDrops(time.Now())
	last, err := s.lookAside()
	if err != nil {
		s.failed("look at the other gateway's TUN", err)
	}
	done, err := s.ensureRouting()
	if err == nil && last {
		done, err = nil, s.removePlainOfTwin()
	}
	for _, what := range done {
		s.repaired(what)
	}
	if err != nil {
		s.failed("repair rules and routes", err)
	}
	s.noteHost(time.Now())
	return nil
}

// repairTUN gives the TUN back its name, by which the guard knows it, and sets it up.
func (s *Steering) repairTUN(at *netlink.LinkAttrs) {
	link := &netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: at.Index, Name: at.Name}}
	if at.Name != s.cfg.TUN {
		if err := s.rt.LinkSetName(link, s.cfg.TUN); err != nil {
			s.failed("rename the TUN from "+at.Name, err)
			return
		}
		s.repaired("name of the TUN, was " + at.Name)
	}
	if at.RawFlags&unix.IFF_UP == 0 {
		if err := s.rt.LinkSetUp(link); err != nil {
			s.failed("set the TUN up", err)
			return
		}
		s.repaired("ip link set " + s.cfg.TUN + " up")
	}
}

// repairTable writes the nft table anew if it differs from what was written, or if the
// captured interfaces have changed.
func (s *Steering) repairTable() {
	what, changed := "", false
	switch now, err := s.listTable(); {
	case err != nil: // for example another program's rule in it that we cannot read
		what = "nft table inet sslgate, unreadable"
	case now == "":
		what = "nft table inet sslgate, was deleted"
	case now != s.written:
		what = "nft table inet sslgate, was changed"
	default:
		at, err := s.lookAtInterfaces()
		if err != nil {
			s.failed("list interfaces", err)
			return
		}
		if at.equal(&s.at) {
			return
		}
		changed = true
		what = "captured interfaces of nft table inet sslgate"
	}
	if s.yields() {
		return
	}
	turn := s.planGRO()
	if err := s.writeTable(true); err != nil {
		s.failed("repair the nft table", err)
		return
	}
	s.turnGRO(turn, true)
	if changed { // remove the rules of earlier names
		if err := s.removeStale(); err != nil {
			s.failed("remove rules of earlier names", err)
		}
	}
	s.repaired(what)
}

func (s *Steering) repaired(what string) {
	s.repairs++
	if n, ok := s.limited.allow(); ok {
		s.log.Warn("steering repaired: somebody else changed it", zap.String("what", what), zap.Uint64("repairs", s.repairs), zap.Uint64("not_logged", n))
	}
}

func (s *Steering) failed(what string, err error) {
	if s.ending != nil && s.ending() != nil {
		return
	}
	text := "not repaired: " + what + ": "
	// Fatal only at the second failure: the next check may well succeed.
	again := slices.ContainsFunc(s.failedBefore, func(t Trouble) bool { return strings.HasPrefix(t.Text, text) })
	s.unrepaired = append(s.unrepaired, Trouble{Text: text + err.Error(), Fatal: again})
	if n, ok := s.limited.allow(); ok {
		s.log.Error("steering not repaired: captured traffic may go nowhere", zap.String("what", what), zap.Error(err), zap.Uint64("not_logged", n))
	}
}

// limiter bounds the log to 10 lines at once, then one a second.
type limiter struct {
	rate    *rate.Limiter
	skipped uint64
}

func newLimiter() *limiter { return &limiter{rate: rate.NewLimiter(1, 10)} }

// allow says whether to log, and how many lines were left out before.
func (l *limiter) allow() (uint64, bool) {
	if !l.rate.Allow() {
		l.skipped++
		return 0, false
	}
	n := l.skipped
	l.skipped = 0
	return n, true
}

// events is a socket of kernel notifications, with a function that says which concern us.
type events struct {
	file  *os.File
	about func(packet []byte) bool
}

func (s *Steering) openEvents() error {
	route := func(group int) uint32 { return 1 << (group - 1) }
	groups := route(unix.RTNLGRP_LINK) | route(unix.RTNLGRP_IPV4_RULE) | route(unix.RTNLGRP_IPV6_RULE) |
		route(unix.RTNLGRP_IPV4_ROUTE) | route(unix.RTNLGRP_IPV6_ROUTE)
	for i, def := range []struct {
		proto  int
		groups uint32
		about  func([]byte) bool
	}{
		{unix.NETLINK_ROUTE, groups, s.aboutRouting},
		{unix.NETLINK_NETFILTER, route(unix.NFNLGRP_NFTABLES), aboutTable},
	} {
		fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, def.proto)
		if err != nil {
			return fmt.Errorf("watch netlink: %w", err)
		}
		if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: def.groups}); err != nil {
			_ = unix.Close(fd)
			return fmt.Errorf("watch netlink: %w", err)
		}
		s.events[i] = &events{file: os.NewFile(uintptr(fd), "netlink"), about: def.about}
	}
	return nil
}

// run kicks for every packet that concerns us, until ctx ends.
func (e *events) run(ctx context.Context, kick chan<- struct{}) error {
	stop := context.AfterFunc(ctx, func() { _ = e.file.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	buf := make([]byte, 65536) // bytes; the kernel's packets have at most 32 KiB
	for {
		n, err := e.file.Read(buf)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil && !errors.Is(err, unix.ENOBUFS) { // ENOBUFS: some were lost
			return fmt.Errorf("watch netlink: %w", err)
		}
		if err == nil && !e.about(buf[:n]) {
			continue
		}
		select {
		case kick <- struct{}{}:
		default:
		}
	}
}

// aboutTable says whether a message is about our table: each message about a part of it
// names the table.
func aboutTable(packet []byte) bool { return bytes.Contains(packet, []byte(tableName+"\x00")) }

// aboutRouting says whether a message is about links, rules or routes of our tables. It
// ignores routes of other tables, of which thousands may change in a second.
func (s *Steering) aboutRouting(packet []byte) bool {
	msgs, err := syscall.ParseNetlinkMessage(packet)
	if err != nil {
		return true
	}
	for _, m := range msgs {
		if m.Header.Type != unix.RTM_NEWROUTE && m.Header.Type != unix.RTM_DELROUTE {
			return true
		}
		attrs, err := syscall.ParseNetlinkRouteAttr(&m)
		if err != nil {
			return true
		}
		for _, a := range attrs {
			if a.Attr.Type != unix.RTA_TABLE || len(a.Value) < 4 {
				continue
			}
			if table := int(nativeUint32(a.Value)); table == s.cfg.Table || table == s.cfg.ReturnTable {
				return true
			}
		}
	}
	return false
}
