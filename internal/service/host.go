package service

import (
	"go.uber.org/zap"

	"github.com/sslgate/sslgate/internal/config"
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

func socketMark(c *config.Config) uint32 {
	sc := SteerConfig(c)
	return sc.SocketMark()
}

// warnGRO warns about interfaces whose uploads come in small pieces.
func (s *Service) warnGRO() {
	for _, name := range tun.WithoutGRO(s.rt.Config.Capture.Interfaces...) {
		s.log.Warn("receive offload (GRO) of a captured interface is off: uploads run at a fraction of the speed",
			zap.String("interface", name), zap.String("fix", "ethtool -K "+name+" gro on"))
	}
}
