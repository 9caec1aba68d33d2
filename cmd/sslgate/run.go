package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/sync/errgroup"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/audit"
	"github.com/sslgate/sslgate/internal/config"
	"github.com/sslgate/sslgate/internal/gateway"
	"github.com/sslgate/sslgate/stack"
	"github.com/sslgate/sslgate/tun"
)

func newRunCmd(stdout, stderr io.Writer) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "run -c FILE",
		Short: "Run the gateway until SIGTERM",
		Long: `Run the gateway: set guard and steering, open the TUN, decide and relay every
captured flow, write one audit record for each.

SIGTERM or SIGINT drains: no new flows are taken and the live ones have
limits.drain to end; a second signal ends them at once. Unless fail is "open",
captured traffic goes nowhere after that, until the next start or
"sslgate release".`,
		Example: "  sslgate run -c sslgate.yaml",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			rt, found := config.Check(file, handshake.NewStdEngine())
			for _, f := range found {
				fmt.Fprint(stderr, f.Format(isTerminal(stderr)))
			}
			if rt == nil {
				return &exitError{code: 2, err: fmt.Errorf("%s is not usable; nothing was started or changed", file)}
			}
			log := newLogger(rt.Config.Log, stderr)
			if err := serve(cmd.Context(), rt, stdout, log); err != nil {
				return &exitError{code: 1, err: err}
			}
			return nil
		},
	}
	cmd.Flags().StringVarP(&file, "config", "c", "", "configuration `FILE` (required)")
	if err := cmd.MarkFlagRequired("config"); err != nil {
		panic(err) // the flag is defined above
	}
	return cmd
}

func newLogger(c config.Log, w io.Writer) *zap.Logger {
	ec := zap.NewProductionEncoderConfig()
	ec.EncodeTime = zapcore.ISO8601TimeEncoder
	ec.EncodeDuration = zapcore.StringDurationEncoder
	enc := zapcore.NewConsoleEncoder(ec)
	if c.Format == "json" {
		enc = zapcore.NewJSONEncoder(ec)
	}
	level, err := zapcore.ParseLevel(c.Level)
	if err != nil {
		level = zapcore.InfoLevel // check has refused any other word
	}
	return zap.New(zapcore.NewCore(enc, zapcore.Lock(zapcore.AddSync(w)), level))
}

// serve runs the gateway until ctx ends (drain) or something fails.
func serve(ctx context.Context, rt *config.Runtime, stdout io.Writer, log *zap.Logger) (err error) {
	c := rt.Config
	records, err := audit.Open(c.Audit.File, stdout)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, records.Close()) }()
	g, err := gateway.New(gateway.Config{
		Policy: rt.Set, Engine: handshake.NewStdEngine(), Audit: records, Log: log,
		Limits: gateway.Limits{
			Hello: int(c.Limits.Hello), Handshake: time.Duration(c.Limits.Handshake),
			Idle: time.Duration(c.Limits.Idle), Dial: time.Duration(c.Dial.Timeout),
		},
		Refused: rt.TUNAddresses,
	})
	if err != nil {
		return err
	}
	// The guard first: from here on captured traffic goes nowhere, whatever
	// else fails.
	if !c.TUN.Attach {
		if err := tun.CheckForwarding(c.Capture.Interfaces...); err != nil {
			return fmt.Errorf("this host does not forward packets, so nothing would be captured: %w", err)
		}
		if err := tun.Guard(steerConfig(c)); err != nil {
			return fmt.Errorf("set the guard: %w", err)
		}
	}
	dev, err := tun.Open(deviceConfig(rt))
	if err != nil {
		return err
	}
	if !dev.Offload() && c.TUN.Offload != "off" {
		log.Warn("TUN without offload: bulk transfers run at a fraction of the speed", zap.String("reason", dev.OffloadReason()))
	}
	st, err := stack.New(stack.Config{
		Device: dev, Handler: g, Ports: c.Capture.Ports.List, AllPorts: c.Capture.Ports.All,
		MaxFlows: c.Limits.Flows, MaxFlowsPerClient: c.Limits.FlowsPerClient, Log: log,
	})
	if err != nil {
		return errors.Join(err, dev.Close())
	}
	steering, err := steer(c, log)
	if err != nil {
		return errors.Join(err, dev.Close())
	}
	return supervise(ctx, &service{rt: rt, log: log, gateway: g, stack: st, device: dev, steering: steering})
}

func deviceConfig(rt *config.Runtime) tun.Config {
	c := tun.Config{Name: rt.Config.TUN.Name, MTU: rt.Config.TUN.MTU, Attach: rt.Config.TUN.Attach, Addresses: rt.TUNAddresses}
	if rt.Config.TUN.Offload == "off" {
		c.Offload = tun.OffloadOff
	}
	return c
}

// steer sets the steering; nil where somebody else routes.
func steer(c *config.Config, log *zap.Logger) (*tun.Steering, error) {
	if c.TUN.Attach {
		return nil, nil
	}
	s, err := tun.Steer(steerConfig(c), log)
	if err != nil {
		return nil, fmt.Errorf("steer: %w", err)
	}
	return s, nil
}

// service is a gateway whose parts are all made.
type service struct {
	rt       *config.Runtime
	log      *zap.Logger
	gateway  *gateway.Gateway
	stack    *stack.Stack
	device   *tun.Device
	steering *tun.Steering // nil: attached
}

// supervise runs the parts until the first fails, or until ctx has ended and
// the flows are drained; then it takes everything down in order.
func supervise(ctx context.Context, s *service) error {
	parts, stop := context.WithCancel(context.Background())
	defer stop()
	group, parts := errgroup.WithContext(parts)
	group.Go(func() error { return s.gateway.Run(parts) })
	group.Go(func() error { return s.stack.Run(parts) })
	if s.steering != nil {
		group.Go(func() error { return s.steering.Watch(parts) })
	}
	s.log.Info("ready", zap.String("tun", s.device.Name()), zap.Bool("offload", s.device.Offload()),
		zap.String("policy", s.rt.Set.ID()), zap.Int("rules", len(s.rt.Config.Policy.Rules)))

	select {
	case <-ctx.Done():
		s.drain()
	case <-parts.Done():
	}
	stop()
	err := group.Wait()
	if s.steering != nil {
		open := s.rt.Config.Fail == "open" && err == nil
		err = errors.Join(err, s.steering.Close(open))
		if open {
			s.log.Warn("fail is open: captured traffic is now routed on uninspected")
		} else {
			s.log.Info("captured traffic goes nowhere until the next start or `sslgate release`")
		}
	}
	s.log.Info("stopped", zap.Int("flows", s.gateway.Flows()))
	return err
}

// drain refuses new flows and waits for the live ones, at most limits.drain
// or until a second signal.
func (s *service) drain() {
	deadline := time.Duration(s.rt.Config.Limits.Drain)
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	s.log.Info("draining", zap.Int("flows", s.gateway.Flows()), zap.Duration("deadline", deadline))
	if err := s.gateway.Drain(ctx); err != nil {
		s.log.Warn("live flows are ended now", zap.Int("flows", s.gateway.Flows()))
	}
	s.stack.StopAccepting()
}
