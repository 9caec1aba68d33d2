package probe

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/sslgate/sslgate/handshake"
)

// errStranger is returned for a server that chooses what was not offered: no further
// questions can be asked.
var errStranger = errors.New("the server chose what was not offered")

// connect counts and bounds the connections of a probe.
func (p *prober) connect(ctx context.Context) (net.Conn, error) {
	if p.r.Connections >= MaxConnections {
		return nil, fmt.Errorf("stopped after %d connections", p.r.Connections)
	}
	p.r.Connections++
	ctx, cancel := context.WithTimeout(ctx, p.perConn)
	defer cancel()
	c, err := p.o.Dial(ctx, "tcp", p.o.Address)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	return c, nil
}

// deadline is the deadline of one question: its own, but not later than that of the whole
// probe.
func (p *prober) deadline(ctx context.Context) time.Time {
	d := time.Now().Add(p.perConn)
	if all, ok := ctx.Deadline(); ok && all.Before(d) {
		return all
	}
	return d
}

// answer is the result of one question: a flight, or no TLS at all.
type answer struct {
	*flight
	silence string // "closed", "reset", "no answer in time", or what came instead
}

// said describes a refusal in words.
func (a answer) said() string {
	switch {
	case a.flight == nil:
		return a.silence
	case a.answered():
		return "accepted"
	}
	return a.alert.String()
}

// accepted says that the server chose something.
func (a answer) accepted() bool { return a.flight != nil && a.answered() }

// ask makes one connection and one offer. An error ends the probe: no connection, or the
// time is up. A refusal by the server is an answer, not an error.
func (p *prober) ask(ctx context.Context, o offer) (answer, error) {
	if o.name == "" {
		o.name = p.sni
	}
	record, err := o.record()
	if err != nil {
		return answer{}, err
	}
	c, err := p.connect(ctx)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = c.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := c.SetDeadline(p.deadline(ctx)); err != nil {
		return answer{}, err
	}
	_, err = c.Write(record)
	var f *flight
	if err == nil {
		f, err = readFlight(c)
	}
	if ctx.Err() != nil {
		return answer{}, fmt.Errorf("time is up after %d connections", p.r.Connections)
	}
	if err != nil {
		return answer{silence: silence(err)}, nil
	}
	if f.answered() {
		p.note(f)
		// Close in order: we are done, and the server has made no mistake.
		_ = handshake.SendAlert(c, handshake.AlertCloseNotify, f.hello.legacy)
	}
	return answer{flight: f}, nil
}

// silence describes in words that no TLS answer came.
func silence(err error) string {
	switch {
	case errors.Is(err, errFlight):
		return err.Error()
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "closed without an alert"
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "no answer in time"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "reset without an alert"
	}
	return "connection failed"
}

// note records what an answered flight shows besides the answer itself.
func (p *prober) note(f *flight) {
	p.addCertificate(f.certs)
	if f.keys != nil && f.keys.dhBits > 0 && (p.r.DHBits == 0 || f.keys.dhBits < p.r.DHBits) {
		p.r.DHBits = f.keys.dhBits
	}
	if f.request != nil {
		p.request(request12(f))
	}
	if h := f.hello; h.version <= tls.VersionTLS12 {
		ft := &p.r.Features
		ft.Asked = true
		ft.ExtendedMasterSecret = ft.ExtendedMasterSecret || h.has(extExtendedMasterSecret)
		ft.SecureRenegotiation = ft.SecureRenegotiation || h.has(extRenegotiationInfo)
		ft.SessionID = ft.SessionID || len(h.sessionID) > 0
		ft.Compression = ft.Compression || h.compression != 0
		ft.Staple = ft.Staple || f.stapled
	}
}

// usual is an offer of everything that a version has.
func (p *prober) usual(version uint16) offer { return usual(version, p.all12) }

func usual(version uint16, all12 []uint16) offer {
	o := offer{version: version, groups: allGroups()}
	if version >= tls.VersionTLS13 {
		o.suites, o.shares = suites13(), []uint16{uint16(tls.X25519), uint16(tls.CurveP256)}
	} else {
		o.suites = slices.Clone(all12)
	}
	return o
}

func (p *prober) versions(ctx context.Context) error {
	spoke := false
	var said []string
	for v := uint16(tls.VersionTLS13); v >= tls.VersionTLS10; v-- {
		a, err := p.ask(ctx, p.usual(v))
		if err != nil {
			return err
		}
		version := Version{Name: Name{v, handshake.VersionName(v)}, Accepted: a.accepted() && a.hello.version == v}
		if !version.Accepted {
			version.Said = a.said()
			if a.accepted() {
				version.Said = "answered with " + handshake.VersionName(a.hello.version)
			}
			said = append(said, version.Name.Name+": "+version.Said)
		}
		spoke = spoke || a.accepted() || a.flight != nil
		p.r.Versions = append(p.r.Versions, version)
	}
	if !slices.ContainsFunc(p.r.Versions, func(v Version) bool { return v.Accepted }) {
		p.r.Versions = nil
		if spoke {
			return fmt.Errorf("the server accepts no version of TLS 1.0 to 1.3 (%s)", strings.Join(said, "; "))
		}
		return fmt.Errorf("%w (%s)", ErrNoTLS, said[0])
	}
	return nil
}

// accepts says whether a version was accepted.
func (r *Result) accepts(v uint16) bool {
	return slices.ContainsFunc(r.Versions, func(x Version) bool { return x.ID == v && x.Accepted })
}

// suites13 asks for each CipherSuite alone, so that no preference can hide one.
func (p *prober) suites13(ctx context.Context) error {
	if !p.r.accepts(tls.VersionTLS13) {
		return nil
	}
	var found []uint16
	for _, s := range suites13() {
		whole, err := p.alone(ctx, s)
		if err != nil {
			return err
		}
		if whole {
			found = append(found, s)
			p.r.Suites13 = suiteNames(found)
			continue
		}
		o := p.usual(tls.VersionTLS13)
		o.suites = []uint16{s}
		a, err := p.ask(ctx, o)
		if err != nil {
			return err
		}
		if a.accepted() && a.hello.suite == s {
			found = append(found, s)
		}
		p.r.Suites13 = suiteNames(found)
	}
	var err error
	p.r.Order13, err = p.order(ctx, p.usual(tls.VersionTLS13), found)
	return err
}

// order offers everything accepted in both orders: a server that follows the client's
// order then chooses differently.
func (p *prober) order(ctx context.Context, o offer, found []uint16) (Order, error) {
	if len(found) < 2 {
		return "", nil
	}
	var chosen [2]uint16
	for i := range chosen {
		o.suites = slices.Clone(found)
		if i == 1 {
			slices.Reverse(o.suites)
		}
		a, err := p.ask(ctx, o)
		if err != nil || !a.accepted() {
			return "", err
		}
		chosen[i] = a.hello.suite
	}
	if chosen[0] == chosen[1] {
		return OrderServer, nil
	}
	return OrderClient, nil
}

// suites12 offers everything, then everything but what was chosen, and so on. The result
// is in the server's own order, if it has one.
func (p *prober) suites12(ctx context.Context) error {
	for _, v := range []uint16{tls.VersionTLS12, tls.VersionTLS11, tls.VersionTLS10} {
		if !p.r.accepts(v) {
			continue
		}
		p.r.SuitesOf = handshake.VersionName(v)
		found, err := p.drain(maxSuites, p.all12, func(rest []uint16) (uint16, bool, error) {
			o := p.usual(v)
			o.suites = rest
			a, err := p.ask(ctx, o)
			if err != nil || !a.accepted() {
				return 0, false, err
			}
			return a.hello.suite, true, nil
		})
		p.r.Suites12 = suiteNames(found)
		if err != nil {
			return err
		}
		p.r.Order12, err = p.order(ctx, p.usual(v), found)
		return err
	}
	return nil
}

// drain asks with fewer and fewer to choose from until the server chooses nothing.
func (p *prober) drain(most int, all []uint16, ask func(rest []uint16) (uint16, bool, error)) ([]uint16, error) {
	var found []uint16
	for len(all) > 0 && len(found) < most {
		chosen, ok, err := ask(all)
		if err != nil || !ok {
			return found, err
		}
		i := slices.Index(all, chosen)
		if i < 0 {
			return found, fmt.Errorf("%w: %#04x", errStranger, chosen)
		}
		found = append(found, chosen)
		all = slices.Delete(slices.Clone(all), i, i+1)
	}
	return found, nil
}

// groups asks with TLS 1.3 and an empty list of key shares, where the answer names the
// group that the server prefers of those offered. It also asks with TLS 1.2, where the
// ServerKeyExchange names it.
func (p *prober) groups(ctx context.Context) error {
	var found []uint16
	if p.r.accepts(tls.VersionTLS13) {
		g, err := p.drain(maxGroups, allGroups(), func(rest []uint16) (uint16, bool, error) {
			o := p.usual(tls.VersionTLS13)
			o.groups, o.shares = rest, nil
			a, err := p.ask(ctx, o)
			if err != nil || !a.accepted() {
				return 0, false, err
			}
			return a.hello.group, true, nil
		})
		found = g
		p.r.Groups = names(found, handshake.GroupName)
		if err != nil {
			return err
		}
		if len(g) == 0 {
			p.r.GroupsNote = "the server does not answer an empty list of key shares with HelloRetryRequest (RFC 8446, section 4.2.8): the groups of TLS 1.3 are not known"
		}
	}
	if !slices.ContainsFunc(p.r.Suites12, func(n Name) bool { return strings.HasPrefix(n.Name, "TLS_ECDHE_") }) {
		return nil
	}
	version, err := p.o.Engine.Capabilities().VersionByName(p.r.SuitesOf)
	if err != nil {
		return err
	}
	g, err := p.drain(maxGroups, allGroups(), func(rest []uint16) (uint16, bool, error) {
		o := offer{version: version, groups: rest}
		for _, s := range p.r.Suites12 {
			if strings.HasPrefix(s.Name, "TLS_ECDHE_") {
				o.suites = append(o.suites, s.ID)
			}
		}
		a, err := p.ask(ctx, o)
		if err != nil || !a.accepted() || a.keys == nil || a.keys.group == 0 {
			return 0, false, err
		}
		return a.keys.group, true, nil
	})
	for _, id := range g {
		if !slices.Contains(found, id) {
			found = append(found, id)
		}
	}
	p.r.Groups = names(found, handshake.GroupName)
	return err
}
