package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"github.com/sslgate/sslgate/internal/config"
	"github.com/sslgate/sslgate/tun"
)

// tun checks that the device can be made, and with which features.
func (d *doctor) tun() {
	node := d.o.TUNNode
	fd, err := unix.Open(node, unix.O_RDWR|unix.O_CLOEXEC, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		d.fail("tun", fmt.Sprintf("modprobe tun; mkdir -p %s && mknod -m 0666 %s c 10 200", filepath.Dir(node), node), "there is no %s", node)
		return
	case errors.Is(err, fs.ErrPermission):
		d.fail("tun", "chmod 0666 "+node, "this user may not open %s", node)
		return
	case errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		d.fail("tun", "modprobe tun", "the kernel has no TUN driver behind %s", node)
		return
	case err != nil:
		d.fail("tun", "", "%s: %v", node, err)
		return
	}
	defer func() { _ = unix.Close(fd) }()
	features, err := unix.IoctlGetUint32(fd, unix.TUNGETFEATURES)
	if err != nil {
		d.fail("tun", fmt.Sprintf("rm %s && mknod -m 0666 %s c 10 200", node, node), "%s is no TUN driver: %v", node, err)
		return
	}
	if features&unix.IFF_VNET_HDR == 0 || features&unix.IFF_MULTI_QUEUE == 0 {
		d.warn("tun", "", "the TUN driver has no virtio-net header: no offload, bulk transfers run at a fraction of the speed; use a newer kernel")
		return
	}
	d.good("tun", "%s opens, with offload", node)
}

// capabilities checks the capabilities of this process; the gateway needs the same.
func (d *doctor) capabilities() {
	has, err := hasNetAdmin(filepath.Join(d.o.Proc, "self/status"))
	switch {
	case err != nil:
		d.fail("capabilities", "", "read the capabilities: %v", err)
	case has:
		d.good("capabilities", "CAP_NET_ADMIN is there")
	default:
		again := "sudo sslgate doctor"
		if d.o.File != "" {
			again += " -c " + Quote(d.o.File)
		}
		d.fail("capabilities", again, "this process has no CAP_NET_ADMIN: some checks below cannot see the truth, and run and guard would fail (the systemd unit gives it to the gateway)")
	}
}

func hasNetAdmin(status string) (bool, error) {
	b, err := os.ReadFile(status)
	if err != nil {
		return false, err
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "CapEff:"); ok {
			set, err := strconv.ParseUint(strings.TrimSpace(v), 16, 64)
			return set&(1<<unix.CAP_NET_ADMIN) != 0, err
		}
	}
	return false, errors.New("no CapEff line")
}

// nft checks that the kernel has nf_tables.
func (d *doctor) nft() {
	tables, err := listTables()
	if err != nil {
		d.fail("nft", "modprobe nf_tables", "nftables cannot be used: %v", err)
		return
	}
	d.good("nft", "nftables answers, %d tables", len(tables))
}

func listTables() ([]*nftables.Table, error) {
	conn, err := nftables.New()
	if err != nil {
		return nil, err
	}
	return conn.ListTables()
}

// guardSet says whether our nft table is there.
func guardSet() (bool, error) {
	tables, err := listTables()
	return slices.ContainsFunc(tables, tun.Ours), err
}

// guard checks that captured traffic is held back now.
func (d *doctor) guard() {
	if !d.steers() {
		return
	}
	switch set, err := guardSet(); {
	case err != nil:
		return // nft reports it
	case set:
		d.good("guard", "the guard is set")
		return
	}
	d.warn("guard", "sslgate guard -c "+Quote(d.o.File), "the guard is not set: until the gateway runs, captured traffic passes uninspected")
}

// conntrack checks that the kernel's table is large enough. A flow takes two entries: the
// client's half, and ours towards the destination.
func (d *doctor) conntrack() {
	most, ok := d.sysctlInt("netfilter/nf_conntrack_max")
	if !ok {
		d.good("conntrack", "connection tracking is not loaded yet; the guard loads it")
		return
	}
	used, _ := d.sysctlInt("netfilter/nf_conntrack_count")
	want := 2 * d.flows()
	fix := func(n int) string { return fmt.Sprintf("sysctl -w net/netfilter/nf_conntrack_max=%d", n) }
	switch {
	case used >= most:
		d.fail("conntrack", fix(max(2*most, want)), "the table of tracked connections is full (%d): new connections are dropped", most)
	case used*10 >= most*8:
		d.warn("conntrack", fix(max(2*most, want)), "the table of tracked connections is nearly full: %d of %d", used, most)
	case most < want:
		d.warn("conntrack", fix(want), "%d tracked connections do not suffice for limits.flows: it takes up to %d", most, want)
	default:
		d.good("conntrack", "%d of %d tracked connections in use", used, most)
	}
}

func (d *doctor) flows() int {
	if d.o.Config == nil {
		return 20000 // the default of limits.flows
	}
	return d.o.Config.Limits.Flows
}

// ports checks the range of local ports: each flow towards one destination takes one of
// our ports.
func (d *doctor) ports() {
	const key = "ipv4/ip_local_port_range"
	b, err := os.ReadFile(filepath.Join(d.o.Proc, "sys/net", key))
	var low, high int
	if err == nil {
		_, err = fmt.Sscan(string(b), &low, &high)
	}
	switch {
	case err != nil:
		d.fail("ports", "", "read %s: %v", key, err)
	case high-low+1 < min(d.flows(), 50000):
		d.warn("ports", `sysctl -w net/`+key+`="10240 65535"`, "%d local ports: no more flows than that to one destination", high-low+1)
	default:
		d.good("ports", "%d local ports for each destination", high-low+1)
	}
}

// spareFiles are the descriptors for everything but flows.
const spareFiles = 256

// files checks the limit of descriptors: each flow holds one, for the connection to its
// destination. The soft limit does not matter, because the Go runtime raises it.
func (d *doctor) files() {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		d.fail("files", "", "read the limit of open files: %v", err)
		return
	}
	if want := uint64(d.flows() + spareFiles); l.Max < want {
		d.warn("files", fmt.Sprintf("prlimit --pid $$ --nofile=%d", want), "%d open files do not suffice for limits.flows, it takes %d; the systemd unit has LimitNOFILE", l.Max, want)
		return
	}
	d.good("files", "%d open files", l.Max)
}

// socket checks that the admin socket can be made.
func (d *doctor) socket() {
	path := config.DefaultSocket
	if d.o.Config != nil {
		path = d.o.Config.Admin.Socket
	}
	if path == config.AdminOff {
		return
	}
	dir := filepath.Dir(path)
	switch err := unix.Access(dir, unix.W_OK|unix.X_OK); {
	case errors.Is(err, fs.ErrNotExist):
		d.warn("socket", "install -d -m 0750 "+Quote(dir), "there is no %s for the admin socket: no status, no reload by command (the systemd unit makes it)", dir)
	case err != nil:
		d.warn("socket", "chown $(id -u) "+Quote(dir), "no admin socket can be made in %s: %v", dir, err)
	default:
		d.good("socket", "%s can be written", dir)
	}
}

// clock checks the time, by which certificates are judged.
func (d *doctor) clock() {
	if d.o.Now.Before(d.o.Built) {
		d.fail("clock", "date -u -s "+Quote(d.o.Built.UTC().Format(time.DateTime))+" && timedatectl set-ntp true",
			"the clock says %s, which is before sslgate was built: certificates would be misjudged", d.o.Now.UTC().Format(time.DateTime))
		return
	}
	var tx unix.Timex
	state, err := d.o.Clock(&tx)
	switch {
	case err != nil:
		d.fail("clock", "", "adjtimex: %v", err)
	case state == unix.TIME_ERROR || tx.Status&unix.STA_UNSYNC != 0:
		d.warn("clock", "timedatectl set-ntp true", "nobody synchronises the clock: certificates are judged by it")
	default:
		d.good("clock", "the clock is synchronised")
	}
}

// Quote quotes a word for the shell.
func Quote(s string) string {
	if s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+@:") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

func (d *doctor) sysctlInt(key string) (int, bool) {
	b, err := os.ReadFile(filepath.Join(d.o.Proc, "sys/net", key))
	if err != nil {
		return 0, false
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	return n, err == nil
}

// legacyTables are the tables of iptables-legacy or ip6tables-legacy in the network
// namespace of this process, as the kernel lists them. They can be seen without
// privileges.
func (d *doctor) legacyTables(ip string) []string {
	b, err := os.ReadFile(filepath.Join(d.o.Proc, "net", ip+"_tables_names"))
	if err != nil {
		return nil // never loaded
	}
	return strings.Fields(string(b))
}
