package policy

import (
	"encoding/hex"
	"fmt"
	"reflect"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/identity"
	"github.com/sslgate/sslgate/policy/pattern"
)

// MintLike gives params a certificate that is minted for the names of the destination's
// certificate. It changes nothing if the rule's identity is not minted on demand, or if the
// destination was not verified.
func (p *Plan) MintLike(params *handshake.ServerParams, destination *handshake.Peer) {
	minted, ok := p.own.Source.(*identity.Minted)
	if !ok || destination == nil || destination.Chain == nil || destination.Refusal != nil || !destination.Proven {
		return
	}
	params.Identity = minted.Like(destination.Leaf())
}

// destinationLeg compiles what does not depend on TLS with the destination.
func (c *compiler) destinationLeg(at scope, r *rule, spec *DestinationSpec) {
	switch spec.ProxyProtocol {
	case "":
	case "v2":
		r.plan.ProxyV2 = true
	default:
		at.errorf("proxy_protocol", `unknown version %q: "v2" is the only one, for v1 cannot carry who was verified`, spec.ProxyProtocol)
	}
	c.source(at, r, spec)
	switch spec.Dial {
	case "", "verified":
	case "first":
		r.plan.DialFirst = true
		at.warnf("dial", "the destination sees the gateway before the client is verified: whoever reaches the gateway can make it connect")
		if r.plan.ProxyV2 {
			at.errorf("proxy_protocol", "with dial: first the header would be sent before the client is verified: leave one of them out")
		}
	default:
		at.errorf("dial", `unknown order %q: "verified" (the client first) or "first" (the destination first)`, spec.Dial)
	}
}

// source compiles whose address the destination sees.
func (c *compiler) source(at scope, r *rule, spec *DestinationSpec) {
	if spec.Source != "" {
		r.plan.Source, _ = oneOf(at, "source", spec.Source, SourceGateway, SourceClient)
	}
}

// forAction leaves out what the action keeps although it is not terminate.
func forAction(action Action, spec DestinationSpec) DestinationSpec {
	if action == Bypass {
		spec.Source = ""
	}
	spec.ToPort = 0 // has words of its own
	return spec
}

func (s DestinationSpec) isZero() bool { return reflect.ValueOf(s).IsZero() }

// ownIdentity is the certificate that the destination may ask us for.
func (c *compiler) ownIdentity(at scope, r *rule, spec *DestinationSpec, dest *handshake.ClientParams) {
	if spec.Identity == "" {
		return
	}
	id, ok := lookup(at, "identity", "identities", spec.Identity, c.env.Identities)
	switch {
	case !ok:
	case id.Minted():
		at.errorf("identity", "the identity %q makes certificates for servers on demand: it cannot stand for us as a client", spec.Identity)
	case len(id.Certificates()) == 0:
		at.errorf("identity", "the identity %q has no certificate", spec.Identity)
	default:
		dest.Certificates, r.plan.destOwn = id.Certificates(), id
		for _, k := range id.Source.Is() {
			if !k.Client {
				at.warnf("identity", "the identity %q is not for client authentication (extended key usage): most servers will refuse it", spec.Identity)
				break
			}
		}
	}
}

// pins reads the SPKI sums. A list that is there but empty would pin nothing.
func pins(at scope, words []string) [][32]byte {
	if words != nil && len(words) == 0 {
		at.errorf("pins", "the list is empty; it needs at least one entry")
	}
	var out [][32]byte
	for i, s := range words {
		sum, err := hex.DecodeString(pattern.LowerASCII(s))
		if err != nil || len(sum) != 32 {
			at.errorf(fmt.Sprintf("pins[%d]", i), "%q is no pin: the SHA-256 of the SubjectPublicKeyInfo, 64 hexadecimal digits (`sslgate pki show` prints it)", s)
			continue
		}
		out = append(out, [32]byte(sum))
	}
	return out
}

// ledgerMode reads the rule's ledger.
func ledgerMode(at scope, word string) handshake.LedgerMode {
	mode, _ := oneOf(at, "ledger", word, handshake.LedgerFull, handshake.LedgerSteps)
	return mode
}
