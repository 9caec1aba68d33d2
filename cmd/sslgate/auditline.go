package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/audit"
	"github.com/sslgate/sslgate/internal/escape"
	"github.com/sslgate/sslgate/internal/policytest"
	"github.com/sslgate/sslgate/internal/readfile"
	"github.com/sslgate/sslgate/internal/reason"
	"github.com/sslgate/sslgate/policy"
)

// auditLine is a record of the audit log with its place there.
type auditLine struct {
	*audit.Parsed
	place string // "line 3" of the log
}

// maxAuditLine bounds a line of the log in bytes: a record with its ledger is
// a few KiB.
const maxAuditLine = 1 << 20

// findFlow looks for the record of a flow in a log and in its rotated files, the newest first. Of
// several records the last one counts. A line that is no record is skipped, and reported only if
// nothing is found: the last line of a log may be incomplete while it is written.
func findFlow(path, id string) (*auditLine, error) {
	files := audit.Files(path)
	var first error
	for _, name := range files {
		found, err := findFlowIn(name, id)
		if err == nil {
			return found, nil
		}
		if first == nil {
			first = err
		}
	}
	if n := len(files) - 1; n > 0 {
		return nil, fmt.Errorf("%w; neither has %s", first, count(n, "older file"))
	}
	return nil, first
}

func findFlowIn(path, id string) (*auditLine, error) {
	fh, _, err := readfile.Open(path)
	if err != nil {
		return nil, err
	}
	defer fh.Close()
	found, bad, err := scanFlow(fh, id)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s: %w", path, err)
	case found != nil:
		found.place = path + ", " + found.place
		return found, nil
	case len(bad) > 0:
		return nil, fmt.Errorf("%s has no flow %q; %s: %w", path, id, lines(bad), bad[0].err)
	}
	return nil, fmt.Errorf("%s has no flow %q", path, id)
}

// badLine is a line that is no record.
type badLine struct {
	n   int
	err error // contains the column
}

// lines returns the number of bad lines in words.
func lines(bad []badLine) string {
	if len(bad) == 1 {
		return "one line with that text is no record"
	}
	return fmt.Sprintf("%d lines with that text are no records, the first is", len(bad))
}

// maxBadLines bounds the bad lines that are remembered: somebody who gives another file by
// mistake need not see more.
const maxBadLines = 1000

func scanFlow(r io.Reader, id string) (found *auditLine, bad []badLine, err error) {
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 64<<10), maxAuditLine)
	n := 1
	for ; s.Scan(); n++ {
		// Skip the many lines of other flows without a parse.
		if !strings.Contains(s.Text(), id) {
			continue
		}
		line, err := audit.Parse(s.Bytes())
		switch {
		case err != nil && len(bad) < maxBadLines:
			bad = append(bad, badLine{n, fmt.Errorf("line %d, %w", n, err)})
		case err == nil && line.ID == id:
			found = &auditLine{Parsed: line, place: fmt.Sprintf("line %d", n)}
		}
	}
	switch {
	case errors.Is(s.Err(), bufio.ErrTooLong):
		return nil, nil, fmt.Errorf("line %d is longer than 1 MiB: this is no audit log", n)
	case s.Err() != nil:
		return nil, nil, fmt.Errorf("line %d: %w", n, s.Err())
	}
	return found, bad, nil
}

// settle ends an explanation at the certificate, because the log has only its names. From
// there on the recorded verdict stands.
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

// unread says whether the flow ended before there was a client hello that could be read, so
// that no rule was picked by one.
func (a *auditLine) unread() bool {
	switch reason.Code(a.Reason) {
	case reason.HelloTimeout, reason.HelloEOF, reason.HelloReset, reason.HelloTooLarge, reason.HelloTooMany, reason.HelloMalformed, reason.PlainHTTP, reason.NotTLS,
		reason.NotUpgraded, reason.UpgradeMalformed, reason.UpgradeInjected, reason.UpgradeCancel:
		return true
	}
	return false
}

// facts returns the facts in the record. The certificate is not in it, and of the hello only what
// decides.
func (a *auditLine) facts() (policy.Facts, error) {
	var f policy.Facts
	var err error
	if f.Now, err = time.Parse(time.RFC3339Nano, a.Time); err != nil {
		return f, fmt.Errorf("%s: flow %q: no time that can be read: %w", a.place, a.ID, err)
	}
	if f.Src, err = netip.ParseAddrPort(a.Client); err != nil {
		return f, fmt.Errorf("%s: flow %q: no client that can be read: %w", a.place, a.ID, err)
	}
	if f.Dst, err = netip.ParseAddrPort(a.Destination); err != nil {
		return f, fmt.Errorf("%s: flow %q: no destination that can be read: %w", a.place, a.ID, err)
	}
	f.Local = audit.Direction(a.Direction) == audit.LocalOut
	if a.Step == 0 || a.Action == policy.Originate.String() || a.unread() {
		return f, nil // decided by the first packet, or not at all
	}
	if f.Upgrade, err = policytest.ParseUpgrade(a.Upgrade); err != nil {
		return f, fmt.Errorf("%s: flow %q: %w", a.place, a.ID, err)
	}
	if a.Hello != nil {
		if f.Hello, err = a.Hello.ClientHello(a.SNI, a.Offered()); err != nil {
			return f, fmt.Errorf("%s: flow %q: %w", a.place, a.ID, err)
		}
		return f, nil
	}
	h := policytest.Hello{SNI: escape.Original(a.SNI), ALPN: a.Offered()}
	if a.ClientLeg != nil {
		h.Versions = []string{a.ClientLeg.Version}
	}
	if f.Hello, err = h.ClientHello(); err != nil {
		return f, fmt.Errorf("%s: flow %q: its hello cannot be made again: %w", a.place, a.ID, err)
	}
	return f, nil
}
