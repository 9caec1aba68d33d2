package handshake

import (
	"crypto/tls"
	"fmt"
)

// The names of the named profiles.
const (
	profileModern       = "modern"
	profileIntermediate = "intermediate"
	profilePQ           = "pq"
	profileCNSA1        = "cnsa1"
	profileCNSA2        = "cnsa2"
	profileFIPS         = "fips"
	profileBSI          = "bsi"
	profileLegacyRSA    = "legacy-rsa"
)

// profileNames lists them in the order of NamedProfiles.
func profileNames() []string {
	return []string{profileModern, profileIntermediate, profilePQ, profileCNSA1, profileCNSA2, profileFIPS, profileBSI, profileLegacyRSA}
}

// ProfileSource says where the demands of a named profile are written, "" for
// any other name.
func ProfileSource(name string) string {
	switch name {
	case profileModern:
		return `Mozilla, SSL Configuration Generator, guidelines 6.0 (May 2026), "modern"`
	case profileIntermediate:
		return `Mozilla, SSL Configuration Generator, guidelines 6.0 (May 2026), "intermediate"`
	case profilePQ:
		return "RFC 10024, its three hybrids alone; the rest as modern"
	case profileCNSA1:
		return "RFC 9151 (CNSA 1.0, April 2022), sections 4 and 5, for TLS 1.2 section 6, for TLS 1.3 section 7"
	case profileCNSA2:
		return "draft-becker-cnsa2-tls-profile-05 (CNSA 2.0, July 2026), section 4; ML-KEM-1024 and ML-DSA-87 also in draft-jenkins-cnsa2-pkix-profile-05, section 3"
	case profileFIPS:
		return "FIPS 140-3 as Go's Cryptographic Module keeps it (crypto/tls, defaults_fips140.go), without CBC; NIST SP 800-52 Revision 2 (August 2019), section 3"
	case profileBSI:
		return "BSI TR-02102-2, sections 3.2 (versions), 3.3 (TLS 1.2), 3.4 (TLS 1.3) and 3.6 (key lengths), with what ends in 2025 left out"
	case profileLegacyRSA:
		return "intermediate, and the RSA key transport of RFC 5246 (August 2008), section 7.4.7.1, with AES-GCM (RFC 5288, section 3)"
	}
	return ""
}

// NamedProfiles returns the profiles that need no configuration. The slices are
// the caller's own.
//
//   - modern and intermediate are Mozilla's: TLS 1.3 alone; and with TLS 1.2. The
//     ML-KEM hybrid comes first in both. What Mozilla says of the server's own
//     certificate (ECDSA alone under modern, its lifetime) is advice here.
//   - pq has modern's demands, and a key exchange that holds against quantum computers:
//     nobody who keeps the bytes can read them later. Certificates are as everywhere.
//   - cnsa1, cnsa2, fips and bsi are what these documents allow. What an engine
//     cannot keep of them, Cannot reports: a profile is never kept by half in
//     silence.
//   - legacy-rsa is for clients that have nothing but RSA key transport, step 4
//     of the classic handshake. It has no forward secrecy.
func NamedProfiles() []Profile {
	groups := func() []uint16 {
		return numbersOf(groupTable[:], "X25519MLKEM768", "X25519", "secp256r1", "secp384r1")
	}
	gcm := func() []uint16 {
		return numbersOf(suiteCodes(),
			"ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-RSA-AES256-GCM-SHA384",
			"ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256")
	}
	mozilla := func() []uint16 {
		return numbersOf(suiteCodes(),
			"ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256",
			"ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-RSA-AES256-GCM-SHA384",
			"ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-RSA-CHACHA20-POLY1305")
	}
	nist := func() []uint16 { return numbersOf(groupTable[:], "secp256r1", "secp384r1", "secp521r1") }
	// sha2 is ECDSA and RSA-PSS with SHA-2.
	sha2 := func(more ...string) []uint16 {
		return numbersOf(schemeTable[:], append([]string{
			"ecdsa_secp256r1_sha256", "ecdsa_secp384r1_sha384", "ecdsa_secp521r1_sha512",
			"rsa_pss_rsae_sha256", "rsa_pss_rsae_sha384", "rsa_pss_rsae_sha512",
		}, more...)...)
	}
	aes13 := func() []uint16 { return []uint16{tls.TLS_AES_256_GCM_SHA384, tls.TLS_AES_128_GCM_SHA256} }
	return []Profile{
		{
			Name: profileModern, MinVersion: versionTLS13, MaxVersion: versionTLS13,
			Groups: groups(), MinRSABits: minRSABits, MinECBits: minECBits,
		},
		{
			Name: profileIntermediate, MinVersion: versionTLS12, MaxVersion: versionTLS13,
			Suites12: mozilla(), Groups: groups(), MinRSABits: minRSABits, MinECBits: minECBits,
		},
		{
			Name: profilePQ, MinVersion: versionTLS13, MaxVersion: versionTLS13,
			Groups:     numbersOf(groupTable[:], "X25519MLKEM768", "SecP256r1MLKEM768", "SecP384r1MLKEM1024"),
			MinRSABits: minRSABits, MinECBits: minECBits,
		},
		{
			Name: profileCNSA1, MinVersion: versionTLS12, MaxVersion: versionTLS13,
			Suites12: numbersOf(suiteCodes(), "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-RSA-AES256-GCM-SHA384"),
			Suites13: []uint16{tls.TLS_AES_256_GCM_SHA384},
			Groups:   numbersOf(groupTable[:], "secp384r1"), Curves: numbersOf(groupTable[:], "secp384r1"),
			Signatures: numbersOf(schemeTable[:], "ecdsa_secp384r1_sha384", "rsa_pss_rsae_sha384", "rsa_pkcs1_sha384"),
			MinRSABits: 3072, MinECBits: 384, RequireEMS: true, Order: OrderServer,
		},
		{
			Name: profileCNSA2, MinVersion: versionTLS13, MaxVersion: versionTLS13,
			Suites13: []uint16{tls.TLS_AES_256_GCM_SHA384},
			Groups:   numbersOf(groupTable[:], "MLKEM1024"),
			// No other scheme than ML-DSA-87's: so no other key has a place in a chain.
			Signatures: numbersOf(schemeTable[:], "mldsa87"),
			MinRSABits: minRSABits, MinECBits: minECBits, Order: OrderServer,
		},
		{
			Name: profileFIPS, MinVersion: versionTLS12, MaxVersion: versionTLS13,
			Suites12: gcm(), Suites13: aes13(),
			// X25519 alone is not approved; beside ML-KEM it may be (SP 800-56C Revision 2, section 2).
			Groups: append(numbersOf(groupTable[:], "X25519MLKEM768", "SecP256r1MLKEM768", "SecP384r1MLKEM1024", "MLKEM1024"), nist()...),
			Curves: nist(),
			// Ed25519 since FIPS 186-5, ML-DSA since FIPS 204.
			Signatures: sha2("mldsa44", "mldsa65", "mldsa87", "ed25519", "rsa_pkcs1_sha256", "rsa_pkcs1_sha384", "rsa_pkcs1_sha512"),
			MinRSABits: minRSABits, MinECBits: minECBits, RequireEMS: true,
		},
		// RSASSA-PKCS1-v1_5 was recommended until 2025, also on certificates.
		{
			Name: profileBSI, MinVersion: versionTLS12, MaxVersion: versionTLS13,
			Suites12: gcm(), Suites13: aes13(), Groups: nist(), Curves: nist(),
			Signatures: sha2(), MinRSABits: 3000, MinECBits: minECBits, RequireEMS: true,
		},
		{
			Name: profileLegacyRSA, MinVersion: versionTLS12, MaxVersion: versionTLS13,
			Suites12: append(mozilla(), keyTransport()...),
			Groups:   groups(), MinRSABits: minRSABits, MinECBits: minECBits,
		},
	}
}

// numbersOf resolves names of our own; a test proves that it does.
func numbersOf(table []code, names ...string) []uint16 {
	out := make([]uint16, len(names))
	for i, name := range names {
		id, err := numberOf(table, "code", name, "", func(uint16) bool { return true })
		if err != nil {
			panic(fmt.Sprintf("handshake: %v", err))
		}
		out[i] = id
	}
	return out
}

// keyTransport lists the CipherSuites of RSA key transport that may be asked
// for: those with AES-GCM.
func keyTransport() []uint16 {
	return []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_RSA_WITH_AES_256_GCM_SHA384}
}

// KeyTransport says whether the profile allows RSA key transport: step 4 of the
// classic handshake, without forward secrecy, and with the RSA key of the
// identity in it (Bleichenbacher's attack works on the key, so no other profile
// may use the same one).
func (p *Profile) KeyTransport() bool {
	for _, id := range p.Suites12 {
		if !IsECDHE(id) && p.MinVersion <= versionTLS12 {
			return true
		}
	}
	return false
}
