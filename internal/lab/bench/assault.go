package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/sslgate/sslgate/internal/lab"
	"github.com/sslgate/sslgate/internal/lab/attack"
)

// RoleAssault runs an attack from one address, or the clients beside it.
const RoleAssault = "role-assault"

const (
	// assaultClients is the number of legitimate addresses; the attacker has one of its own.
	// With one address for all clients, the limits of one client would be measured.
	assaultClients = 16
	// assaultWorkers is the number of connections that attacker and clients each keep open.
	assaultWorkers = 32
	// assaultEvery is how often each worker of the clients makes a flow: about 200 a second in
	// total, a third of what the CPU of load and origin can do.
	assaultEvery = 150 * time.Millisecond
	// assaultHead is how long an attack runs before it is measured, but no longer than the
	// quiet time.
	assaultHead = time.Second
)

// defaultLimits are those of a gateway whose configuration names none.
const defaultLimits = "limits: {drain: 1s}"

// assaultTests are the fractions of their rate that other clients keep while one address attacks,
// one row for each kind of attack.
func assaultTests() []test {
	var all []test
	for _, k := range attack.Kinds() {
		if k == attack.Uploads {
			continue // the bench's origin reads everything
		}
		all = append(all, test{
			name: "assault-" + string(k), mode: modeTLS, restarts: true,
			run: func(ctx context.Context, s *site, m mode, sc scale) ([]value, error) {
				return assaultTest(ctx, s, m, sc, k)
			},
		})
	}
	return all
}

func assaultTest(ctx context.Context, s *site, m mode, sc scale, kind attack.Kind) (all []value, err error) {
	if s.peer != SSLGate {
		return nil, errNotDone // other peers would need the same limits
	}
	from, err := s.assaultAddresses()
	if err != nil {
		return nil, err
	}
	if err := s.stopGateway(); err != nil {
		return nil, err
	}
	s.limits = defaultLimits
	defer func() {
		s.limits = ""
		err = errors.Join(err, s.stopGateway())
		if err == nil {
			err = s.startGateway(ctx)
		}
	}()
	if err := s.startGateway(ctx); err != nil {
		return nil, err
	}
	clients := attack.Job{
		Kind: attack.Clients, From: from[1:], To: s.targets(m), Name: serverName, Cert: s.file("client.pem"), Key: s.file("client.key"),
		Say: request{op: opEcho}.bytes(), Workers: assaultWorkers, Every: assaultEvery, For: sc.quiet,
	}
	quiet, err := s.assault(ctx, clients)
	if err != nil {
		return nil, err
	}
	calm, err := quiet.done(sc.quiet)
	if err != nil {
		return nil, err
	}
	attacker := attack.Job{
		Kind: kind, From: from[:1], To: []netip.AddrPort{s.floodTarget(m)}, Name: serverName, Workers: assaultWorkers,
		Say: request{op: opDown, n: uint64(maxDown)}.bytes(), For: time.Minute,
	}
	switch kind {
	case attack.Windows:
		attacker.Cert, attacker.Key = clients.Cert, clients.Key
	case attack.Connections, attack.Hellos, attack.Drips:
		attacker.Workers = 1000 // twice limits.flows_per_client
	}
	attack, err := s.assault(ctx, attacker)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, attack.stop(0)) }()
	if err := sleep(ctx, min(assaultHead, sc.quiet)); err != nil {
		return nil, err
	}
	clients.For = sc.flood
	busy, err := s.assault(ctx, clients)
	if err != nil {
		return nil, err
	}
	stormy, err := busy.done(sc.flood)
	if err != nil {
		return nil, err
	}
	attack.in.Close() // tells it to end
	did, err := attack.done(0)
	if err != nil {
		return nil, err
	}
	if did.Made == 0 {
		return nil, fmt.Errorf("the attacker made nothing: %s", did.Error)
	}
	if calm.Good == 0 {
		return nil, fmt.Errorf("no client was served: %s", calm.Error)
	}
	before, during := float64(calm.Good)/calm.Seconds, float64(stormy.Good)/stormy.Seconds
	return []value{
		{".quiet", "conn/s", before},
		{".during", "conn/s", during},
		{".kept", "of quiet", during / before},
		{".failed", "connections", float64(stormy.Ended + stormy.Refused)},
		{".p50", "ms", stormy.P50},
		{".slower", "of quiet", stormy.P50 / calm.P50},
		{".p99", "ms", stormy.P99},
		{".attacks", "made/s", float64(did.Made) / did.Seconds},
	}, nil
}

// assaulting is a process that attacks, or that plays the clients.
type assaulting struct{ *child }

func (s *site) assault(ctx context.Context, j attack.Job) (assaulting, error) {
	c, err := s.startRole(ctx, lab.Client, s.cpus.load, RoleAssault, j)
	if err == nil {
		err = c.say("go")
	}
	return assaulting{c}, err
}

// done reads the result after the given time, and ends the process.
func (a assaulting) done(after time.Duration) (d attack.Done, err error) {
	line, err := a.line(after + bulkSlack)
	if err == nil {
		err = json.Unmarshal([]byte(line), &d)
	}
	if after > 0 { // else somebody else ends it
		err = errors.Join(err, a.stop(0))
	}
	return d, err
}

// assaultAddresses adds the further addresses to the client's end, unless it has them. The
// first one is the attacker's.
func (s *site) assaultAddresses() ([]netip.Addr, error) {
	var all []netip.Addr
	err := s.lab.Netlink(lab.Client, func(h *netlink.Handle) error {
		link, err := h.LinkByName(lab.ClientIface)
		if err != nil {
			return err
		}
		for i := range assaultClients + 1 {
			a := netip.AddrFrom4([4]byte{10, 77, 1, byte(100 + i)})
			addr, err := netlink.ParseAddr(a.String() + "/24")
			if err == nil {
				err = h.AddrReplace(link, addr)
			}
			if err != nil {
				return err
			}
			all = append(all, a)
		}
		return nil
	})
	return all, err
}
