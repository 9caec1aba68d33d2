package policy

import (
	"crypto/sha256"
	"net/netip"
	"slices"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/ja4"
	"github.com/sslgate/sslgate/internal/upgrade"
	"github.com/sslgate/sslgate/policy/pattern"
)

// rule is one compiled rule. Nothing changes it after Compile.
type rule struct {
	name    string
	action  Action
	observe bool             // decided and recorded, not enforced
	upgrade upgrade.Protocol // before the hello

	// Selectors; a nil list fits everything, but to, which fits nothing.
	local   bool // only programs of this host
	from    prefixes
	to      endpoints
	window  *window // nil is any time
	sni     hosts
	offered []string // alpn_offered
	ja4     prints   // of action deny alone

	alpn   []string // what is answered, in our order of preference
	silent bool     // answers no protocol, and does not say that this is meant

	// Demands of action terminate.
	auth        handshake.ClientAuth
	authorities []authority // of the client's certificate
	allow       []alternative
	allowText   string // of allow, equal where it says the same
	when        *condition
	onRevoked   onRevoked
	destName    string // destination.name, "" where it follows the flow
	destination []authority
	// The certificates of authorities, and of destination, at the moment.
	trusted, destTrusted *trust

	// accepted are the rules of same_service.
	accepted map[string]bool

	sets   []string          // that its lists name, sorted
	digest [sha256.Size]byte // see Plan.Digest

	plan Plan
	// wide is the plan of an observed rule for a hello that its profile would
	// refuse; its Client is nil where the rule is enforced.
	wide Plan
}

// authority is an authority as a rule uses it; permits is nil for any name.
type authority struct {
	*handshake.Authority // as it was compiled
	source               handshake.AuthoritySource
	permits              *permits
}

// selector names the part of a rule that a flow did not fit.
type selector uint8

const (
	selNone        selector = iota // every selector fits
	selHello                       // addresses and time fit; the rest needs a client hello
	selLocal                       // local
	selSource                      // from
	selDestination                 // to
	selTime                        // time
	selUpgrade                     // upgrade
	selSNI                         // sni
	selALPN                        // alpn_offered
	selJA4                         // ja4
)

// subject is what selectors are held against: a flow with its addresses
// unmapped. hello is nil while there is none.
type subject struct {
	src, dst netip.AddrPort
	local    bool
	now      time.Time
	hello    *handshake.ClientHello
	ja4      string // of the hello; "" until a rule asks
	// began is how the client began, dialogue what it was waited for to begin with. early says
	// that the first packet decides, so that nothing is waited for. They count with a hello.
	began, dialogue upgrade.Protocol
	early           bool
}

// fingerprint is worked out once a flow, and only where a rule asks.
func (f *subject) fingerprint() string {
	if f.ja4 == "" {
		f.ja4 = ja4.Of(f.hello)
	}
	return f.ja4
}

// match holds a rule against a flow and returns the first selector that does
// not fit. It is the one place where a selector is judged, whoever asks. It
// does not allocate, but for the first rule with a fingerprint.
func (r *rule) match(f *subject) selector {
	switch {
	case r.local && !f.local:
		return selLocal
	case r.from != nil && !r.from.has(f.src.Addr()):
		return selSource
	case !r.to.has(f.dst):
		return selDestination
	case r.window != nil && !r.window.contains(f.now):
		return selTime
	case f.hello != nil && !r.speaks(f):
		return selUpgrade
	case !r.needsHello():
		return selNone
	case f.hello == nil:
		return selHello
	case r.sni != nil && !r.fitsSNI(f.hello):
		return selSNI
	case r.offered != nil && !slices.ContainsFunc(f.hello.ALPN, r.takes):
		return selALPN
	case r.ja4 != nil && !r.ja4.has(f.fingerprint()):
		return selJA4
	}
	return selNone
}

func (r *rule) needsHello() bool { return r.sni != nil || r.offered != nil || r.ja4 != nil }

// fitsSNI: a name that is no host name fits no pattern, and is not the absence of one.
func (r *rule) fitsSNI(h *handshake.ClientHello) bool {
	name := sniOf(h)
	return (name != "" || !h.SNIPresent) && r.sni.has(pattern.Host{Name: name})
}

// takes: of the protocols a client offers, one is enough.
func (r *rule) takes(protocol string) bool { return slices.Contains(r.offered, protocol) }

// sniOf is the one reading of a hello's server name: "" where it is absent or
// no host name. Under ECH it is the outer name.
func sniOf(h *handshake.ClientHello) string {
	if h == nil || !h.SNIPresent || h.SNIInvalid {
		return ""
	}
	return h.ServerName
}

// unmap turns IPv4-mapped IPv6 addresses into IPv4 ones. It fails for an
// invalid address and for one with a zone: no prefix can mean it.
func unmap(a netip.AddrPort) (netip.AddrPort, bool) {
	addr := a.Addr().Unmap()
	return netip.AddrPortFrom(addr, a.Port()), addr.IsValid() && addr.Zone() == ""
}
