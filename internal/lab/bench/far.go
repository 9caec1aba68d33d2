package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/sslgate/sslgate/internal/lab"
	"github.com/sslgate/sslgate/internal/lab/line"
)

// farTests are bulk flows over a long line between client and gateway. They run only if they are
// named.
func farTests() []test {
	var all []test
	for _, tuned := range []bool{false, true} { // outermost: a change restarts the gateway
		hosts := map[bool]string{false: "", true: "tuned-"}[tuned]
		for _, rtt := range []int{20, 80} {
			for _, loss := range []float64{0, 0.1, 1} {
				path := line.Path{Delay: time.Duration(rtt) * time.Millisecond / 2, Loss: loss / 100, Seed: 1}
				way := fmt.Sprintf("far-%s%dms-", hosts, rtt)
				if loss > 0 {
					way = fmt.Sprintf("far-%s%dms-%g%%-", hosts, rtt, loss)
				}
				for _, m := range []struct {
					name string
					mode mode
				}{{"plain", modePlain}, {"tls", modeTLS}, {"retls", modeReTLS}} {
					for _, flows := range []int{1, 8} {
						for _, kind := range []LoadKind{LoadUp, LoadDown} {
							all = append(all, test{
								name: fmt.Sprintf("%s%s-%s%d", way, m.name, kind, flows), mode: m.mode, far: true,
								prepare: func(ctx context.Context, s *site) error { return s.tune(ctx, tuned) },
								run: func(ctx context.Context, s *site, m mode, sc scale) ([]value, error) {
									return farTest(ctx, s, m, path, LoadJob{Kind: kind, Flows: flows, For: sc.far})
								},
							})
						}
					}
				}
			}
		}
	}
	return all
}

func farTest(ctx context.Context, s *site, m mode, path line.Path, job LoadJob) (all []value, err error) {
	l := s.lab.Line()
	if err := l.Set(path); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, l.Set(line.Path{})) }()
	droppedBefore, err := s.dropped()
	if err != nil {
		return nil, err
	}
	twiceBefore, err := s.twice()
	if err != nil {
		return nil, err
	}
	r, err := s.run(ctx, job, m)
	if err == nil && r.Error != "" {
		err = errors.New(r.Error)
	}
	if err != nil {
		return nil, err
	}
	droppedAfter, err := s.dropped()
	if err != nil {
		return nil, err
	}
	gib := float64(r.Bytes) / (1 << 30)
	all = []value{{"", "Mbit/s", float64(r.Bytes) * 8 / 1e6 / r.Seconds}}
	if s.peer != Direct {
		all = append(all, value{".cpu", "CPU s/GiB", r.cpu.Seconds() / gib})
	}
	all = append(all, value{".dropped", "1/GiB", float64(droppedAfter-droppedBefore) / gib})
	if job.Kind == LoadDown {
		twice, err := s.twice()
		if err != nil {
			return nil, err
		}
		all = append(all, value{".twice", "1/GiB", float64(twice-twiceBefore) / gib})
	}
	return all, nil
}

// dropped counts what was lost between client and gateway beyond the configured loss of the line:
// frames (a large segment counts as one) that came too fast for the line or an interface.
func (s *site) dropped() (uint64, error) {
	a, b := s.lab.Line().Stats()
	n := a.Failed + a.Unread + b.Failed + b.Unread
	for _, ns := range []lab.NS{lab.Client, lab.Between} {
		err := s.lab.Netlink(ns, func(h *netlink.Handle) error {
			links, err := h.LinkList()
			for _, k := range links {
				if st := k.Attrs().Statistics; st != nil {
					n += st.RxDropped + st.TxDropped
				}
			}
			return err
		})
		if err != nil {
			return 0, err
		}
	}
	return n, nil
}

// twice counts unnecessary retransmissions: segments that the client had already. The client
// reports each one to the sender by a D-SACK (RFC 2883).
func (s *site) twice() (n uint64, err error) {
	err = s.lab.Do(lab.Client, func() error {
		b, err := os.ReadFile("/proc/thread-self/net/netstat")
		if err != nil {
			return err
		}
		n, err = counters(string(b), "TcpExt:", "TCPDSACKOldSent", "TCPDSACKOfoSent")
		return err
	})
	return n, err
}

// counters adds up the named counters of one group of /proc/net/netstat: a line
// of names, and one of numbers.
func counters(text, group string, names ...string) (sum uint64, err error) {
	var heads []string
	for l := range strings.Lines(text) {
		f := strings.Fields(l)
		if len(f) == 0 || f[0] != group {
			continue
		}
		if heads == nil {
			heads = f
			continue
		}
		for _, name := range names {
			i := slices.Index(heads, name)
			if i < 0 || i >= len(f) {
				return 0, fmt.Errorf("no counter %s in %s", name, group)
			}
			v, err := strconv.ParseUint(f[i], 10, 64)
			if err != nil {
				return 0, fmt.Errorf("counter %s: %w", name, err)
			}
			sum += v
		}
		return sum, nil
	}
	return 0, fmt.Errorf("no counters %s", group)
}

// tune sets all three hosts up for long paths, or back. The gateway reads its host's settings
// only when it starts.
func (s *site) tune(ctx context.Context, tuned bool) error {
	if s.tuned == tuned {
		return nil
	}
	if err := s.setBuffers(tuned); err != nil {
		return err
	}
	s.tuned = tuned
	if s.gateway == nil {
		return nil
	}
	if err := s.stopGateway(); err != nil {
		return err
	}
	return s.startGateway(ctx)
}

// setBuffers sets the bounds of socket buffers: Linux's defaults on a machine of 4 GiB or
// more, or what operators of long paths set (ip-sysctl).
func (s *site) setBuffers(tuned bool) error {
	send := "4096 16384 4194304"
	if tuned {
		send = "4096 65536 33554432"
	}
	for _, ns := range []lab.NS{lab.Client, lab.Gateway, lab.Server} {
		err := errors.Join(
			s.lab.Sysctl(ns, "net.ipv4.tcp_rmem", "4096 131072 33554432"),
			s.lab.Sysctl(ns, "net.ipv4.tcp_wmem", send))
		if err != nil {
			return err
		}
	}
	return nil
}
