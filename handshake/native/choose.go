package native

import (
	"crypto/tls"
	"slices"
	"strings"

	"golang.org/x/sys/cpu"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/handshake/native/keys"
	"github.com/sslgate/sslgate/internal/reason"
)

// choice is what a hello and a plan come to.
type choice struct {
	version uint16
	suite   *keys.Suite
	suite12 *keys.Suite12 // the same one, in TLS 1.2 alone
	group   uint16
	cert    *tls.Certificate
	scheme  uint16 // of our CertificateVerify; of ServerKeyExchange in TLS 1.2
	alpn    string // "" for none
}

// choose makes the choice, or says why there is none, with the alert that is wanted.
// Of several certificates one for the name that the client asks for comes first, where
// there is a handshake with it.
func choose(p *handshake.ServerParams, h *handshake.ClientHello) (*choice, *handshake.Error) {
	if named := p.Named(h); named != nil {
		q := *p
		q.Certificates = named
		if c, e := chooseOf(&q, h); e == nil {
			return c, nil
		}
	}
	return chooseOf(p, h)
}

// chooseOf is choose, whatever the certificates' names are.
func chooseOf(p *handshake.ServerParams, h *handshake.ClientHello) (*choice, *handshake.Error) {
	if versionOf(p, h) == tls.VersionTLS12 {
		return chooseOf12(p, h)
	}
	q := *p
	pr := &q.Profile
	pr.MinVersion = max(pr.MinVersion, tls.VersionTLS13)
	pr.Groups = known(pr.Groups, keys.Groups())
	if pr.Suites13 == nil {
		pr.Suites13 = handshake.Suites13()
	} else {
		pr.Suites13 = known(pr.Suites13, handshake.Suites13())
	}
	if e := q.RefusesHello(h); e != nil {
		return nil, e
	}
	c := &choice{version: tls.VersionTLS13, suite: chooseSuite(pr, h), group: chooseGroup(pr, h), alpn: chooseProtocol(p, h)}
	for i := range q.Certificates {
		if scheme := chooseScheme(pr, &q.Certificates[i], h.SignatureSchemes); scheme != 0 {
			c.cert, c.scheme = &q.Certificates[i], scheme
			return c, nil
		}
	}
	if len(h.SignatureSchemes) == 0 && h.PreSharedKey {
		return c, nil // a resumed session signs nothing
	}
	return nil, handshake.Refuse(handshake.StepClientHello, reason.NoCommonSigAlg, "none of our certificates can sign with what the client accepts")
}

// known leaves of a list what is in have.
func known(list, have []uint16) []uint16 {
	return slices.DeleteFunc(slices.Clone(list), func(id uint16) bool { return !slices.Contains(have, id) })
}

// chooseProtocol is the first of our protocols that the client has, "" where there is none.
func chooseProtocol(p *handshake.ServerParams, h *handshake.ClientHello) string {
	for _, name := range p.ALPN {
		if slices.Contains(h.ALPN, name) {
			return name
		}
	}
	return ""
}

// chooseSuite: there is one in common.
func chooseSuite(pr *handshake.Profile, h *handshake.ClientHello) *keys.Suite {
	ours := pr.Suites13
	if pr.Order == handshake.OrderFast {
		ours = fastest(ours, h.CipherSuites)
	}
	id, _ := handshake.FirstCommon(pr.Order, ours, h.CipherSuites, always)
	return keys.SuiteOf(id)
}

// fastest puts AES-GCM first where both sides have hardware for it, else
// ChaCha20-Poly1305. Of the client the first suite that it lists tells.
func fastest(suites, offered []uint16) []uint16 {
	isGCM := func(id uint16) bool { return strings.Contains(handshake.SuiteName(id), "_GCM_") }
	aes := aesHardware()
	for _, id := range offered {
		if handshake.IsTLS13Suite(id) || slices.Contains(keys.Suites12(), id) {
			aes = aes && isGCM(id)
			break
		}
	}
	out := slices.Clone(suites)
	slices.SortStableFunc(out, func(a, b uint16) int {
		switch {
		case isGCM(a) == isGCM(b):
			return 0
		case isGCM(a) == aes:
			return -1
		}
		return 1
	})
	return out
}

// aesHardware says whether crypto/aes and GCM have instructions of the processor.
func aesHardware() bool {
	return cpu.X86.HasAES && cpu.X86.HasPCLMULQDQ || cpu.ARM64.HasAES && cpu.ARM64.HasPMULL ||
		cpu.S390X.HasAES && cpu.S390X.HasAESGCM
}

// chooseGroup: there is one in common. With OrderFast a group against quantum
// computers comes first, then one that the client has sent a share of.
func chooseGroup(pr *handshake.Profile, h *handshake.ClientHello) uint16 {
	if pr.Order == handshake.OrderFast {
		for _, ok := range []func(uint16) bool{
			func(id uint16) bool { return handshake.GroupOnly13(id) && slices.Contains(h.KeyShares, id) },
			handshake.GroupOnly13,
			func(id uint16) bool { return slices.Contains(h.KeyShares, id) },
		} {
			if id, has := handshake.FirstCommon(pr.Order, pr.Groups, h.Groups, ok); has {
				return id
			}
		}
	}
	id, _ := handshake.FirstCommon(pr.Order, pr.Groups, h.Groups, always)
	return id
}

// chooseScheme is what one of our certificates signs with, 0 if it fits no scheme that
// the profile allows and the peer lists.
func chooseScheme(pr *handshake.Profile, c *tls.Certificate, list []uint16) uint16 {
	can, has := pr.SignsWith(tls.VersionTLS13, c), schemes()
	order, ours := pr.Order, pr.Signatures
	if ours == nil || order != handshake.OrderServer {
		order, ours = handshake.OrderClient, has
	}
	id, _ := handshake.FirstCommon(order, ours, list, func(id uint16) bool {
		return slices.Contains(can, tls.SignatureScheme(id)) && slices.Contains(has, id)
	})
	return id
}

func always(uint16) bool { return true }
