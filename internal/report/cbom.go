package report

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/sslgate/sslgate/handshake"
)

// bom is a cryptography bill of materials: CycloneDX 1.6 (ECMA-424), as far as an inventory
// of TLS fills it in.
type bom struct {
	Schema       string      `json:"$schema"`
	Format       string      `json:"bomFormat"`
	SpecVersion  string      `json:"specVersion"`
	SerialNumber string      `json:"serialNumber"`
	Version      int         `json:"version"`
	Metadata     bomMetadata `json:"metadata"`
	Components   []bomAsset  `json:"components"`
}

type bomMetadata struct {
	Timestamp string `json:"timestamp"`
	Tools     struct {
		Components []bomTool `json:"components"`
	} `json:"tools"`
	Properties []bomProperty `json:"properties,omitempty"`
}

type bomTool struct {
	Type    string `json:"type"`
	Name    string `json:"name"`
	Version string `json:"version,omitempty"`
}

type bomProperty struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

type bomAsset struct {
	Type       string        `json:"type"` // cryptographic-asset
	Ref        string        `json:"bom-ref"`
	Name       string        `json:"name"`
	Crypto     bomCrypto     `json:"cryptoProperties"`
	Properties []bomProperty `json:"properties,omitempty"`
}

type bomCrypto struct {
	AssetType   string          `json:"assetType"` // algorithm, certificate, protocol
	Algorithm   *bomAlgorithm   `json:"algorithmProperties,omitempty"`
	Certificate *bomCertificate `json:"certificateProperties,omitempty"`
	Protocol    *bomProtocol    `json:"protocolProperties,omitempty"`
}

type bomAlgorithm struct {
	Primitive string `json:"primitive"`
	Parameter string `json:"parameterSetIdentifier,omitempty"`
	// Quantum is NIST's category, 0 for none; null where it is not known.
	Quantum *int `json:"nistQuantumSecurityLevel,omitempty"`
}

type bomCertificate struct {
	Subject   string `json:"subjectName,omitempty"`
	Issuer    string `json:"issuerName,omitempty"`
	NotBefore string `json:"notValidBefore,omitempty"`
	NotAfter  string `json:"notValidAfter,omitempty"`
	Format    string `json:"certificateFormat"`
}

type bomProtocol struct {
	Type    string     `json:"type"` // tls
	Version string     `json:"version,omitempty"`
	Suites  []bomSuite `json:"cipherSuites,omitempty"`
}

type bomSuite struct {
	Name        string   `json:"name"`
	Identifiers []string `json:"identifiers,omitempty"` // its two bytes
}

const cryptoAsset = "cryptographic-asset"

// CBOM writes the inventory as a CycloneDX bill of materials. tool is the version of sslgate.
func (v *Inventory) CBOM(w io.Writer, read Read, tool string, now time.Time) error {
	serial, err := uuid()
	if err != nil {
		return err
	}
	b := bom{
		Schema: "http://cyclonedx.org/schema/bom-1.6.schema.json", Format: "CycloneDX", SpecVersion: "1.6", SerialNumber: "urn:uuid:" + serial, Version: 1,
		Components: []bomAsset{},
	}
	b.Metadata.Timestamp = now.UTC().Format(time.RFC3339)
	b.Metadata.Tools.Components = []bomTool{{"application", "sslgate", tool}}
	b.Metadata.Properties = []bomProperty{{"sslgate:flows", fmt.Sprint(read.Flows)}, {"sslgate:from", read.From}, {"sslgate:to", read.To}}
	c := v.Crypto(read)
	b.protocols(v)
	b.groups(&c)
	b.certificates(v.Certificates(read, now).All)
	enc := json.NewEncoder(w)
	enc.SetIndent("", " ")
	return enc.Encode(b)
}

// protocols lists each version with the CipherSuites that were negotiated in it.
func (b *bom) protocols(v *Inventory) {
	flows := map[string]int64{}
	suites := map[string][]string{}
	for _, l := range []*leg{&v.toClient, &v.toDestination, &v.passing} {
		for _, c := range l.pairs.list() {
			version, suite, ok := strings.Cut(c.Name, pairSeparator)
			if !ok || version == plaintext || version == "" {
				continue
			}
			flows[version] += c.Flows
			if !slices.Contains(suites[version], suite) {
				suites[version] = append(suites[version], suite)
			}
		}
	}
	numbers := suiteBytes()
	for _, version := range sortedKeys(flows) {
		p := &bomProtocol{Type: "tls", Version: strings.TrimPrefix(version, "TLS ")}
		slices.Sort(suites[version])
		for _, name := range suites[version] {
			if name != "" {
				p.Suites = append(p.Suites, bomSuite{name, numbers[name]})
			}
		}
		b.add("protocol/"+version, version, bomCrypto{AssetType: "protocol", Protocol: p}, bomProperty{"sslgate:flows", fmt.Sprint(flows[version])})
	}
}

// groups lists the key exchanges.
func (b *bom) groups(c *Crypto) {
	flows := map[string]int64{}
	for _, l := range []*Leg{&c.Client, &c.Destination, &c.Passing.Leg} {
		for _, g := range l.Groups {
			flows[g.Name] += g.Flows
		}
	}
	for _, name := range sortedKeys(flows) {
		if strings.HasPrefix(name, "none") || strings.HasPrefix(name, "others") {
			continue
		}
		b.add("group/"+name, name, bomCrypto{AssetType: "algorithm", Algorithm: exchange(name)}, bomProperty{"sslgate:flows", fmt.Sprint(flows[name])})
	}
}

// exchange says what a group is: a KEM (FIPS 203), a combination of one with Diffie and
// Hellman's, or theirs alone.
func exchange(name string) *bomAlgorithm {
	level := 0
	a := &bomAlgorithm{Primitive: "key-agree", Parameter: name, Quantum: &level}
	before, set, kem := strings.Cut(name, "MLKEM")
	if !kem {
		return a
	}
	a.Primitive, a.Parameter = "kem", set
	if before != "" {
		a.Primitive, a.Parameter = "combiner", name
	}
	switch set { // FIPS 203, section 8
	case "512":
		level = 1
	case "768":
		level = 3
	case "1024":
		level = 5
	}
	return a
}

func (b *bom) certificates(all []Certificate) {
	for i, c := range all {
		name := c.Subject
		if name == "" {
			name = "without a subject"
		}
		properties := []bomProperty{{"sslgate:of", c.Of}, {"sslgate:key", c.Key}, {"sslgate:spki", c.SPKI}, {"sslgate:serial", c.Serial}, {"sslgate:flows", fmt.Sprint(c.Flows)}, {"sslgate:proven", fmt.Sprint(c.Proven)}}
		for _, n := range c.SANs {
			properties = append(properties, bomProperty{"sslgate:san", n})
		}
		for _, p := range c.Places {
			properties = append(properties, bomProperty{"sslgate:place", p})
		}
		b.add(fmt.Sprintf("certificate/%d", i+1), name, bomCrypto{AssetType: "certificate", Certificate: &bomCertificate{
			Subject: c.Subject, Issuer: c.Issuer, NotBefore: moment(c.NotBefore), NotAfter: moment(c.NotAfter), Format: "X.509",
		}}, properties...)
	}
}

func (b *bom) add(ref, name string, c bomCrypto, properties ...bomProperty) {
	b.Components = append(b.Components, bomAsset{Type: cryptoAsset, Ref: "sslgate/" + ref, Name: name, Crypto: c, Properties: properties})
}

// moment is a time as the schema wants it, "" for what is none.
func moment(s string) string {
	at, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return ""
	}
	return at.UTC().Format(time.RFC3339)
}

// suiteBytes are the two numbers of each CipherSuite that has a name.
func suiteBytes() map[string][]string {
	out := map[string][]string{}
	for id := range 1 << 16 {
		out[handshake.SuiteName(uint16(id))] = []string{fmt.Sprintf("0x%02X", id>>8), fmt.Sprintf("0x%02X", id&0xff)}
	}
	return out
}

func sortedKeys(m map[string]int64) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// uuid is a random one (RFC 9562, section 5.4).
func uuid() (string, error) {
	var b [16]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", err
	}
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:]), nil
}
