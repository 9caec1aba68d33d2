package doctor

import (
	"bufio"
	"encoding/hex"
	"io"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/sslgate/sslgate/internal/config"
	"github.com/sslgate/sslgate/internal/readfile"
	"github.com/sslgate/sslgate/tun"
)

// local reports what happens to services of this host itself on captured ports.
func (d *doctor) local() {
	if !d.steers() {
		return
	}
	c := d.o.Config
	if c.CapturesLocal() {
		for _, f := range families {
			list, err := netlink.RuleList(f.number)
			if err != nil {
				return // rules reports it
			}
			for _, r := range list {
				if r.Priority <= tun.LocalPreferences && r.Protocol != tun.RuleProtocol && r.Table != unix.RT_TABLE_LOCAL {
					d.fail("local", "",
						"ip %s rule %d (table %d) stands where the local table is moved to: sslgate does not start; its owner should give it a preference above %d, or write `local: {in: false}` in section capture",
						f.flag, r.Priority, r.Table, tun.LocalPreferences)
				}
			}
		}
	}
	if services := LocalServices(d.o.Proc, c); len(services) > 0 {
		d.good("local", "services of this host on captured ports (%s): %s", strings.Join(services, ", "), LocalFate(c))
	}
	if d.clean("local") {
		d.good("local", "no service of this host listens on a captured port")
	}
}

// LocalFate says what happens to clients of this host's own services on captured
// ports.
func LocalFate(c *config.Config) string {
	ifcs := strings.Join(c.Capture.Interfaces, ", ")
	if c.CapturesLocal() {
		return "connections from " + ifcs + " are captured, and reach them only by a rule that terminates, or a bypass that names the address; UDP as capture.quic says"
	}
	return "connections from " + ifcs + " are dropped (local: {in: false})"
}

// localOut reports what is captured of programs of this host, and whether the guard that is
// set now holds it back.
func (d *doctor) localOut() {
	if !d.steers() || !d.o.Config.CapturesOut() {
		return
	}
	c := d.o.Config
	set, err := guardSet()
	if err != nil {
		return // nft reports it
	}
	switch there, same, err := tun.GuardsOut(d.o.Steer(c)); {
	case set && !there && err == nil:
		d.fail("local_out", "systemctl restart sslgate", "the guard that is set holds nothing of this host's own programs back: it is of another configuration, and what they open to captured ports passes uninspected until the gateway is started anew")
		return
	case set && err != nil:
		d.warn("local_out", "", "whether the guard that is set holds this host's own programs back as the configuration says cannot be told: %v", err)
		return
	case set && !same:
		d.fail("local_out", "systemctl restart sslgate", "the guard that is set holds other connections of this host's own programs back than the configuration says: it is of another configuration, or somebody has changed it; until the gateway is started anew something may pass uninspected")
		return
	}
	d.good("local_out", "connections that %s of this host open to captured ports are captured; sslgate's own have mark %#x", whose(c.Capture.Local.Out), c.OwnMark())
}

// whose says in words which programs are captured.
func whose(o *config.LocalOut) string {
	all := func(word string, numbers []int) string {
		texts := make([]string, len(numbers))
		for i, n := range numbers {
			texts[i] = strconv.Itoa(n)
		}
		return word + " " + strings.Join(texts, ", ")
	}
	var parts []string
	if len(o.Users) > 0 {
		parts = append(parts, all("users", o.Users))
	}
	if len(o.Groups) > 0 {
		parts = append(parts, all("groups", o.Groups))
	}
	text := "all programs"
	if len(parts) > 0 {
		text = "programs of " + strings.Join(parts, " and ")
	}
	if len(o.ExceptUsers) > 0 {
		text += " but those of " + all("users", o.ExceptUsers)
	}
	return text
}

// maxServices bounds what LocalServices lists. maxListeners bounds the bytes it reads for
// each family: a socket takes 150, and listening ones come first.
const (
	maxServices  = 8
	maxListeners = 1 << 20
)

// LocalServices are the addresses, except loopback, on which TCP services of this host
// listen at a captured port: "0.0.0.0:443". At most eight and "...". proc is /proc.
func LocalServices(proc string, c *config.Config) []string {
	var all []string
	for _, name := range []string{"tcp", "tcp6"} {
		file, _, err := readfile.Open(filepath.Join(proc, "net", name))
		if err != nil {
			continue // no IPv6
		}
		for lines := bufio.NewScanner(io.LimitReader(file, maxListeners)); lines.Scan(); {
			at, ok := listener(lines.Text())
			if ok && !at.Addr().IsLoopback() && c.Capture.Captures(at.Port()) {
				all = append(all, at.String())
			}
		}
		_ = file.Close()
	}
	slices.Sort(all)
	all = slices.Compact(all)
	if len(all) > maxServices {
		all = append(all[:maxServices], "...")
	}
	return all
}

// listener reads a line of /proc/net/tcp (proc_pid_net(5)). The address is in
// hexadecimal, in words of 32 bits in the host's byte order, which is little-endian on
// everything that sslgate is built for. State 0A is LISTEN.
func listener(line string) (netip.AddrPort, bool) {
	f := strings.Fields(line)
	if len(f) < 4 || f[3] != "0A" {
		return netip.AddrPort{}, false
	}
	address, port, _ := strings.Cut(f[1], ":")
	b, err := hex.DecodeString(address)
	p, perr := hex.DecodeString(port)
	if err != nil || perr != nil || len(p) != 2 || len(b) != 4 && len(b) != 16 {
		return netip.AddrPort{}, false
	}
	for i := 0; i < len(b); i += 4 {
		slices.Reverse(b[i : i+4])
	}
	ip, _ := netip.AddrFromSlice(b)
	return netip.AddrPortFrom(ip.Unmap(), uint16(p[0])<<8|uint16(p[1])), true
}
