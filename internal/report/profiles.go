package report

import (
	"slices"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/audit"
	"github.com/sslgate/sslgate/internal/reason"
)

// judgement is what becomes of one hello under each profile.
type judgement struct {
	known  bool
	fails  []reason.Code // by the number of the profile; "" where it would do
	newest string        // version that is offered, by name
	mlkem  bool          // a group with ML-KEM is offered
}

// judges holds hellos against the named profiles. Clients send the same few hellos again
// and again, so what was judged is remembered.
type judges struct {
	profiles []handshake.Profile
	seen     map[string]*judgement
	most     int // that are remembered
}

func newJudges(most int) *judges {
	return &judges{profiles: handshake.NamedProfiles(), seen: map[string]*judgement{}, most: most}
}

// of judges what a record has of a hello. It says nothing of certificates, and nothing of
// application protocols, which are no part of a profile.
func (j *judges) of(h *audit.ParsedHello) *judgement {
	if h == nil {
		return &judgement{}
	}
	key := h.Versions + "/" + h.Suites + "/" + h.Groups + "/" + h.Extensions
	if known := j.seen[key]; known != nil {
		return known
	}
	out := &judgement{fails: make([]reason.Code, len(j.profiles))}
	hello, err := h.ClientHello("", nil)
	if err == nil {
		out.known = true
		for i, p := range j.profiles {
			out.fails[i] = fails(hello, p)
		}
		out.newest = newest(hello.SupportedVersions)
		out.mlkem = slices.ContainsFunc(hello.Groups, handshake.GroupOnly13)
	}
	if len(key) > maxJudgedKey {
		return out
	}
	if len(j.seen) >= j.most {
		clear(j.seen)
	}
	j.seen[key] = out
	return out
}

// fails is why a hello fails at a profile, "" where it does not.
func fails(h *handshake.ClientHello, p handshake.Profile) reason.Code {
	if e := h.Acceptable(p); e != nil {
		return e.Reason
	}
	if p.RequireEMS && !h.ExtendedMasterSecret && !slices.Contains(h.SupportedVersions, 0x0304) {
		return reason.NoExtendedMasterSecret
	}
	return ""
}

func newest(versions []uint16) string {
	highest := uint16(0)
	for _, v := range versions {
		if v>>8 == 3 { // no GREASE
			highest = max(highest, v)
		}
	}
	if highest == 0 {
		return "none that is known"
	}
	return handshake.VersionName(highest)
}
