package tun

import (
	"os"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// If a gateway forwards a client's packet by the interface on which it arrived, it tells
// the client of the next router (RFC 792, redirect; RFC 4861, section 8.2), even for
// packets that are not captured. The client then sends everything past the gateway. So no
// redirects go to captured interfaces, whichever part of the kernel makes them: an nft
// chain drops them, with the guard alone too. While the gateway runs, send_redirects,
// which only IPv4 has, is off as well.

// redirectsSet is the set in our nft table that names the interfaces, and "all", whose
// send_redirects we have switched off. Like groSet it tells a later process what to undo.
const redirectsSet = "send_redirects_off"

// The types of the messages: ICMP (RFC 792) and ICMPv6 (RFC 4861, section 4.5).
const (
	icmpRedirect   = 5
	icmpv6Redirect = 137
)

// noRedirects builds the chain that drops redirects to captured interfaces.
func (b *tableBuilder) noRedirects() {
	chain := b.base("redirects", nftables.ChainHookOutput, guardPriority)
	toCaptured := b.chain("to_captured")
	for _, redirect := range redirects() {
		b.rule(chain, redirect, []expr.Any{&expr.Verdict{Kind: expr.VerdictGoto, Chain: toCaptured.Name}})
	}
	b.drops(toCaptured, DropRedirect, load(expr.MetaKeyOIFNAME), in(b.names))
	b.drops(toCaptured, DropRedirect, load(expr.MetaKeyOIF), in(b.indexes))
}

// dropRedirects drops in chain the redirects that others send.
func (b *tableBuilder) dropRedirects(chain *nftables.Chain) {
	for _, redirect := range redirects() {
		b.drops(chain, DropRedirect, redirect)
	}
}

// redirects match redirects, of each family.
func redirects() [][]expr.Any {
	return [][]expr.Any{
		concat(family(unix.NFPROTO_IPV4), proto(unix.IPPROTO_ICMP), transport(0, 1), equal([]byte{icmpRedirect})),
		concat(family(unix.NFPROTO_IPV6), proto(unix.IPPROTO_ICMPV6), transport(0, 1), equal([]byte{icmpv6Redirect})),
	}
}

func redirectsKey(name string) string { return "/proc/sys/net/ipv4/conf/" + name + "/send_redirects" }

// SendsRedirects returns those of the interfaces, and "all", that have send_redirects
// set. The kernel sends redirects if the interface or "all" has it set.
func SendsRedirects(interfaces ...string) []string {
	var on []string
	for _, name := range append([]string{"all"}, interfaces...) {
		if isSet("ipv4/conf/" + name + "/send_redirects") {
			on = append(on, name)
		}
	}
	return on
}

// planRedirects returns where send_redirects is to be switched off, and notes it for
// writeTable, which runs before turnRedirects. Interfaces that are no longer captured get
// it back at once.
func (s *Steering) planRedirects(captured []string) []string {
	if !s.inNamespace() {
		return nil
	}
	gone := func(name string) bool { return name != "all" && !slices.Contains(captured, name) }
	s.turnRedirects(slices.DeleteFunc(slices.Clone(s.redirects), func(n string) bool { return !gone(n) }), true)
	s.redirects = slices.DeleteFunc(s.redirects, gone)
	on := SendsRedirects(captured...)
	s.redirects = append(s.redirects, on...)
	slices.Sort(s.redirects)
	s.redirects = slices.Compact(s.redirects)
	return on
}

// turnRedirects switches send_redirects of the interfaces. A failure is logged; the nft
// chain drops redirects all the same.
func (s *Steering) turnRedirects(interfaces []string, on bool) {
	value := "0"
	if on {
		value = "1"
	}
	for _, name := range interfaces {
		err := os.WriteFile(redirectsKey(name), []byte(value), 0)
		switch {
		case os.IsNotExist(err):
		case err != nil:
			s.log.Warn("send_redirects not switched; redirects to captured interfaces are dropped all the same",
				zap.String("interface", name), zap.Bool("on", on), zap.Error(err))
		default:
			s.log.Info("send_redirects switched", zap.String("interface", name), zap.Bool("on", on))
		}
	}
}

// repairRedirects switches send_redirects off again where somebody has switched it on.
func (s *Steering) repairRedirects() {
	before := slices.Clone(s.redirects)
	on := s.planRedirects(s.at.names)
	if len(on) == 0 {
		return
	}
	if !slices.Equal(before, s.redirects) {
		if err := s.writeTable(true); err != nil {
			s.failed("note send_redirects in the nft table", err)
			return
		}
	}
	s.turnRedirects(on, false)
	s.repaired("send_redirects of " + strings.Join(on, ", "))
}

// giveBackRedirects undoes turnRedirects.
func (s *Steering) giveBackRedirects() {
	if s.inNamespace() {
		s.turnRedirects(s.redirects, true)
		s.redirects = nil
	}
}

// inNamespace says whether the calling thread is in the network namespace in which the
// sockets were opened: /proc/sys/net shows the namespace of the caller.
func (s *Steering) inNamespace() bool {
	now, err := os.Readlink("/proc/thread-self/ns/net")
	return err == nil && now == s.namespace
}
