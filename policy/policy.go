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
	"github.com/sslgate/sslgate/internal/reason"
)

// Identity is a loaded entry of identities.
type Identity struct {
	Name         string
	Certificates []tls.Certificate
	// Staples are the OCSP responses of Certificates, see handshake.ServerParams.
	Staples []*handshake.Staple
	// Mint makes the certificates on demand; Certificates then only say of what
	// kind they are. nil means that Certificates are shown.
	Mint Minter
}

// Facts is what is known about a flow at the moment of a decision.
type Facts struct {
	Now   time.Time
	Src   netip.AddrPort
	Dst   netip.AddrPort         // the original destination
	Hello *handshake.ClientHello // nil before OnHello
	Peer  *handshake.Peer        // nil before OnPeer, and where no certificate was shown
	State *handshake.State       // what the handshake agreed on; nil before OnPeer
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
)

// String is the word of the configuration.
func (a Action) String() string {
	switch a {
	case Terminate:
		return "terminate"
	case Bypass:
		return "bypass"
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
	Plan   *Plan  // set where Action is Terminate or Bypass
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
	Client *handshake.ServerParams // towards the client; nil for bypass
	// Observed says that the rule's demands refuse nobody (mode: observe).
	Observed bool
	// ProxyV2 says that the connection to the destination begins with a PROXY
	// protocol header.
	ProxyV2 bool
	// DialFirst says that the destination is connected to before the client is
	// verified.
	DialFirst bool
	// Source is whose address the destination sees.
	Source Source
	minter Minter  // nil unless the identity is made on demand
	Mode   TLSMode // towards the destination; TLSPlain for bypass
	// dest is the handshake with the destination, nil where Mode is
	// TLSPlain. ServerName and VerifyName follow the flow: Destination fills
	// them in.
	dest *handshake.ClientParams
	rule *rule
	set  *Set
}
