package handshake

// Profile is a resolved set of cryptographic demands. The zero value allows
// nothing.
type Profile struct {
	Name       string
	MinVersion uint16 // tls.VersionTLS12 ...
	MaxVersion uint16
	Suites12   []uint16 // TLS 1.2 CipherSuites in our order of preference
	Suites13   []uint16 // TLS 1.3 CipherSuites demanded; nil means all three, see Engine.Cannot
	Groups     []uint16 // key exchange groups in our order of preference
	MinRSABits int      // of every key in the peer's chain
	MinECBits  int
}

// ProfileSpec is how a profile is written in the configuration.
type ProfileSpec struct {
	// Base is the named profile to start from: modern or intermediate (Mozilla's names).
	Base string `yaml:"base"`
	// Versions allowed, of "1.2" and "1.3". Default: those of the base.
	Versions []string `yaml:"versions"`
	// TLS12 is the list of TLS 1.2 CipherSuites allowed, by their IANA or OpenSSL names. Default: those of the base.
	TLS12 []string `yaml:"tls12"`
	// TLS13 is the list of TLS 1.3 CipherSuites allowed. Go's crypto/tls cannot restrict them, so any list but all three is refused by `check`.
	TLS13 []string `yaml:"tls13"`
	// Groups is the list of key exchange groups allowed, for example X25519MLKEM768. Default: those of the base.
	Groups []string `yaml:"groups"`
	// MinRSABits is the smallest RSA key accepted anywhere in a peer's chain, in bits. Default 2048; less is refused.
	MinRSABits int `yaml:"min_rsa_bits"`
}
