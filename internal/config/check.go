package config

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sslgate/sslgate/internal/fielderr"
	"github.com/sslgate/sslgate/internal/memory"
	"github.com/sslgate/sslgate/policy"
)

// maxHello is the most that limits.hello can be: two records of a ClientHello
// spread over as many as it likes are never larger in practice, and a client
// that has not shown anything yet should not hold more memory than this.
const maxHello Size = 64 << 10

// minHello leaves room for a ClientHello with an ML-KEM key share, about
// 1.8 KiB.
const minHello Size = 2 << 10

// check adds a mistake unless it is an echo of an earlier one.
func (f *File) check(ok bool, path, format string, args ...any) {
	if !ok && !f.echo(path) {
		f.findings = append(f.findings, f.Finding(path, fmt.Sprintf(format, args...)))
	}
}

// word checks a value of a fixed set.
func (f *File) word(path, value string, words ...string) {
	f.check(slices.Contains(words, value), path, "wants %s, not %s%s",
		oneOf(words), quote(value), fielderr.Suggest(value, words))
}

func oneOf(words []string) string {
	if len(words) == 1 {
		return strconv.Quote(words[0])
	}
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = strconv.Quote(w)
	}
	last := len(quoted) - 1
	return strings.Join(quoted[:last], ", ") + " or " + quoted[last]
}

// checkValues finds what is wrong with values by themselves and together,
// without opening any file.
func (f *File) checkValues() {
	if !f.has("") {
		return
	}
	c := &f.Config
	if f.has("version") {
		f.check(c.Version == 1, "version", "this sslgate reads version 1, not %d", c.Version)
	} else {
		f.check(false, "version", "is missing: begin the file with `version: 1`")
	}
	if c.Fleet != nil && f.host == nil {
		f.checkOwn()
		return
	}
	f.checkTUN(&c.TUN)
	f.checkCapture(&c.Capture)
	f.word("fail", c.Fail, "closed", "open")
	f.word("engine", c.Engine, engineStd, engineNative)
	f.word("reload.live", c.Reload.Live, "keep", "reevaluate")
	// sun_path of a unix socket address has 108 bytes; the server adds its process number while it makes it.
	f.check(c.Admin.Socket != "" && len(f.abs(c.Admin.Socket)) <= 96, "admin.socket", "a path of at most 96 bytes, or off")
	f.checkAdminHTTP(&c.Admin)
	f.checkMetrics(&c.Admin.Metrics)
	f.checkDial(c)
	f.checkUpgrade(c)
	f.checkNamed(c)
	f.checkTickets(&c.Tickets)
	f.checkLimits(&c.Limits)
	f.checkAudit(&c.Audit)
	f.word("log.level", c.Log.Level, "debug", "info", "warn", "error")
	f.word("log.format", c.Log.Format, "console", "json")
	f.check(f.has("policy"), "policy", "is missing: without rules everything would be denied")
	f.checkZeros(c)
}

func (f *File) checkTUN(t *TUN) {
	f.check(interfaceFault(t.Name) == "", "tun.name", "%s", interfaceFault(t.Name))
	f.check(t.MTU >= 1280 && t.MTU <= 65535, "tun.mtu", "%d is out of range: 1280 (the least of IPv6, RFC 8200, section 5) to 65535", t.MTU)
	f.word("tun.offload", t.Offload, "auto", "off")
	f.word("tun.sender", t.Sender, "paced", "netstack")
	f.check(t.Queues >= 1 && t.Queues <= 16, "tun.queues", "%d is out of range: 1 (the default) to 16; more than there are processors are of no use", t.Queues)
	for i, a := range t.Addresses {
		p, err := netip.ParsePrefix(a)
		path := indexPath("tun.addresses", i)
		f.check(a == "" || err == nil, path, "%s is no address in CIDR form such as 10.99.0.1/30", quote(a))
		f.check(err != nil || !p.Addr().Is4In6(), path, "write the IPv4 address as such: %s", quote(p.Addr().Unmap().String()))
	}
}

// tunAddresses are the prefixes of tun.addresses.
func (f *File) tunAddresses() []netip.Prefix {
	var ps []netip.Prefix
	for _, a := range f.Config.TUN.Addresses {
		if p, err := netip.ParsePrefix(a); err == nil {
			ps = append(ps, p)
		}
	}
	return ps
}

func (f *File) checkCapture(c *Capture) {
	attach := f.Config.TUN.Attach
	switch {
	case attach && f.has("capture.interfaces"):
		f.check(false, "capture.interfaces", "with tun.attach the device is routed by somebody else: take this out, or attach")
	case !attach:
		f.check(len(c.Interfaces) > 0 || f.has("capture.interfaces") || c.Local.Out != nil, "capture.interfaces", "is missing: name the interfaces that captured traffic comes in by")
	}
	seen := map[string]bool{}
	for i, name := range c.Interfaces {
		path := indexPath("capture.interfaces", i)
		fault := interfaceFault(name)
		switch {
		case fault != "":
			f.check(false, path, "%s", fault)
		case name == "lo":
			f.check(false, path, "lo carries the gateway's own connections: they would be captured again")
		case name == f.Config.TUN.Name:
			f.check(false, path, "this is the TUN itself: its packets would go round in circles")
		default:
			f.check(!seen[name], path, "%s is listed twice", name)
		}
		seen[name] = true
	}
	for i, name := range c.Exempt {
		path := indexPath("capture.exempt", i)
		fault := interfaceFault(name)
		switch {
		case fault != "":
			f.check(false, path, "%s", fault)
		case slices.Contains(c.Interfaces, name):
			f.check(false, path, "%s is in capture.interfaces: it is captured or exempt", name)
		case name == f.Config.TUN.Name:
			f.check(false, path, "this is the TUN itself: what comes from it passes anyway")
		default:
			f.check(!seen[name], path, "%s is listed twice", name)
		}
		seen[name] = true
	}
	f.protocols(c.Protocols)
	f.check(c.Ports.All || len(c.Ports.List) > 0 || f.has("capture.ports"), "capture.ports", `is missing: name the TCP ports, for example [443], or "all"`)
	f.checkLocal(c)
	f.word("capture.quic", c.QUIC, "reject", "ignore")
	f.word("capture.gro", c.GRO, "keep", "auto")
	f.marks(c)
	f.check(c.Table > 0 && int64(c.Table) <= 1<<31-1, "capture.table", "%d is out of range: 1 to 2147483647", c.Table)
	f.check(c.Table < 253 || c.Table > 255, "capture.table", "%d is a table of the system (default 253, main 254, local 255)", c.Table)
	f.check(c.Preference >= 1 && c.Preference <= 32764, "capture.preference",
		"%d is out of range: 1 to 32764, so that the rule and the one after it come after local (0) and before main (32766)", c.Preference)
	if !attach {
		return
	}
	for _, path := range []string{"capture.exempt", "capture.protocols", "capture.local", "capture.except_ports", "capture.quic", "capture.gro", "capture.mark", "capture.mask", "capture.table", "capture.preference"} {
		if f.has(path) {
			f.findings = append(f.findings, f.Warning(path, "has no effect with tun.attach"))
		}
	}
}

// interfaceFault says why the kernel takes no interface of this name
// (dev_valid_name in net/core/dev.c); "" if it does. "%" would make the
// kernel number it, and "*" is a wildcard of nftables.
func interfaceFault(name string) string {
	switch {
	case name == "":
		return "" // the decoder has said so
	case len(name) > 15:
		return fmt.Sprintf("%s has %d bytes: the name of an interface has at most 15", quote(name), len(name))
	case name == "." || name == ".." || strings.ContainsAny(name, "/: \t%*\"\\"):
		return quote(name) + " cannot be the name of an interface"
	}
	return ""
}

// checkNamed looks at authorities and identities without their files.
func (f *File) checkNamed(c *Config) {
	for _, name := range slices.Sorted(maps.Keys(c.Authorities)) {
		a, path := c.Authorities[name], keyPath("authorities", name)
		if a.SPIFFE != nil {
			f.checkBundle(path, &a)
		} else {
			f.check(a.Roots != "", path+".roots", "is missing: the PEM file of the trust anchors")
		}
		f.checkRevocation(path, &a)
		if a.Permits == nil {
			continue
		}
		for _, e := range policy.CheckPermits(a.Permits) {
			f.locate(fielderr.Join(path, "permits"), e)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Identities)) {
		id, path := c.Identities[name], keyPath("identities", name)
		f.checkIdentity(path, &id)
	}
}

// locate adds a mistake that another package found in a section.
func (f *File) locate(section string, e *fielderr.Error) {
	path := fielderr.Join(section, e.Path)
	if f.echo(path) {
		return
	}
	l := f.Finding(path, e.Msg)
	l.Warning = e.Warning
	f.findings = append(f.findings, l)
}

func (f *File) checkLimits(l *Limits) {
	// The most flows that 2 TiB could hold; more is a slip of the keyboard.
	const maxFlows = 20_000_000
	f.check(l.Flows >= 1 && l.Flows <= maxFlows, "limits.flows", "%d is out of range: 1 to %d", l.Flows, maxFlows)
	f.check(l.FlowsPerClient >= 1, "limits.flows_per_client", "must be at least 1, not %d", l.FlowsPerClient)
	if !f.has("limits.flows_per_client") {
		l.FlowsPerClient = min(l.FlowsPerClient, max(l.Flows, 1))
	}
	f.check(l.FlowsPerClient <= max(l.Flows, 1), "limits.flows_per_client", "%d is more than limits.flows (%d)", l.FlowsPerClient, l.Flows)
	f.check(l.Hello >= minHello && l.Hello <= maxHello, "limits.hello", "%s is out of range: %s to %s", l.Hello, minHello, maxHello)
	f.atMost("limits.handshake", l.Handshake, 5*time.Minute)
	f.checkHandshakes(l)
	f.checkRefusalRecords(l)
	p := l.PerIdentity
	f.check(p.Flows >= 0 && p.Flows <= 1_000_000, "limits.per_identity.flows", "%d is out of range: 1 to 1000000, or 0 for no bound", p.Flows)
	f.check(p.Handshakes >= 0 && p.Handshakes <= 1_000_000, "limits.per_identity.handshakes", "%d is out of range: 1 to 1000000, or 0 for no bound", p.Handshakes)
	f.check(p.BytesPerSecond == 0 || p.BytesPerSecond >= 16<<10, "limits.per_identity.bytes_per_second", "is too small: at least 16KiB, or 0 for no bound")
	f.check(l.DialsPerDestination >= 1 && l.DialsPerDestination <= 1_000_000, "limits.dials_per_destination",
		"%d is out of range: 1 to 1000000", l.DialsPerDestination)
	f.check(l.Chain >= 1 && l.Chain <= 100, "limits.chain", "%d is out of range: 1 to 100", l.Chain)
	// crypto/tls takes no larger message with certificates.
	f.check(l.ChainBytes >= 1<<10 && l.ChainBytes <= 256<<10, "limits.chain_bytes", "%s is out of range: 1KiB to 256KiB", l.ChainBytes)
	f.atMost("limits.idle", l.Idle, 30*24*time.Hour)
	f.atMost("limits.stall", l.Stall, 24*time.Hour)
	f.atMost("limits.half_closed", l.HalfClosed, 30*24*time.Hour)
	f.check(l.Memory == 0 && !f.has("limits.memory") || l.Memory >= memory.MinCeiling, "limits.memory", "%s is too little: at least %s", l.Memory, Size(memory.MinCeiling))
	f.atMost("limits.drain", l.Drain, 24*time.Hour)
	f.atMost("limits.shutdown_delay", l.ShutdownDelay, 10*time.Minute)
}

func (f *File) checkHandshakes(l *Limits) {
	f.check(l.Handshakes >= 1 && l.Handshakes <= 100_000, "limits.handshakes", "%d is out of range: 1 to 100000", l.Handshakes)
	if !f.has("limits.handshakes_per_client") {
		l.HandshakesPerClient = max(l.Handshakes/8, 1)
	}
	f.check(l.HandshakesPerClient >= 1 && l.HandshakesPerClient <= max(l.Handshakes, 1), "limits.handshakes_per_client",
		"%d is out of range: 1 to limits.handshakes (%d)", l.HandshakesPerClient, l.Handshakes)
	f.check(l.HandshakesPerSecond >= 1 && l.HandshakesPerSecond <= 1_000_000, "limits.handshakes_per_second",
		"%d is out of range: 1 to 1000000", l.HandshakesPerSecond)
}

func (f *File) checkRefusalRecords(l *Limits) {
	if !f.has("limits.refusal_records_per_client") {
		l.RefusalRecordsPerClient = max(min(10, l.RefusalRecords), 1)
	}
	f.check(l.RefusalRecords >= 1 && l.RefusalRecords <= 1_000_000, "limits.refusal_records", "%d is out of range: 1 to 1000000", l.RefusalRecords)
	f.check(l.RefusalRecordsPerClient >= 1 && l.RefusalRecordsPerClient <= max(l.RefusalRecords, 1), "limits.refusal_records_per_client",
		"%d is out of range: 1 to limits.refusal_records (%d)", l.RefusalRecordsPerClient, l.RefusalRecords)
}

func (f *File) atMost(path string, d Duration, limit time.Duration) {
	f.check(d.Std() <= limit, path, "%s is out of range: at most %s", d, limit)
}

// checkZeros refuses a 0 that is written where leaving the key out means the
// default: a reader would take it for "no limit".
func (f *File) checkZeros(c *Config) {
	for name, p := range c.Profiles {
		f.notZero(keyPath("profiles", name)+".min_rsa_bits", p.MinRSABits)
	}
	for i, r := range c.Policy.Rules {
		for j, a := range r.Client.Allow {
			f.notZero(indexPath(indexPath("policy.rules", i)+".client.allow", j)+".key_bits", a.KeyBits)
		}
	}
}

func (f *File) notZero(path string, n int) {
	f.check(n > 0 || !f.has(path), path, "must be more than 0, not %d: take the key out for the default", n)
}
