package service

import (
	"fmt"

	"go.uber.org/zap"

	"github.com/sslgate/sslgate/internal/config"
	"github.com/sslgate/sslgate/internal/dialer"
	"github.com/sslgate/sslgate/internal/gateway"
	"github.com/sslgate/sslgate/tun"
)

// mayDialAs returns an error if the configuration asks for connections from the addresses of
// clients and this process cannot make them.
func (s *Service) mayDialAs(c *config.Config) error {
	if !c.ClientSource() {
		return nil
	}
	if err := gateway.CheckClientSource(); err != nil {
		return err
	}
	return tun.CheckClientSource()
}

// dialAs prepares the host for a new configuration that asks for connections from the addresses
// of clients. A configuration that does not ask changes nothing, because live flows may still
// have such connections.
func (s *Service) dialAs(c *config.Config) error {
	if s.steering == nil || !c.ClientSource() {
		return nil
	}
	if err := s.mayDialAs(c); err != nil {
		return err
	}
	return s.steering.SetClientSource()
}

func socketMark(c *config.Config) dialer.Mark {
	sc := SteerConfig(c)
	return dialer.Mark(sc.SocketMark())
}

// ownMark is the mark of all other sockets of this process; 0 where nothing of this host's
// programs is captured.
func ownMark(c *config.Config) dialer.Mark {
	if !c.CapturesOut() {
		return 0
	}
	return dialer.Mark(c.OwnMark())
}

// warnGRO warns about interfaces whose uploads come in small pieces.
func (s *Service) warnGRO() {
	for _, name := range tun.WithoutGRO(s.rt.Config.Capture.Interfaces...) {
		s.log.Warn("receive offload (GRO) of a captured interface is off: uploads run at a fraction of the speed",
			zap.String("interface", name), zap.String("fix", "ethtool -K "+name+" gro on"))
	}
}

// steerConfig is SteerConfig as this process has it, in its slot. What the gateway that it
// takes over from has begun it goes on with.
func (s *Service) steerConfig() tun.SteerConfig {
	sc := SteerConfig(s.rt.Config)
	if s.lease != nil && s.lease.Terms.ClientSource {
		sc.ClientSource = true
	}
	if s.slot == tun.SlotB {
		return sc.Swapped()
	}
	return sc
}

// SteerConfig is the part of a configuration that run, guard and release must agree on.
func SteerConfig(c *config.Config) tun.SteerConfig {
	sc := tun.SteerConfig{
		TUN:         c.TUN.Name,
		Interfaces:  c.Capture.Interfaces,
		Exempt:      c.Capture.Exempt,
		Protocols:   bytesOf(c.Capture.Protocols),
		Ports:       c.Capture.Ports.List,
		AllPorts:    c.Capture.Ports.All,
		Local:       c.CapturesLocal(),
		ExceptPorts: c.Capture.LocalExcept(),
		RejectUDP:   c.Capture.QUIC != "ignore",
		Mark:        c.Capture.Mark,
		Mask:        c.Capture.Mask,
		Table:       c.Capture.Table,
		Preference:  c.Capture.Preference,

		ClientSource: c.ClientSource(),
		ReturnMark:   c.Dial.Mark,
		ReturnTable:  c.Dial.Table,
		GRO:          c.Capture.GRO == "auto",
		CTMask:       c.Upgrade.CTMask,
	}
	if c.CapturesOut() {
		o := c.Capture.Local.Out
		sc.Out = &tun.Outgoing{OwnMark: c.OwnMark(), Users: numbersOf(o.Users), Groups: numbersOf(o.Groups), ExceptUsers: numbersOf(o.ExceptUsers), To: o.OutTo()}
		for _, p := range o.Ports {
			sc.Out.Ports = append(sc.Out.Ports, uint16(p))
		}
	}
	if second, ok := c.Second(); ok && sc.CTMask != 0 {
		sc.Twin = tun.Twin(second)
	}
	return sc
}

// programs describes which connections of this host's programs are captured, so that two
// processes can compare it.
func programs(o *tun.Outgoing) string {
	return fmt.Sprintf("ports %v, users %v, groups %v, except %v, to %v", o.Ports, o.Users, o.Groups, o.ExceptUsers, o.To)
}

// numbersOf converts numbers of users that config has checked.
func numbersOf(numbers []int) []uint32 {
	var all []uint32
	for _, n := range numbers {
		all = append(all, uint32(n))
	}
	return all
}

// bytesOf converts numbers that config has checked to fit into a byte.
func bytesOf(numbers []int) []uint8 {
	var all []uint8
	for _, n := range numbers {
		all = append(all, uint8(n))
	}
	return all
}
