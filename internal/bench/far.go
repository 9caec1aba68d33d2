package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sslgate/sslgate/internal/lab"
	"github.com/sslgate/sslgate/internal/lab/line"
)

// farTests are bulk flows over a long line between client and gateway: they are
// made only when they are named.
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
								name: fmt.Sprintf("%s%s-%s%d", way, m.name, kind, flows), mode: m.mode, restarts: true, far: true,
								run: func(ctx context.Context, s *site, m mode, sc scale) ([]value, error) {
									return farTest(ctx, s, m, path, tuned, LoadJob{Kind: kind, Flows: flows, For: sc.far})
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

func farTest(ctx context.Context, s *site, m mode, path line.Path, tuned bool, job LoadJob) (all []value, err error) {
	if err := s.tune(ctx, tuned); err != nil {
		return nil, err
	}
	l := s.lab.Line()
	if err := l.Set(path); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, l.Set(line.Path{})) }()
	beforeA, beforeB := l.Stats()
	r, err := s.run(ctx, job, m)
	if err == nil && r.Error != "" {
		err = errors.New(r.Error)
	}
	if err != nil {
		return nil, err
	}
	if a, b := l.Stats(); a.Failed+b.Failed > beforeA.Failed+beforeB.Failed {
		return nil, errors.New("the line could not carry what came: no figure")
	}
	all = []value{{"", "Mbit/s", float64(r.Bytes) * 8 / 1e6 / r.Seconds}}
	if s.peer != Direct {
		all = append(all, value{".cpu", "CPU s/GiB", r.cpu.Seconds() / (float64(r.Bytes) / (1 << 30))})
	}
	return all, nil
}

// tune sets all three hosts up for long paths, or not. The gateway reads what
// its host allows when it starts.
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

// setBuffers writes the bounds of socket buffers: what Linux has on a machine
// of 4 GiB or more, or what operators of long paths set (ip-sysctl).
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
