package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/reason"
	"github.com/sslgate/sslgate/internal/trial"
	"github.com/sslgate/sslgate/policy"
)

// auditLine is what explain needs of a record of the audit log.
type auditLine struct {
	ID          string   `json:"id"`
	Time        string   `json:"time"`
	Client      string   `json:"client"`
	Destination string   `json:"destination"`
	SNI         string   `json:"sni,omitempty"`
	ALPN        []string `json:"alpn_offered,omitempty"`
	Policy      string   `json:"policy,omitempty"`
	Rule        string   `json:"rule,omitempty"`
	Verdict     string   `json:"verdict"`
	Reason      string   `json:"reason"`
	Detail      string   `json:"detail,omitempty"`
	Step        int      `json:"step"`
	Leg         *struct {
		Version string `json:"version"`
	} `json:"client_leg,omitempty"`
	Peer *struct {
		Subject string   `json:"subject"`
		SANs    []string `json:"sans,omitempty"`
	} `json:"peer,omitempty"`
}

// maxAuditLine bounds a line of the log in bytes: a record with its ledger is
// a few KiB.
const maxAuditLine = 1 << 20

// findFlow looks for the record of a flow. Of several the last one counts. A
// line that is no record is passed over, and said if nothing is found: the
// last line of a log is cut short while it is written.
func findFlow(path, id string) (*auditLine, error) {
	fh, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer fh.Close()
	found, bad, badLine, err := scanFlow(fh, id)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s: %w", path, err)
	case found == nil && bad > 0:
		return nil, fmt.Errorf("%s has no flow %q; %d lines are no records, the first is line %d", path, id, bad, badLine)
	case found == nil:
		return nil, fmt.Errorf("%s has no flow %q", path, id)
	}
	return found, nil
}

func scanFlow(r io.Reader, id string) (found *auditLine, bad, firstBad int, err error) {
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 64<<10), maxAuditLine)
	for n := 1; s.Scan(); n++ {
		// Most lines are of other flows and need not be read.
		if !strings.Contains(s.Text(), id) {
			continue
		}
		var line auditLine
		if err := json.Unmarshal(s.Bytes(), &line); err != nil {
			if bad++; bad == 1 {
				firstBad = n
			}
			continue
		}
		if line.ID == id {
			found = &line
		}
	}
	if errors.Is(s.Err(), bufio.ErrTooLong) {
		return nil, 0, 0, errors.New("a line is longer than 1 MiB: this is no audit log")
	}
	return found, bad, firstBad, s.Err()
}

// settle ends an explanation at the certificate, of which the log has the
// names alone: the verdict is the one that was recorded.
func (a *auditLine) settle(e *policy.Explanation) {
	for i, d := range e.Demands {
		if d.Condition == "certificate" {
			e.Demands = e.Demands[:i+1]
			e.Demands[i].Fits = true
			e.Demands[i].Seen = strings.Join(append([]string{a.Peer.Subject}, a.Peer.SANs...), ", ") +
				"; the log has no more of it: give the certificate with --cert to have it judged"
			break
		}
	}
	v := policy.Verdict{Rule: a.Rule, Reason: reason.Code(a.Reason), Detail: a.Detail, SetID: a.Policy, Alert: handshake.AlertOf(reason.Code(a.Reason))}
	if a.Verdict == reason.Allowed.String() {
		v.Action, v.Plan = policy.Terminate, e.Verdict.Plan
	}
	e.Verdict, e.Change = v, nil
	e.Reason, _ = reason.Lookup(v.Reason)
}

// facts are those that the record has: the certificate is not in it, and of
// the hello only what decides.
func (a *auditLine) facts() (policy.Facts, error) {
	var f policy.Facts
	var err error
	if f.Now, err = time.Parse(time.RFC3339Nano, a.Time); err != nil {
		return f, fmt.Errorf("flow %s: the record has no time: %w", a.ID, err)
	}
	if f.Src, err = netip.ParseAddrPort(a.Client); err != nil {
		return f, fmt.Errorf("flow %s: the record has no client: %w", a.ID, err)
	}
	if f.Dst, err = netip.ParseAddrPort(a.Destination); err != nil {
		return f, fmt.Errorf("flow %s: the record has no destination: %w", a.ID, err)
	}
	if a.Step == 0 {
		return f, nil // decided by the first packet
	}
	h := trial.Hello{SNI: a.SNI, ALPN: a.ALPN}
	if a.Leg != nil {
		h.Versions = []string{a.Leg.Version}
	}
	if f.Hello, err = h.ClientHello(); err != nil {
		return f, fmt.Errorf("flow %s: its hello cannot be made again: %w", a.ID, err)
	}
	return f, nil
}
