package admin

import "time"

// IdentitySource says of an identity where its certificate comes from, how long the one in use
// is good, and what hinders the next one.
type IdentitySource struct {
	Name string `json:"name"` // in the configuration
	// Source is files, signer (files, and another process has the key), acme or spiffe.
	Source string `json:"source"`
	// NotAfter is when the first of the certificates in use ends; left out where there is none yet.
	NotAfter  *time.Time `json:"not_after,omitempty"`
	HoursLeft float64    `json:"hours_left"`      // rounded to a tenth; negative when it has ended, 0 where there is none
	Error     string     `json:"error,omitempty"` // why the source fails; left out where it does not
}
