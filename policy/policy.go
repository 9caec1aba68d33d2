// Package policy decides flows: which rule a connection falls under, what
// the client must show, and whether what it showed is enough. It is pure: no
// files, sockets or clock; time comes in as a fact. It decides at three
// moments (OnSYN, OnHello, OnPeer), and deny is the zero value of everything.
package policy

import (
	"crypto/tls"
	"net/netip"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/identity"
	"github.com/sslgate/sslgate/internal/reason"
	"github.com/sslgate/sslgate/internal/upgrade"
)

// Identity is a loaded entry of identities.
type Identity struct {
	Name string
	// Source gives its certificates, and says what they are.
	Source identity.Source
}

// Certificates are those of the moment, or of the kind that is made on demand; nil
// without a source.
func (id Identity) Certificates() []tls.Certificate {
	if id.Source == nil {
		return nil
	}
	return id.Source.Certificates()
}

// Minted says whether the certificates are made on demand.
func (id Identity) Minted() bool { return id.Source != nil && id.Source.OnDemand() }

// Facts is what is known about a flow at the moment of a decision.
type Facts struct {
	Now   time.Time
	Src   netip.AddrPort
	Dst   netip.AddrPort // the original destination
	Local bool           // the client is a program of this host
	// Upgrade is what the client asked for TLS by before its hello; None for TLS from the
	// first byte.
	Upgrade upgrade.Protocol
	Hello   *handshake.ClientHello // nil before OnHello
	// JA4 is the fingerprint of a flow that is made up; "" for that of Hello.
	JA4   string
	Peer  *handshake.Peer  // nil before OnPeer, and where no certificate was shown
	State *handshake.State // what the handshake agreed on; nil before OnPeer
	// Upstream is the connection with the destination; nil while there is none.
	Upstream *Upstream
}

// Action is what happens to a flow. The zero value denies, and so does every
// value that is not listed.
type Action uint8

// The actions.
const (
	Deny Action = iota
	Terminate
	Bypass
	// Originate is TLS with the destination for a client that speaks without.
	Originate
)

// Lets says whether the flow goes on.
func (a Action) Lets() bool { return a == Terminate || a == Bypass || a == Originate }

// String is the word of the configuration.
func (a Action) String() string {
	switch a {
	case Terminate:
		return "terminate"
	case Bypass:
		return "bypass"
	case Originate:
		return "originate"
	default:
		return "deny"
	}
}

// Verdict is one decision. The zero value denies.
type Verdict struct {
	Action Action
	Rule   string // name of the rule that decided; "" for the default
	Reason reason.Code
	Detail string // may quote the peer: escape where shown
	Alert  handshake.Alert
	Plan   *Plan  // set where Action lets the flow go on
	SetID  string // digest of the policy set that decided
	// Would is what an observed rule, or policy, would have refused if it were
	// enforced. The zero value is nothing.
	Would Would
}

// Would is a refusal that was observed and not enforced.
type Would struct {
	Deny   bool
	Rule   string // name of the rule that would deny; "" for the default
	Reason reason.Code
	Detail string // may quote the peer: escape where shown
	Alert  handshake.Alert
}

// TLSMode says how the destination is spoken to.
type TLSMode uint8

// The modes. The zero value verifies.
const (
	TLSVerify TLSMode = iota
	TLSPlain
	TLSInsecure // TLS, but whoever answers will do
)

// Source says whose address the destination sees.
type Source uint8

// The sources.
const (
	SourceGateway Source = iota
	SourceClient         // or the flow ends
)

// String is the word of the configuration.
func (s Source) String() string {
	switch s {
	case SourceGateway:
		return "gateway"
	case SourceClient:
		return "client"
	}
	return "unknown"
}

// Plan is what a rule wants of one flow. Shared by many flows, never changed.
// It is only good for the Set that made it.
type Plan struct {
	Rule   string
	Client *handshake.ServerParams // towards the client; nil for bypass and originate
	// Observed says that the rule's demands refuse nobody (mode: observe).
	Observed bool
	// ProxyV2 says that the connection to the destination begins with a PROXY
	// protocol header.
	ProxyV2 bool
	// Port is the one that is dialled in the place of the flow's own, 0 for that one.
	Port uint16
	// Offered are the protocols that the destination of action originate is offered (ALPN).
	Offered []string
	// DialFirst says that the destination is connected to before the client is
	// verified.
	DialFirst bool
	// Source is whose address the destination sees.
	Source Source
	// own is the identity towards the client, destOwn that towards the destination;
	// without a Source where there is none.
	own, destOwn Identity
	Mode         TLSMode // towards the destination; TLSPlain for bypass
	// Upgrade is the dialogue with the client before TLS, DestUpgrade that with the destination.
	Upgrade, DestUpgrade upgrade.Protocol
	// dest is the handshake with the destination, nil where Mode is
	// TLSPlain. ServerName and VerifyName follow the flow: Destination fills
	// them in.
	dest *handshake.ClientParams
	rule *rule
	set  *Set
}
