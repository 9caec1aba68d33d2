// Package admin is the gateway's admin interface: a unix socket, mode 0600, and optionally a
// loopback listener, both speaking HTTP with JSON bodies. Paths begin with /v1; within a
// version, fields are only ever added. openapi.json lists all of it, docs/admin.md explains it.
//
// routes.go lists the requests, hub.go remembers finished flows, board.go makes the content
// of the web page, guard.go decides who may ask.
package admin

import (
	"context"
	"encoding/json"
	"time"
)

// Status is GET /v1/status.
type Status struct {
	Version     string        `json:"version,omitempty"`
	Started     time.Time     `json:"started"`
	Config      string        `json:"config"`
	TUN         string        `json:"tun"`
	Offload     bool          `json:"offload"`
	Queues      int           `json:"queues"`                // of the TUN
	LocalOut    bool          `json:"local_out"`             // connections of programs of this host are captured
	Policy      string        `json:"policy"`                // digest
	Snapshot    string        `json:"snapshot"`              // digest of the configuration and every file it names, as they were loaded
	TicketKeys  []string      `json:"ticket_keys,omitempty"` // IDs of the keys of tickets.keys, the one that seals first: gateways with the same IDs open each other's tickets
	CRLs        string        `json:"crls,omitempty"`        // digest of the revocation lists in force; left out where nothing is checked
	Rules       int           `json:"rules"`
	Flows       int           `json:"flows"` // live
	FlowsMax    int           `json:"flows_max"`
	Handshakes  int           `json:"handshakes"`         // with clients, in flight
	Waiting     int           `json:"handshakes_waiting"` // for their turn
	Refused     uint64        `json:"handshakes_refused"` // because too many waited, or too long
	Draining    bool          `json:"draining"`
	Slot        string        `json:"slot"`                  // a or b: the one of two places for a gateway that it has
	HandedOver  bool          `json:"handed_over,omitempty"` // another process has taken over; this one ends with its last flow
	Awaits      bool          `json:"awaits,omitempty"`      // the process that had taken over has died; the next one may take over without being told to
	Reloads     int           `json:"reloads"`               // that were taken
	LastReload  *ReloadResult `json:"last_reload,omitempty"`
	SYNsPassed  uint64        `json:"syns_passed"`
	SYNsRefused uint64        `json:"syns_refused"`
	BadPackets  uint64        `json:"bad_packets"`
	Repairs     uint64        `json:"repairs"` // of rules, routes and nft table that others changed
	// Dropped is what the guard dropped or rejected, by reason, without reasons that have
	// none. It is empty with tun.attach, as somebody else does the steering then.
	Dropped []Dropped `json:"dropped"`
	Shadow  *Shadow   `json:"shadow,omitempty"`
	// Revocation has each authority by its name, those with revocation off too.
	Revocation []AuthorityRevocation `json:"revocation"`
	// Identities has each identity by its name, but for those whose certificates are made on demand.
	Identities []IdentitySource `json:"identities"`
	Memory     *Memory          `json:"memory,omitempty"`
	Fleet      *Fleet           `json:"fleet,omitempty"` // left out where the gateway is in none
}

// Dropped is what the guard dropped for one reason.
type Dropped struct {
	Reason  string `json:"reason"` // one of docs/metrics.md
	Packets uint64 `json:"packets"`
	Cause   string `json:"cause"` // the likely one, and what to do
}

// Memory is the process's use of memory, compared with limits.memory.
type Memory struct {
	Ceiling  int64  `json:"ceiling,omitempty"` // bytes; left out where there is none, with the rest but parts
	InUse    int64  `json:"in_use,omitempty"`  // bytes that no garbage collection would give back
	Resident int64  `json:"resident,omitempty"`
	Level    string `json:"level,omitempty"`   // calm, tight (buffers shrink), full (no flow is taken), over (flows are ended), flood (nothing is taken in)
	Refused  uint64 `json:"refused,omitempty"` // flows
	Shed     uint64 `json:"shed,omitempty"`    // flows ended
	// Held is what flows hold now, in bytes: socket buffers, relay and record buffers, and
	// the flows themselves. It is in InUse too.
	Held uint64 `json:"held_by_flows"`
	// Loaned is borrowed for what is being loaded. Unmeasured is what was lent since the last
	// garbage collection, given back or not, and is not in InUse yet. Both in bytes.
	Loaned        int64  `json:"loaned,omitempty"`
	Unmeasured    int64  `json:"loans_unmeasured,omitempty"`
	LoansRefused  uint64 `json:"loans_refused,omitempty"`
	LoansRecalled uint64 `json:"loans_recalled,omitempty"` // called back before a flow was ended
	// Parts in bytes; they overlap, as socket buffers are on the heap.
	Parts map[string]uint64 `json:"parts"`
}

// AuthorityRevocation is the state of one authority's revocation data.
type AuthorityRevocation struct {
	Authority string `json:"authority"`
	Mode      string `json:"mode"` // hard, soft or off
	// State is the worst state of its lists: fresh, late (two thirds of a list's life are
	// over), missing (in use, but its source no longer has it) or expired. A source without
	// any list counts as expired. Left out if no list is configured.
	State string `json:"state,omitempty"`
	// NextUpdate is when the first of its lists expires; left out without a list.
	NextUpdate *time.Time `json:"next_update,omitempty"`
	Lists      int        `json:"lists"`
	Entries    int        `json:"entries"` // serial numbers in them
	// Errors are why the last load of a source, or the last query to the responder, failed.
	// Each begins with its URL or path.
	Errors []string `json:"errors,omitempty"`
	OCSP   string   `json:"ocsp,omitempty"` // URL of the responder

	// Answers about certificates since the start.
	Good           uint64 `json:"good"`
	Revoked        uint64 `json:"revoked"`
	UnknownRefused uint64 `json:"unknown_refused"` // hard, and nothing fresh was known
	UnknownAllowed uint64 `json:"unknown_allowed"` // soft, and nothing fresh was known
	OCSPAsked      uint64 `json:"ocsp_asked"`
	OCSPFailures   uint64 `json:"ocsp_failures"`
}

// Shadow is what a second policy would have decided differently.
type Shadow struct {
	Policy      string       `json:"policy"` // digest
	Flows       uint64       `json:"flows"`  // decided by both
	Differences []Difference `json:"differences"`
	Rest        uint64       `json:"rest"` // flows that differ in ways beyond the bound of the list
}

// Difference is one way in which the shadow differs. Kinds are those of the
// audit record's field shadow.
type Difference struct {
	Kind           string `json:"kind"`
	Flows          uint64 `json:"flows"`
	EnforcedRule   string `json:"enforced_rule,omitempty"` // left out for the default
	EnforcedReason string `json:"enforced_reason,omitempty"`
	ShadowRule     string `json:"shadow_rule,omitempty"`
	ShadowReason   string `json:"shadow_reason,omitempty"`
}

// Health is GET /v1/health: any answer means alive.
type Health struct {
	Alive bool `json:"alive"`
}

// Readiness is GET /v1/ready: 200 if flows are taken and nothing is known to be wrong,
// else 503.
type Readiness struct {
	Ready   bool     `json:"ready"`
	Reasons []string `json:"reasons"` // why not; also warnings while ready
	Causes  []Cause  `json:"causes"`  // those of the reasons why it is not ready, with their kinds
}

// Version is GET /v1/version.
type Version struct {
	Version string `json:"version"`
	API     int    `json:"api"` // 1
}

// ReloadResult is the answer to POST /v1/reload: 200 if the new configuration was taken, 409
// if the old one stays.
type ReloadResult struct {
	At     time.Time `json:"at"`
	Before string    `json:"before"` // digest of the policy before
	Policy string    `json:"policy"` // digest of the policy now
	// The digests of the configuration and every file it names, before and now.
	SnapshotBefore string `json:"snapshot_before"`
	Snapshot       string `json:"snapshot"`
	// The digests of the revocation lists in force before and now.
	CRLsBefore string `json:"crls_before,omitempty"`
	CRLs       string `json:"crls,omitempty"`
	// The certificates of identities and authorities that this reload has changed, at most 64,
	// and the number of the others.
	Certificates     []CertificateChange `json:"certificates,omitempty"`
	CertificatesMore int                 `json:"certificates_more,omitempty"`

	Ended int    `json:"ended"` // live flows that are no longer allowed
	Error string `json:"error,omitempty"`
	// The keys that have changed and that no reload can change, for which the old one stays.
	NeedsRestart []string `json:"needs_restart,omitempty"`
	Findings     []string `json:"findings,omitempty"` // with file:line:column
}

// CertificateChange is a certificate that another one has taken the place of; without Old one
// that came, without New one that went.
type CertificateChange struct {
	Kind string       `json:"kind"` // identity or authority
	Name string       `json:"name"` // in the configuration
	Old  *Certificate `json:"old,omitempty"`
	New  *Certificate `json:"new,omitempty"`
}

// Flow is a live flow, in GET /v1/flows. Texts of peers are not escaped: escape them before
// showing them.
type Flow struct {
	ID          string    `json:"id"`
	Since       time.Time `json:"since"`
	Age         string    `json:"age"`
	Client      string    `json:"client"`
	Destination string    `json:"destination"`
	SNI         string    `json:"sni,omitempty"`
	Rule        string    `json:"rule,omitempty"`
	Action      string    `json:"action"`
	Reason      string    `json:"reason,omitempty"` // "" while it is not let through yet
	Step        int       `json:"step"`
	Relaying    bool      `json:"relaying"` // data may flow
	Subject     string    `json:"subject,omitempty"`
	SANs        []string  `json:"sans,omitempty"`
	BytesUp     int64     `json:"bytes_up"`
	BytesDown   int64     `json:"bytes_down"`
}

// FlowDetail is GET /v1/flows/{id}: a live flow, or a finished one that is
// still remembered.
type FlowDetail struct {
	// Flow is set while it is live, Record once it has ended; the fields of
	// Record are those of the audit record.
	Flow   *Flow           `json:"flow,omitempty"`
	Record json.RawMessage `json:"record,omitempty"`
	// The ledgers of a live flow so far, as they will stand in its record.
	Ledger            []LedgerEntry `json:"ledger,omitempty"`
	DestinationLedger []LedgerEntry `json:"destination_ledger,omitempty"`
	// Picture is what happened, drawn in 80 columns of escaped text.
	Picture string `json:"picture"`
}

// LedgerEntry is a message, an alert or a decision in one of the handshakes.
// The fields are those of the audit record; texts of peers are escaped.
type LedgerEntry struct {
	Step    int    `json:"step"`
	From    string `json:"from"` // us or peer
	Message string `json:"message,omitempty"`
	AtUS    int64  `json:"at_us"` // microseconds since the flow began
	Size    int    `json:"size,omitempty"`
	Facts   string `json:"facts,omitempty"`
	Alert   string `json:"alert,omitempty"`
}

// TraceLine is one line of GET /v1/trace. A line without a record only says
// that the stream is alive.
type TraceLine struct {
	// Lost counts the matching flows since the last line that were left out
	// because the reader is too slow.
	Lost   uint64          `json:"lost,omitempty"`
	Record json.RawMessage `json:"record,omitempty"`
}

// Policy is GET /v1/policy.
type Policy struct {
	Digest string `json:"digest"`
	Mode   string `json:"mode"`
	Rules  []Rule `json:"rules"`
	// More counts the rules that limit left out.
	More int `json:"more,omitempty"`
	// Default counts the flows that no rule fitted.
	Default Hits `json:"default"`
	// Would counts flows that would have been refused if the rule were enforced, the most
	// frequent first.
	Would []Would `json:"would"`
}

// Would counts the flows that one observed rule would have refused for one reason. Its fields
// are those of the audit record. With others it stands for all rules that have no entry of
// their own.
type Would struct {
	Rule   string `json:"would_rule,omitempty"` // left out for the default
	Others bool   `json:"others,omitempty"`
	Reason string `json:"would_reason"`
	Flows  uint64 `json:"flows"`
}

// Rule is one rule, in the order they are asked.
type Rule struct {
	Name   string         `json:"name"`
	Action string         `json:"action"`
	Mode   string         `json:"mode"`
	Spec   map[string]any `json:"spec"` // as it is written, without what is not set
	Hits   Hits           `json:"hits"`
}

// Hits counts finished flows since the start, or since a reload brought the
// rule.
type Hits struct {
	Allowed uint64 `json:"allowed"`
	Refused uint64 `json:"refused"`
	Failed  uint64 `json:"failed"`
	// Would counts those that an observed rule or policy would have refused but let go on.
	// They are also counted in the other fields.
	Would uint64 `json:"would"`
}

// Certificate is an entry of GET /v1/certificates: those that sslgate shows,
// and the anchors it trusts. Keys are never part of it.
type Certificate struct {
	Kind      string    `json:"kind"` // identity or authority
	Name      string    `json:"name"` // in the configuration
	File      string    `json:"file"`
	Subject   string    `json:"subject"`
	Issuer    string    `json:"issuer"`
	Serial    string    `json:"serial"`
	SANs      []string  `json:"sans,omitempty"`
	SPKI      string    `json:"spki"` // lower-case hex SHA-256
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
	DaysLeft  float64   `json:"days_left"` // negative when it has ended
}

// RevocationList is an entry of GET /v1/revocation: a CRL in use, or a source
// that has not given one.
type RevocationList struct {
	Authority  string    `json:"authority"` // in the configuration
	Mode       string    `json:"mode"`      // hard, soft or off
	Source     string    `json:"source"`
	Issuer     string    `json:"issuer,omitempty"`
	Number     string    `json:"number,omitempty"`
	ThisUpdate time.Time `json:"this_update"`
	NextUpdate time.Time `json:"next_update"`
	Entries    int       `json:"entries"`
	// State is fresh, late, missing (in use, but its source no longer has it) or expired.
	State string `json:"state"`
	Error string `json:"error,omitempty"`
}

// LogLevel is GET and PUT /v1/log-level.
type LogLevel struct {
	Level string `json:"level"` // debug, info, warn or error
}

// Drain is the answer to POST /v1/drain.
type Drain struct {
	Draining bool      `json:"draining"`
	Deadline time.Time `json:"deadline"` // live flows are ended then, and the gateway stops
}

// Ended is the answer to POST /v1/flows/{id}/end.
type Ended struct {
	Ended string `json:"ended"`
}

// Failure is the body of every error answer, unless documented otherwise.
type Failure struct {
	Error string `json:"error"`
}

// Live is a sample of the live flows.
type Live struct {
	// Steps counts the flows that are in their handshake by the step they
	// have reached, 0 to 9.
	Steps    [10]int
	Relaying int
	// Handshakes and Relays are the newest of both kinds, newest first.
	Handshakes, Relays []Flow
}

// Backend is what the admin interface serves. Its methods are called by many goroutines at
// the same time.
type Backend interface {
	// HandOver agrees to hand over to the process that has made the offer, or says why not. If
	// the offer is to look only, it gives the terms without keys, and changes nothing.
	HandOver(Offer) (Terms, HandOver, error)

	Status() Status
	Readiness() Readiness
	Reload(ctx context.Context) (*ReloadResult, error)
	// Flows lists at most limit live flows that pass the filter, 0 is all, and
	// says how many pass it.
	Flows(f Filter, limit int) (flows []Flow, all int)
	// Flow is one live flow with its picture.
	Flow(id string) (*FlowDetail, bool)
	EndFlow(id string) error
	// Live samples at most n flows of each kind.
	Live(n int) Live
	// Config is the configuration as loaded, defaults filled in. It names key
	// files and never holds what is in them.
	Config() map[string]any
	// Policy has at most limit rules, those with the most flows; 0 is all.
	Policy(limit int) Policy
	Certificates() []Certificate
	Revocation() []RevocationList
	LogLevel() string
	SetLogLevel(string) error
	// Drain begins what SIGTERM does and returns the deadline.
	Drain() time.Time
}
