package probe

import (
	"crypto/tls"
	"fmt"
	"slices"
	"strings"

	"github.com/sslgate/sslgate/handshake"
)

// against compares what the server accepts with a profile. Everything it accepts must be
// allowed, it must accept something that is allowed, and its chains must meet the
// profile's demands. The order of preference is not judged.
func (r *Result) against(pr handshake.Profile, judge func(shown [][]byte, pr handshake.Profile) (bool, string)) *Fit {
	f := &Fit{Profile: pr.Name, Violations: []string{}}
	bad := func(format string, args ...any) { f.Violations = append(f.Violations, fmt.Sprintf(format, args...)) }
	if r.Incomplete != "" {
		bad("the probe did not end: %s", r.Incomplete)
	}
	r.fitVersions(pr, bad)
	if pr.MinVersion <= tls.VersionTLS12 {
		fitList(r.Suites12, pr.Suites12, "CipherSuite", "CipherSuite of TLS 1.2", r.accepts(tls.VersionTLS12), bad)
	}
	if pr.MaxVersion >= tls.VersionTLS13 {
		allowed := pr.Suites13
		if allowed == nil {
			allowed = suites13()[:3] // those that crypto/tls and Mozilla's list have
		}
		fitList(r.Suites13, allowed, "CipherSuite", "CipherSuite of TLS 1.3", r.accepts(tls.VersionTLS13), bad)
	}
	if r.GroupsNote != "" {
		bad("%s", r.GroupsNote)
	}
	fitList(r.Groups, pr.Groups, "group", "group", len(r.Groups) > 0 || needsGroup(r), bad)
	if pr.RequireEMS && r.Features.WithoutEMS {
		bad("accepts %s without extended_master_secret (RFC 7627)", r.SuitesOf)
	}
	if r.Features.Compression {
		bad("accepts compression (CRIME, CVE-2012-4929)")
	}
	if len(r.Certificates) == 0 {
		bad("no certificate was seen")
	}
	for _, c := range r.Certificates {
		if ok, verdict := judge(c.shown, pr); !ok {
			bad("certificate %s: %s", c.Subject, verdict)
		}
	}
	f.Fits = len(f.Violations) == 0
	return f
}

func (r *Result) fitVersions(pr handshake.Profile, bad func(string, ...any)) {
	common := false
	for _, v := range r.Versions {
		if !v.Accepted {
			continue
		}
		switch {
		case v.ID < pr.MinVersion:
			bad("accepts %s; the least is %s", v.Name.Name, handshake.VersionName(pr.MinVersion))
		case v.ID > pr.MaxVersion:
			bad("accepts %s; the most is %s", v.Name.Name, handshake.VersionName(pr.MaxVersion))
		default:
			common = true
		}
	}
	if !common {
		bad("accepts no version of the profile")
	}
}

// needsGroup says whether a key exchange with a group was seen.
func needsGroup(r *Result) bool {
	return r.accepts(tls.VersionTLS13) ||
		slices.ContainsFunc(r.Suites12, func(n Name) bool { return strings.HasPrefix(n.Name, "TLS_ECDHE_") })
}

// fitList checks that accepted lies within allowed and that at least one of accepted is
// allowed.
func fitList(accepted []Name, allowed []uint16, one, what string, needed bool, bad func(string, ...any)) {
	common := false
	for _, n := range accepted {
		if slices.Contains(allowed, n.ID) {
			common = true
			continue
		}
		bad("accepts %s %s", one, n.Name)
	}
	if needed && !common {
		bad("accepts no %s of the profile", what)
	}
}
