// Package lab makes a small network out of namespaces: a client, the gateway
// and a server, joined by veth pairs. The demo, the `lab` command, end-to-end
// tests and benchmarks all stand on this one.
//
//	client eth0 ---- lan0 gateway wan0 ---- eth0 server
//	10.77.1.2/24   10.77.1.1   10.77.2.1    10.77.2.2/24 and further addresses
//	fd77:1::2/64   fd77:1::1   fd77:2::1    fd77:2::2/64
//
// With Options.Standby there is a second gateway beside the first, both on each of the two
// networks, and the addresses 10.77.1.1 and 10.77.2.1 (fd77:1::1, fd77:2::1), through which
// client and server route, belong to neither until somebody gives them to one.
//
// With Options.HopMTU a router stands between client and gateway, and its route back to the
// client has that MTU. With Options.Line a long line lies between them, which delays, loses
// and reorders. With Options.Two a second gateway stands in front of the server, and a
// network with a router lies between the two:
//
//	client eth0 -- lan0 gateway wan0 ---- near0 between far0 ---- lan0 gateway2 wan0 -- eth0 server
//	10.77.1.2     10.77.1.1  10.77.3.1  10.77.3.2  10.77.4.2  10.77.4.1   10.77.2.1    10.77.2.2
//	fd77:1::2     fd77:1::1  fd77:3::1  fd77:3::2  fd77:4::2  fd77:4::1   fd77:2::1    fd77:2::2
//
// Nothing is made or changed outside the namespaces, so removing them removes everything.
//
// Where to look: lab.go makes and removes a lab, links.go its links and routes, thread.go runs
// code, sockets and commands inside a namespace, sniff.go and packet.go watch and forge packets,
// reexec.go makes a lab possible for a normal user.
package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync"

	"github.com/vishvananda/netns"

	"github.com/sslgate/sslgate/internal/lab/line"
)

// NS names one of the namespaces of a lab.
type NS string

// The namespaces. Hop exists only with Options.HopMTU, Between with Options.Line and
// Options.Two, Gateway2 with Options.Two, Standby with Options.Standby.
const (
	Client   NS = "client"
	Gateway  NS = "gateway"
	Server   NS = "server"
	Hop      NS = "hop"
	Between  NS = "between"
	Gateway2 NS = "gateway2"
	Standby  NS = "standby"
)

// The interfaces inside the namespaces.
const (
	ClientIface = "eth0"  // in Client
	ServerIface = "eth0"  // in Server
	LANIface    = "lan0"  // in Gateway, Gateway2 and Standby, towards the client
	WANIface    = "wan0"  // in Gateway, Gateway2 and Standby, towards the server
	NearIface   = "near0" // in Between, towards Gateway
	FarIface    = "far0"  // in Between with Options.Two, towards Gateway2
)

// MaxServers bounds Options.Servers: the last byte of the addresses is 10 and up.
const MaxServers = 200

// ErrHelp is wrapped by errors of New whose message is one sentence that says what the user
// should do.
var ErrHelp = errors.New("the lab cannot be made here")

// Help is the one sentence of an error that wraps ErrHelp.
func Help(err error) string {
	return strings.TrimSuffix(err.Error(), ": "+ErrHelp.Error())
}

// Options say what lab New makes. The zero value is an ephemeral lab.
type Options struct {
	// Name is the prefix of named namespaces, at most 32 letters, digits and
	// dashes. Default "sslgate".
	Name string
	// Named keeps the namespaces under /run/netns as NAME-client and so on,
	// until Remove. The default is ephemeral: they are held by open
	// descriptors only and vanish with the process, however it ends.
	Named bool
	// Servers is the number of further addresses of the server, so that each
	// scenario has a destination of its own. At most MaxServers. Default 0.
	Servers int
	// ClientMTU and ServerMTU are those of the two links in bytes. Default 1500.
	ClientMTU, ServerMTU int
	// HopMTU, if not 0, puts a router between client and gateway whose route to the client
	// has this MTU in bytes, at least 1280.
	HopMTU int
	// GRO turns generic receive offload on at the gateway's interfaces. Physical interfaces
	// have it on; veth has it off by default.
	GRO bool
	// Standby makes a second gateway beside the first. Not with HopMTU, Line and Named.
	Standby bool
	// Two puts a second gateway in front of the server, and a router between the two. Not
	// with HopMTU, Line or Standby.
	Two bool
	// Line, if not nil, makes the link between client and gateway a long one, in both
	// directions. Not with HopMTU, and not in a named lab, as the line is part of this process.
	Line *line.Path
}

// Lab is a standing lab. All methods may be used from several goroutines.
type Lab struct {
	opt Options

	mu     sync.Mutex
	spaces map[NS]*space
	cmds   map[*Cmd]struct{}
	line   *line.Line // nil without Options.Line
	closed bool
}

// New makes the lab. If the machine or the user cannot have one, the error wraps ErrHelp and
// is one sentence that says what to do.
func New(opt Options) (l *Lab, err error) {
	if err := opt.fill(); err != nil {
		return nil, err
	}
	if err := mayMake(); err != nil {
		return nil, err
	}
	l = &Lab{opt: opt, spaces: map[NS]*space{}, cmds: map[*Cmd]struct{}{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.Remove())
			l = nil
		}
	}()
	for _, ns := range opt.all() {
		path := ""
		if opt.Named {
			path = opt.path(ns)
		}
		s, err := newSpace(path)
		if err != nil {
			return l, fmt.Errorf("make namespace %s: %w", ns, err)
		}
		l.spaces[ns] = s
	}
	if err := l.connect(); err != nil {
		return l, err
	}
	return l, nil
}

// Open opens a named lab that New has made, in this process or in another.
// Its Close leaves it standing.
func Open(name string) (l *Lab, err error) {
	opt := Options{Name: name, Named: true}
	if err := opt.fill(); err != nil {
		return nil, err
	}
	l = &Lab{opt: opt, spaces: map[NS]*space{}, cmds: map[*Cmd]struct{}{}}
	for _, ns := range named() {
		h, err := netns.GetFromPath(opt.path(ns))
		if errors.Is(err, os.ErrNotExist) && ns != Client && ns != Gateway && ns != Server {
			continue
		}
		if err == nil {
			var s *space
			if s, err = openSpace(h, opt.path(ns)); err == nil {
				l.spaces[ns] = s
				l.opt.Two = l.opt.Two || ns == Gateway2
				continue
			}
		}
		_ = l.Close()
		if errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("no lab %q is up: type `sslgate lab up` first: %w", opt.Name, ErrHelp)
		}
		if errors.Is(err, os.ErrPermission) {
			return nil, fmt.Errorf("a lab can be entered by root only: use sudo: %w", ErrHelp)
		}
		return nil, fmt.Errorf("open namespace %s: %w", ns, err)
	}
	return l, nil
}

// Two says whether the lab has a second gateway.
func (l *Lab) Two() bool { return l.opt.Two }

// Close ends the commands that are still running and, for an ephemeral lab,
// takes the namespaces down. A named lab stays.
func (l *Lab) Close() error {
	if !l.opt.Named {
		return l.Remove()
	}
	return l.release(false)
}

// Remove takes the lab down, a named one too, with everything that was made.
func (l *Lab) Remove() error { return l.release(true) }

func (l *Lab) release(remove bool) error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	cmds := make([]*Cmd, 0, len(l.cmds))
	for c := range l.cmds {
		cmds = append(cmds, c)
	}
	l.mu.Unlock()
	for _, c := range cmds {
		_ = c.Process.Kill()
		<-c.gone
	}
	var errs []error
	if l.line != nil {
		errs = append(errs, l.line.Close())
	}
	if remove {
		errs = append(errs, l.disconnect())
	}
	for _, s := range l.spaces {
		errs = append(errs, s.close(remove))
	}
	return errors.Join(errs...)
}

// Down removes whatever is left of the named lab, also after a crash, and
// returns the names of the namespaces it took away.
func Down(name string) ([]string, error) {
	opt := Options{Name: name, Named: true}
	if err := opt.fill(); err != nil {
		return nil, err
	}
	var gone []string
	var errs []error
	for _, ns := range named() {
		if _, err := os.Lstat(opt.path(ns)); errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err := unmountNamed(opt.path(ns)); err != nil {
			errs = append(errs, err)
			continue
		}
		gone = append(gone, opt.Name+"-"+string(ns))
	}
	return gone, errors.Join(errs...)
}

func (l *Lab) space(ns NS) (*space, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.spaces[ns]
	if s == nil {
		return nil, fmt.Errorf("the lab has no namespace %q", ns)
	}
	if l.closed {
		return nil, fmt.Errorf("namespace %s: the lab is closed", ns)
	}
	return s, nil
}

func (o *Options) fill() error {
	if o.Name == "" {
		o.Name = "sslgate"
	}
	if len(o.Name) > 32 {
		return fmt.Errorf("lab name %q is longer than 32 bytes", o.Name)
	}
	for _, r := range o.Name {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' {
			return fmt.Errorf("lab name %q: only letters, digits and dashes", o.Name)
		}
	}
	if o.Servers < 0 || o.Servers > MaxServers {
		return fmt.Errorf("%d further server addresses: 0 to %d are possible", o.Servers, MaxServers)
	}
	for _, mtu := range []*int{&o.ClientMTU, &o.ServerMTU} {
		if *mtu == 0 {
			*mtu = 1500
		}
		if *mtu < 1280 || *mtu > 65535 {
			return fmt.Errorf("MTU %d: 1280 to 65535 are possible", *mtu)
		}
	}
	if o.HopMTU != 0 && (o.HopMTU < 1280 || o.HopMTU > o.ClientMTU) {
		return fmt.Errorf("hop MTU %d: 1280 to the client's %d are possible", o.HopMTU, o.ClientMTU)
	}
	if o.Line != nil && (o.HopMTU != 0 || o.Named) {
		return errors.New("a long line goes neither with a hop nor with a named lab")
	}
	if o.Standby && (o.HopMTU != 0 || o.Line != nil || o.Named) {
		return errors.New("a second gateway goes neither with a hop nor with a long line nor with a named lab")
	}
	if o.Two && (o.HopMTU != 0 || o.Line != nil || o.Standby) {
		return errors.New("a second gateway behind the first goes neither with a hop nor with a long line nor with one beside it")
	}
	return nil
}

// named are the namespaces that a named lab may have.
func named() []NS { return []NS{Client, Gateway, Between, Gateway2, Server, Hop} }

func (o *Options) all() []NS {
	if o.Standby {
		return []NS{Client, Gateway, Standby, Server}
	}
	if o.Line != nil {
		return []NS{Client, Between, Gateway, Server}
	}
	if o.HopMTU != 0 {
		return []NS{Client, Hop, Gateway, Server}
	}
	if o.Two {
		return []NS{Client, Gateway, Between, Gateway2, Server}
	}
	return []NS{Client, Gateway, Server}
}

func (o *Options) path(ns NS) string { return "/run/netns/" + o.Name + "-" + string(ns) }

// ClientAddr is the client's address, IPv6 if six.
func ClientAddr(six bool) netip.Addr {
	if six {
		return netip.MustParseAddr("fd77:1::2")
	}
	return netip.MustParseAddr("10.77.1.2")
}

// FirstAddr is the address of the first of two gateways (Options.Two) in the network between
// them, IPv6 if six: what the second one sees as its client.
func FirstAddr(six bool) netip.Addr {
	if six {
		return netip.MustParseAddr("fd77:3::1")
	}
	return netip.MustParseAddr("10.77.3.1")
}

// GatewayAddr is the gateway's address on the server's side, IPv6 if six: what
// a destination sees as its client. Of two gateways it is the second one's.
func GatewayAddr(six bool) netip.Addr {
	if six {
		return netip.MustParseAddr("fd77:2::1")
	}
	return netip.MustParseAddr("10.77.2.1")
}

// ServerAddr is the server's address number i, IPv6 if six: 0 is its first, 1 to
// Options.Servers are the further ones. i beyond MaxServers is an unused address in the
// server's network.
func ServerAddr(i int, six bool) netip.Addr {
	last := byte(2)
	if i > 0 {
		last = byte(min(9+i, 250))
	}
	if six {
		a := netip.MustParseAddr("fd77:2::").As16()
		a[15] = last
		return netip.AddrFrom16(a)
	}
	return netip.AddrFrom4([4]byte{10, 77, 2, last})
}
