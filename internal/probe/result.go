package probe

import (
	"time"

	"github.com/sslgate/sslgate/handshake"
)

// Result is what the probe found out. Names from the server are escaped. The JSON names
// are stable; registry numbers have their IANA names.
type Result struct {
	Address     string        `json:"address"`
	ServerName  string        `json:"server_name,omitempty"`
	Connections int           `json:"connections"`
	Took        time.Duration `json:"took_ns"`
	// Incomplete says what stopped the probe before its end.
	Incomplete string `json:"incomplete,omitempty"`

	Versions     []Version     `json:"versions"`
	Suites13     []Name        `json:"tls13_suites"`
	Order13      Order         `json:"tls13_order,omitempty"`
	Suites12     []Name        `json:"tls12_suites"`
	Order12      Order         `json:"tls12_order,omitempty"`
	SuitesOf     string        `json:"tls12_suites_of,omitempty"` // the version that Suites12 was asked with
	Groups       []Name        `json:"groups"`
	GroupsNote   string        `json:"groups_note,omitempty"`
	DHBits       int           `json:"dhe_bits,omitempty"` // the smallest prime of a DHE CipherSuite
	Certificates []Certificate `json:"certificates"`
	Requests     []Request     `json:"certificate_requests"`
	Resumption   []Resumption  `json:"resumption"`
	Features     Features      `json:"features"`
	Refusals     []Refusal     `json:"refusals"`
	Fit          *Fit          `json:"fit,omitempty"`

	// Agreed is the handshake that was drawn, nil if it did not end well.
	Agreed *Agreed `json:"agreed,omitempty"`
	// Ended is why that handshake failed, or why the gateway would have ended it; "" if
	// it succeeded.
	Ended string `json:"ended,omitempty"`
	// Entries is its ledger: the nine steps with their messages.
	Entries []handshake.Entry `json:"-"`
	Lost    int               `json:"-"`
	// Picture is the drawing of Entries.
	Picture string `json:"picture"`
}

// Name is a registry number with its name.
type Name struct {
	ID   uint16 `json:"id"`
	Name string `json:"name"`
}

// Version is one protocol version and whether it was accepted.
type Version struct {
	Name
	Accepted bool   `json:"accepted"`
	Said     string `json:"said,omitempty"` // the refusal: an alert, or closed
}

// Order says whose preference decides.
type Order string

// The orders. "" is not known: fewer than two to choose from.
const (
	OrderServer Order = "server"
	OrderClient Order = "client"
)

// Agreed is what a handshake agreed on.
type Agreed struct {
	Version string `json:"version"`
	Suite   string `json:"suite"`
	Group   string `json:"group,omitempty"`
}

// Certificate is a chain that the server showed, with the verdict.
type Certificate struct {
	Subject  string    `json:"subject"`
	Issuer   string    `json:"issuer"`
	Names    []string  `json:"names"`
	Key      string    `json:"key"`
	Signed   string    `json:"signed_with"`
	NotAfter time.Time `json:"not_after"`
	SPKI     string    `json:"spki"` // hex SHA-256
	Chain    []string  `json:"chain"`
	Trusted  bool      `json:"trusted"`
	Verdict  string    `json:"verdict"`

	shown [][]byte
}

// Request is the request for a client certificate in one version.
type Request struct {
	Version string   `json:"version"`
	Types   []string `json:"types,omitempty"` // TLS 1.2 and before
	Schemes []string `json:"signature_algorithms,omitempty"`
	CANames []string `json:"ca_names"`
	Bytes   int      `json:"ca_names_bytes"`
	// Answer says how the server reacted to our certificate, or to "no certificate".
	Answer string `json:"answer,omitempty"`
}

// Resumption is the result of an attempt to resume.
type Resumption struct {
	Version string `json:"version"`
	Ticket  bool   `json:"ticket"` // one was given
	Resumed bool   `json:"resumed"`
	Note    string `json:"note,omitempty"`
}

// Features are what a TLS 1.2 ServerHello shows.
type Features struct {
	Asked                bool `json:"asked"` // TLS 1.2 or below was answered
	ExtendedMasterSecret bool `json:"extended_master_secret"`
	WithoutEMS           bool `json:"without_extended_master_secret"` // it is not demanded
	SecureRenegotiation  bool `json:"secure_renegotiation"`
	SessionID            bool `json:"session_id"`
	Compression          bool `json:"compression"` // DEFLATE was chosen: CRIME
	Staple               bool `json:"ocsp_staple"`
}

// Refusal is one wrong question and the server's answer.
type Refusal struct {
	Question string `json:"question"`
	Said     string `json:"said"`
}

// Fit is the comparison with a profile.
type Fit struct {
	Profile    string   `json:"profile"`
	Fits       bool     `json:"fits"`
	Violations []string `json:"violations"`
}

func suiteNames(ids []uint16) []Name { return names(ids, handshake.SuiteName) }

func names(ids []uint16, name func(uint16) string) []Name {
	out := make([]Name, len(ids))
	for i, id := range ids {
		out[i] = Name{id, name(id)}
	}
	return out
}
