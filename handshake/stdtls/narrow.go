package stdtls

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/tls"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/cpu"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/keykind"
	"github.com/sslgate/sslgate/internal/reason"
)

// crypto/tls has no order of TLS 1.2 CipherSuites and groups, and no choice of
// TLS 1.3 CipherSuites. What it does have is a config for one connection: with
// the client's hello at hand, the lists in it are narrowed to the one choice
// that is wanted.

// serverSide is a plan as this engine narrows it for one client.
type serverSide handshake.ServerParams

func (p *serverSide) plan() *handshake.ServerParams { return (*handshake.ServerParams)(p) }

// narrow returns a copy of the Params whose profile and certificate are those of
// this one handshake, or says why no handshake can come of the hello. note is for
// the ledger, "" if there is nothing to say. Of several certificates one for the
// name that the client asks for comes first, where there is a handshake with it.
func (p *serverSide) narrow(h *handshake.ClientHello) (q *serverSide, note string, e *handshake.Error) {
	if named := p.plan().Named(h); named != nil {
		n := *p
		n.Certificates = named
		if q, note, e = n.narrowTo(h); e == nil {
			return q, note, nil
		}
	}
	return p.narrowTo(h)
}

// narrowTo is narrow, whatever the certificates' names are.
func (p *serverSide) narrowTo(h *handshake.ClientHello) (q *serverSide, note string, e *handshake.Error) {
	if e := p.plan().RefusesHello(h); e != nil {
		return nil, "", e
	}
	n := *p
	q = &n
	if p.AnyProtocol && !p.plan().Shares(h) {
		q.ALPN = nil // crypto/tls would refuse
	}
	version := p.version(h)
	if version >= tls.VersionTLS13 {
		if suite := pick13(h.CipherSuites); p.Profile.Suites13 != nil && !slices.Contains(p.Profile.Suites13, suite) {
			what := handshake.SuiteName(suite) + " would be chosen in TLS 1.3, which the profile does not allow"
			if !p.Profile.Cap12 || p.Profile.MinVersion > tls.VersionTLS12 {
				return nil, "", handshake.Refuse(handshake.StepClientHello, reason.NoCommonSuite, what)
			}
			version, note = tls.VersionTLS12, "held at TLS 1.2: "+what
			q.Profile.MaxVersion = tls.VersionTLS12
			if e := q.plan().RefusesHello(h); e != nil {
				e.Detail = note + "; " + e.Detail
				return nil, "", e
			}
		}
	}
	if version < tls.VersionTLS13 && p.Profile.RequireEMS && !h.ExtendedMasterSecret {
		return nil, "", handshake.Refuse(handshake.StepClientHello, reason.NoExtendedMasterSecret, "")
	}
	defer func() {
		if e == nil {
			q.Certificates = q.certificate(h, version)
		}
	}()
	if p.Profile.Order == handshake.OrderFast {
		return q, note, nil
	}
	group, hasGroup := handshake.FirstCommon(p.Profile.Order, p.Profile.Groups, h.Groups, func(id uint16) bool {
		return version >= tls.VersionTLS13 || !handshake.GroupOnly13(id)
	})
	if hasGroup {
		q.Profile.Groups = []uint16{group}
	}
	if version >= tls.VersionTLS13 {
		return q, note, nil
	}
	if suite, ok := handshake.FirstCommon(p.Profile.Order, p.Profile.Suites12, h.CipherSuites, func(id uint16) bool {
		return p.usable12(h, id, hasGroup)
	}); ok {
		q.Profile.Suites12 = []uint16{suite}
	}
	return q, note, nil
}

// Refuses says why no handshake of these parameters can come of a hello, with
// the alert that is wanted; nil if one may. It is what Server asks before it
// sends anything: the profile, our certificate and ALPN. It allocates.
func (*Engine) Refuses(p *handshake.ServerParams, h *handshake.ClientHello) *handshake.Error {
	_, _, e := (*serverSide)(p).narrow(h)
	return e
}

// version is the one that crypto/tls will choose: the highest in common.
func (p *serverSide) version(h *handshake.ClientHello) uint16 {
	if p.Profile.MaxVersion >= tls.VersionTLS13 && slices.Contains(h.SupportedVersions, tls.VersionTLS13) {
		return tls.VersionTLS13
	}
	return tls.VersionTLS12
}

// certificate is the one to show, alone: the first that fits the hello. crypto/tls
// would take none but one for the client's name, and of curves it knows only the one
// that the key exchange was narrowed to.
func (p *serverSide) certificate(h *handshake.ClientHello, version uint16) []tls.Certificate {
	if len(p.Certificates) < 2 {
		return p.Certificates
	}
	_, hasGroup := handshake.FirstCommon(handshake.OrderServer, p.Profile.Groups, h.Groups, func(id uint16) bool { return !handshake.GroupOnly13(id) })
	fits := func(c tls.Certificate) bool {
		if version >= tls.VersionTLS13 {
			return p.plan().CanSign(&c, version, h.SignatureSchemes)
		}
		return slices.ContainsFunc(p.Profile.Suites12, func(suite uint16) bool {
			return slices.Contains(h.CipherSuites, suite) && p.usableBy(&c, h, suite, hasGroup)
		})
	}
	i := max(slices.IndexFunc(p.Certificates, fits), 0) // of what fits nowhere crypto/tls has the alert
	return p.Certificates[i : i+1 : i+1]
}

// usable12 says whether crypto/tls can do a TLS 1.2 CipherSuite with one of
// our certificates.
func (p *serverSide) usable12(h *handshake.ClientHello, suite uint16, hasGroup bool) bool {
	return slices.ContainsFunc(p.Certificates, func(c tls.Certificate) bool { return p.usableBy(&c, h, suite, hasGroup) })
}

// usableBy says whether crypto/tls can do a TLS 1.2 CipherSuite with a certificate.
func (p *serverSide) usableBy(c *tls.Certificate, h *handshake.ClientHello, suite uint16, hasGroup bool) bool {
	key := handshake.KeyOf(c)
	kind := keykind.Of(key)
	isRSA := kind.Type == keykind.RSA
	switch {
	case kind.IsMLDSA():
		return false // draft-ietf-tls-mldsa, section 3
	case !handshake.IsECDHE(suite): // RSA key transport
		_, can := c.PrivateKey.(crypto.Decrypter)
		return isRSA && can
	case !hasGroup, isRSA == strings.HasPrefix(handshake.SuiteName(suite), "TLS_ECDHE_ECDSA_"):
		return false
	}
	if k, ok := key.(*ecdsa.PublicKey); ok && len(h.Groups) > 0 && !slices.Contains(h.Groups, handshake.CurveOf(k)) {
		return false // RFC 8422, section 5.1
	}
	return len(h.SignatureSchemes) == 0 || p.plan().CanSign(c, tls.VersionTLS12, h.SignatureSchemes)
}

// pick13 foretells which TLS 1.3 CipherSuite crypto/tls chooses for a client's
// list: AES-128, AES-256, ChaCha20, or ChaCha20 first unless there is hardware
// for AES-GCM on both sides, which of the client its first known suite tells.
// 0 if there is none in common. If it is wrong, the handshake is refused
// afterwards, for what was negotiated is held against the profile too.
func pick13(offered []uint16) uint16 {
	order := []uint16{tls.TLS_CHACHA20_POLY1305_SHA256, tls.TLS_AES_128_GCM_SHA256, tls.TLS_AES_256_GCM_SHA384}
	if aesHardware() && prefersAES(offered) {
		order = []uint16{tls.TLS_AES_128_GCM_SHA256, tls.TLS_AES_256_GCM_SHA384, tls.TLS_CHACHA20_POLY1305_SHA256}
	}
	for _, id := range order {
		if slices.Contains(offered, id) {
			return id
		}
	}
	return 0
}

func prefersAES(offered []uint16) bool {
	for _, id := range offered {
		if slices.Contains(handshake.Suites13(), id) || implemented(id) {
			return strings.Contains(handshake.SuiteName(id), "_GCM_")
		}
	}
	return false
}

// aesHardware is crypto/tls's hasAESGCMHardwareSupport.
func aesHardware() bool {
	switch runtime.GOARCH {
	case "amd64":
		return cpu.X86.HasAES && cpu.X86.HasPCLMULQDQ && cpu.X86.HasSSE41 && cpu.X86.HasSSSE3
	case "arm64":
		return cpu.ARM64.HasAES && cpu.ARM64.HasPMULL
	case "s390x":
		return cpu.S390X.HasAES && cpu.S390X.HasAESCTR && cpu.S390X.HasAESGCM
	case "ppc64", "ppc64le":
		return true
	}
	return false
}
