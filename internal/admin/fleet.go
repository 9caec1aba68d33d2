package admin

import "time"

// Fleet is how the gateway stands in its fleet. An epoch of 0 is none.
type Fleet struct {
	Name      string    `json:"name"`
	Site      string    `json:"site"`
	Gateway   string    `json:"gateway"`
	Root      int64     `json:"root"`                // version of the root that counts
	Epoch     int64     `json:"epoch"`               // in force
	Seen      int64     `json:"seen"`                // the highest
	Offered   int64     `json:"offered"`             // what the source had last, with good signatures
	Pending   int64     `json:"pending"`             // waits for a restart
	Contact   time.Time `json:"contact"`             // when the source last had what is in force, or newer
	Fresh     bool      `json:"fresh"`               // that is less than 90 s ago, and the bundle in force has not ended
	Refuses   bool      `json:"refuses"`             // new flows are refused, as fleet.stale says
	Follows   bool      `json:"follows"`             // another process of this gateway writes fleet.state
	Withdrawn string    `json:"withdrawn,omitempty"` // why the bundle in force should not be any more
	// Refused is what the source has and was refused; left out where that is nothing.
	Refused string       `json:"refused,omitempty"`
	Revoked FleetRevoked `json:"revoked"`
}

// FleetRevoked is the fleet's list of what is revoked besides CRLs.
type FleetRevoked struct {
	Number  int64  `json:"number"` // in force; 0: none
	Entries int    `json:"entries"`
	Named   int64  `json:"named"`             // what there was when the newest bundle was signed; 0: it says nothing
	Behind  string `json:"behind,omitempty"`  // what this gateway lacks of that
	Full    string `json:"full,omitempty"`    // that there is little room left
	Refused string `json:"refused,omitempty"` // the list that the source has, and why
}
