package tun

import (
	"errors"

	"github.com/vishvananda/netlink"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// noteIngress logs once that a captured interface is missing or down, and once that it is
// up again. It repairs nothing, because somebody did it on purpose. The guard holds
// either way.
func (s *Steering) noteIngress() {
	for _, name := range s.cfg.Interfaces {
		state := "up"
		link, err := s.rt.LinkByName(name)
		var notFound netlink.LinkNotFoundError
		switch {
		case errors.As(err, &notFound):
			state = "missing"
		case err != nil:
			continue // the next check will see it
		case link.Attrs().RawFlags&unix.IFF_UP == 0:
			state = "down"
		}
		was, known := s.ingress[name]
		if was == state {
			continue
		}
		if s.ingress == nil {
			s.ingress = map[string]string{}
		}
		s.ingress[name] = state
		switch {
		case state == "missing":
			s.log.Warn("a captured interface is missing: nothing comes in there", zap.String("interface", name))
		case state == "down":
			s.log.Warn("a captured interface is down: nothing comes in there", zap.String("interface", name))
		case known:
			s.log.Info("a captured interface is up again", zap.String("interface", name), zap.String("was", was))
		}
	}
}
