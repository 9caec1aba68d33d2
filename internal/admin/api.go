// Package admin is the gateway's own door: a unix socket, mode 0600, that
// speaks HTTP with JSON bodies. Paths begin with /v1; fields are only ever
// added within a version.
package admin

import "time"

// Status is GET /v1/status.
type Status struct {
	Version     string        `json:"version,omitempty"`
	Started     time.Time     `json:"started"`
	Config      string        `json:"config"`
	TUN         string        `json:"tun"`
	Offload     bool          `json:"offload"`
	Policy      string        `json:"policy"` // digest
	Rules       int           `json:"rules"`
	Flows       int           `json:"flows"` // live
	FlowsMax    int           `json:"flows_max"`
	Draining    bool          `json:"draining"`
	Reloads     int           `json:"reloads"` // that were taken
	LastReload  *ReloadResult `json:"last_reload,omitempty"`
	SYNsPassed  uint64        `json:"syns_passed"`
	SYNsRefused uint64        `json:"syns_refused"`
	BadPackets  uint64        `json:"bad_packets"`
	Repairs     uint64        `json:"repairs"` // of rules, routes and nft table that others changed
}

// ReloadResult is the answer to POST /v1/reload: 200 where it was taken, 409
// where the old configuration stays.
type ReloadResult struct {
	At       time.Time `json:"at"`
	Before   string    `json:"before"` // digest of the policy before
	Policy   string    `json:"policy"` // digest of the policy now
	Ended    int       `json:"ended"`  // live flows that are no longer allowed
	Error    string    `json:"error,omitempty"`
	Findings []string  `json:"findings,omitempty"` // with file:line:column
}

// Flow is a live flow, in GET /v1/flows. Texts of peers are as they came:
// escape them where they are shown.
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
	Subject     string    `json:"subject,omitempty"`
	SANs        []string  `json:"sans,omitempty"`
	BytesUp     int64     `json:"bytes_up"`
	BytesDown   int64     `json:"bytes_down"`
}

// Backend is what the door leads to.
type Backend interface {
	Status() Status
	Reload() (*ReloadResult, error)
	Flows() []Flow
	EndFlow(id string) error
}
