package bench

import (
	"fmt"

	"github.com/sslgate/sslgate/internal/lab"
)

// Receive says which CPU does the receive work of the machines in the lab.
type Receive string

// By itself veth has a packet received by the CPU that sends it: the load's CPU then does half
// of the TCP of every gateway on kernel sockets. With ReceiveOwn each machine's packets are
// received on its own CPU (rps_cpus), as the interrupts of a network card would have it.
const (
	ReceiveSender Receive = "sender"
	ReceiveOwn    Receive = "own"
	ReceiveBoth   Receive = "both" // every test with the one and with the other
)

// ownSuffix is what the rows of ReceiveOwn have behind the test's name.
const ownSuffix = "@own"

// ways are those of an option.
func (r Receive) ways() ([]Receive, error) {
	switch r {
	case ReceiveBoth:
		return []Receive{ReceiveSender, ReceiveOwn}, nil
	case ReceiveSender, ReceiveOwn:
		return []Receive{r}, nil
	}
	return nil, fmt.Errorf("receive work on %q: %s, %s or %s", string(r), ReceiveSender, ReceiveOwn, ReceiveBoth)
}

// name is a test's name in the rows.
func (r Receive) name(t test) string {
	if r == ReceiveOwn {
		return t.name + ownSuffix
	}
	return t.name
}

// receive sets it for all links. A long line sends on some of them itself.
func (s *site) receive(r Receive) error {
	ends := []struct {
		ns  lab.NS
		dev string
		cpu int
	}{
		{lab.Client, lab.ClientIface, s.cpus.load}, {lab.Server, lab.ServerIface, s.cpus.load},
		{lab.Gateway, lab.LANIface, s.cpus.gateway}, {lab.Gateway, lab.WANIface, s.cpus.gateway},
	}
	for _, e := range ends {
		if r == ReceiveSender {
			e.cpu = -1
		}
		if err := s.lab.ReceiveOn(e.ns, e.dev, e.cpu); err != nil {
			return err
		}
	}
	return nil
}
