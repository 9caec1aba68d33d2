package tun

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/sslgate/sslgate/tun/foreign"
)

// What is steered and guarded, in the order in which a packet meets it:
//
//  1. nft chain steer (prerouting) marks TCP to a captured port that came in by a
//     captured interface, and the ICMP errors about it. The chain needs connection
//     tracking, which puts fragments together before, so every packet has a port.
//  2. ip rule fwmark: a marked packet is routed by our table, which has `default dev TUN`
//     and, for the time without a TUN, `unreachable default`. A second rule without a
//     mark (iif, ipproto, dport) does the same for unmarked packets after somebody's `nft
//     flush ruleset`, until it is repaired.
//  3. nft chain guard (forward) passes whatever leaves by the TUN or comes from it, and
//     drops what is marked or captured and would leave by anything else. The guard stays
//     when the process ends.
//
// Captured interfaces are compared by name and by index, so a renamed one stays captured.
// An interface may also appear under an unknown name (made anew, a swapped card). So the
// guard drops forwarded TCP to captured ports from *every* interface that is not in
// Exempt, and all protocols that it does not know (guard.go): the configuration lists
// what may pass uninspected, never what may not. Answers of connections that began
// elsewhere only have the same port number; they pass (see reply). What enters the TUN
// keeps its source (nat.go).
//
// What this host sends itself leaves by OUTPUT and meets none of this, except connections
// under a client's address (clientaddr.go), and those of programs of this host where they
// are captured too (localout.go).

// SteerConfig says what is steered into the TUN. Guard, Steer and Release must
// be given the same one.
type SteerConfig struct {
	// TUN is the name of the device; it need not exist for Guard and Release.
	TUN string
	// Interfaces that captured traffic comes in by, 1 to 64; with Out there may be none.
	Interfaces []string
	// Exempt are the interfaces from which traffic to the captured ports may be forwarded
	// uninspected, at most 64.
	Exempt []string
	// Ports are the TCP destination ports captured, unless AllPorts.
	Ports []uint16
	// AllPorts captures TCP to every port.
	AllPorts bool
	// RejectUDP answers UDP from the captured interfaces to the captured ports with ICMP
	// port unreachable, so that QUIC falls back to TCP. With AllPorts only port 443 is
	// rejected, because otherwise DNS would be.
	RejectUDP bool
	// Protocols are numbers of IP protocols that may be forwarded uninspected from
	// interfaces that are not exempt, besides TCP to other ports, UDP and ICMP.
	Protocols []uint8
	// Local captures connections to this host itself too; without it they are dropped.
	Local bool
	// ExceptPorts are TCP ports of this host itself that are not captured with
	// AllPorts.
	ExceptPorts []uint16
	// Out captures connections that programs of this host open; nil: none.
	Out *Outgoing
	// Mark is the firewall mark of captured packets; not 0 and within Mask.
	Mark uint32
	// Mask has the bits of the firewall mark that are ours: only these are set, cleared
	// and compared.
	Mask uint32
	// Table is the number of the routing table that is ours; not one of the
	// kernel's (253 to 255).
	Table int
	// Preference of the ip rule; the one after it is used too. 1 to 32764.
	Preference int
	// ClientSource leads the answers to connections that sslgate makes under a client's
	// address back to their sockets, and drops answers whose socket is gone.
	ClientSource bool
	// ReturnMark is the firewall mark of those answers; the one after it within
	// Mask is SocketMark. Neither is 0 or Mark. Required for ClientSource.
	ReturnMark uint32
	// ReturnTable is the number of the routing table that delivers these answers; not one
	// of the kernel's, nor Table. Required for ClientSource.
	ReturnTable int
	// CTMask has the two bits of the ct mark of connection tracking that say which of two
	// gateways a connection is pinned to; 0: no connection is pinned, and there cannot be
	// two gateways.
	CTMask uint32
	// Slot is the place of this gateway. TUN, Mark and Table are its own.
	Slot Slot
	// Twin is what the gateway in the other slot has of its own. The zero value means that
	// there is no other slot.
	Twin Twin
	// GRO switches generic receive offload on at captured interfaces that have it off.
	// Release switches it off again there.
	GRO bool
}

// maxInterfaces bounds the captured and the exempt interfaces: each captured one costs an
// ip rule for each range of ports and family.
const maxInterfaces = 64

func (c *SteerConfig) check() error {
	var errs []error
	bad := func(format string, a ...any) { errs = append(errs, fmt.Errorf(format, a...)) }
	for _, name := range append(append([]string{c.TUN}, c.Interfaces...), c.Exempt...) {
		if err := checkName(name); err != nil {
			errs = append(errs, err)
		}
	}
	if len(c.Interfaces) == 0 && c.Out == nil || len(c.Interfaces) > maxInterfaces || len(c.Exempt) > maxInterfaces {
		bad("%d captured and %d exempt interfaces: 1 to %d are captured, at most %d exempt", len(c.Interfaces), len(c.Exempt), maxInterfaces, maxInterfaces)
	}
	if slices.Contains(c.Interfaces, c.TUN) || slices.Contains(c.Exempt, c.TUN) {
		bad("interface %s is the TUN itself", c.TUN)
	}
	for _, name := range c.Interfaces {
		if slices.Contains(c.Exempt, name) {
			bad("interface %s is captured and exempt at once", name)
		}
	}
	if !c.AllPorts && (len(c.Ports) == 0 || slices.Contains(c.Ports, 0)) {
		bad("the captured ports are empty or have a 0 among them")
	}
	if err := c.checkMark(); err != nil {
		errs = append(errs, err)
	}
	if systemTable(c.Table) {
		bad("routing table %d is the kernel's", c.Table)
	}
	if c.Preference < 1 || c.Preference > 32764 {
		bad("preference %d of the ip rule is not within 1 to 32764, before the main table", c.Preference)
	}
	if err := c.checkLocal(); err != nil {
		errs = append(errs, err)
	}
	if err := c.checkSource(); err != nil {
		errs = append(errs, err)
	}
	if err := c.checkTwin(); err != nil {
		errs = append(errs, err)
	}
	if err := c.checkOut(); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Steering leads captured traffic into the TUN, from Steer until Close.
type Steering struct {
	cfg     SteerConfig
	log     *zap.Logger
	ipv6    bool
	tunIdx  int
	events  [2]*events // rtnetlink, nfnetlink
	limited *limiter

	others *foreign.Reader // of the chains of others

	mu        sync.Mutex // guards everything below
	nft       *nftables.Conn
	rt        *netlink.Handle
	routes    *netlink.Handle   // with strict checking: dumps one table only
	written   string            // our nft table as it was listed just after we wrote it
	at        interfaces        // what the names of the configuration meant when the table was written
	noted     []string          // notes about interfaces that were logged
	ingress   map[string]string // state of the captured interfaces: up, down or missing
	repairs   uint64
	noNAT     bool // the kernel has no NAT for nftables
	closed    bool
	owns      bool         // this gateway has the steering: it writes the nft table
	beside    bool         // the gateway in the other slot has connections that are pinned to it
	aside     bool         // the gateway in the other slot has the steering, or has had it last
	ending    func() error // the error of Watch's context: not nil when Watch must end
	gro       []string     // interfaces whose GRO we have switched on, sorted
	redirects []string     // interfaces whose send_redirects we have switched off, and "all", sorted
	namespace string       // the network namespace, as /proc names it
	ethtool   int          // a socket for ioctls; -1 once closed

	counts map[string]uint64   // packets that our table dropped, by reason, as listed last
	seen   map[string][]string // interfaces in the sets of the table that its rules fill
	told   map[string]told     // what was logged of counts, by reason
	warned []string            // what was logged of seen

	troubles     []Trouble // what kept captured packets from the TUN at the last check
	unrepaired   []Trouble // what the last check could not repair
	failedBefore []Trouble // what the check before could not repair
	sources      []Trouble // what keeps answers to connections under a client's address out
	servedIPv6   bool      // captured interfaces had IPv6 forwarded
	foreign      []Trouble // from chains of others
	foreignIPv6  bool      // this host forwards IPv6
	sourcesNext  time.Time // when sources are checked again

	ephemeralPorts [2]uint16 // first and last port that the kernel chooses from, read at the start
}

// Steer sets guard and steering. It takes over what an earlier run left behind, and at no
// instant does captured traffic pass. The TUN must exist and be up. Watch must run from
// then on.
func Steer(cfg SteerConfig, log *zap.Logger) (*Steering, error) {
	s, err := newSteering(cfg, log)
	if err != nil {
		return nil, err
	}
	if err := s.start(); err != nil {
		s.closeSockets()
		return nil, err
	}
	return s, nil
}

func (s *Steering) start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.findTUN(); err != nil {
		return err
	}
	if s.beside, s.owns = false, true; s.cfg.Twin != (Twin{}) {
		// The other gateway may still have connections, though it has given the steering up.
		beside, err := s.exists(s.cfg.Twin.TUN)
		if err != nil {
			return err
		}
		s.beside = beside
	}
	if err := errors.Join(s.refuseInterfaces(), s.refuseForeign()); err != nil {
		return err
	}
	at, err := s.lookAtInterfaces()
	if err != nil {
		return err
	}
	turn, redirects := s.planGRO(), s.planRedirects(at.names)
	// Write the guard before the routes: in between, captured traffic is dropped.
	if err := s.writeTable(true); err != nil {
		return err
	}
	s.seedTold()
	s.foreignIPv6 = isSet("ipv6/conf/all/forwarding")
	s.noteFlowtables()
	s.turnGRO(turn, true)
	s.turnRedirects(redirects, false)
	if err := s.removeStale(); err != nil {
		return err
	}
	if _, err = s.ensureRouting(); err == nil && s.beside {
		err = s.removePlainOfTwin()
	}
	return err
}

// findTUN finds the device of this gateway. It opens the event sockets, so that Watch sees
// every change from here on.
func (s *Steering) findTUN() error {
	link, err := s.rt.LinkByName(s.cfg.TUN)
	if err != nil {
		return fmt.Errorf("look for device %s: %w", s.cfg.TUN, err)
	}
	s.tunIdx = link.Attrs().Index
	return s.openEvents()
}

// Repairs counts what Watch has put back.
func (s *Steering) Repairs() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.repairs
}

// Close ends the steering. Without open, captured traffic then goes nowhere: guard, rules
// and the unreachable routes stay until Release or the next Steer. With open, everything
// is removed and captured traffic is routed uninspected, whichever of two gateways had the
// steering last. If another gateway runs, only what is this one's own is removed, open or
// not: the last one to end opens. The device of this one must be closed and Watch must
// have returned.
func (s *Steering) Close(open bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	defer s.closeSockets()
	other, err := s.exists(s.cfg.Twin.TUN)
	if err != nil {
		return err
	}
	if other && !s.owns {
		return s.removeOwn()
	}
	if other {
		return s.removeTUNRoutes()
	}
	if open {
		if !s.owns { // the other one has noted in the table what it changed
			s.gro, s.redirects = s.listNoted(groSet), s.listNoted(redirectsSet)
		}
		return s.removeAll()
	}
	// Nothing is captured any more, and the chain local drops: restore the host's own
	// order of rules.
	if err := s.restoreLocal(); err != nil {
		return err
	}
	return s.removeTUNRoutes()
}

func newSteering(cfg SteerConfig, log *zap.Logger) (_ *Steering, err error) {
	cfg.Interfaces, cfg.Exempt, cfg.Ports = slices.Clone(cfg.Interfaces), slices.Clone(cfg.Exempt), slices.Clone(cfg.Ports)
	if err := cfg.check(); err != nil {
		return nil, err
	}
	cfg.Out = cfg.Out.sorted()
	cfg.ExceptPorts = slices.Clone(cfg.ExceptPorts)
	slices.Sort(cfg.ExceptPorts)
	cfg.ExceptPorts = slices.Compact(cfg.ExceptPorts)
	slices.Sort(cfg.Ports)
	cfg.Ports = slices.Compact(cfg.Ports)
	s := &Steering{cfg: cfg, log: log, ipv6: haveIPv6(), limited: newLimiter(), ethtool: -1, told: map[string]told{}, ephemeralPorts: ephemeralPorts()}
	defer func() {
		if err != nil {
			s.closeSockets()
		}
	}()
	// All sockets are opened here, in the caller's network namespace, and kept: Watch may
	// run in a thread that is in another one.
	if s.nft, err = nftables.New(nftables.AsLasting(), nftables.WithSockOptions(tableBuffer)); err != nil {
		return nil, fmt.Errorf("open nftables: %w", err)
	}
	if s.others, err = foreign.Open(); err != nil {
		return nil, err
	}
	if s.rt, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		return nil, fmt.Errorf("open rtnetlink: %w", err)
	}
	if s.routes, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		return nil, fmt.Errorf("open rtnetlink: %w", err)
	}
	if err = s.routes.SetStrictCheck(true); err != nil {
		return nil, fmt.Errorf("open rtnetlink: strict checking (Linux 4.20): %w", err)
	}
	if s.ethtool, err = ethtoolSocket(); err != nil {
		return nil, fmt.Errorf("open a socket for ethtool: %w", err)
	}
	s.gro, s.redirects = s.listNoted(groSet), s.listNoted(redirectsSet)
	if s.namespace, err = os.Readlink("/proc/thread-self/ns/net"); err != nil {
		return nil, fmt.Errorf("find the network namespace: %w", err)
	}
	return s, nil
}

func (s *Steering) closeSockets() {
	if s.nft != nil {
		_ = s.nft.CloseLasting()
	}
	if s.others != nil {
		s.others.Close()
	}
	if s.rt != nil {
		s.rt.Close()
	}
	if s.routes != nil {
		s.routes.Close()
	}
	if s.ethtool >= 0 {
		_ = unix.Close(s.ethtool)
		s.ethtool = -1
	}
	for _, e := range s.events {
		if e != nil {
			_ = e.file.Close()
		}
	}
}
