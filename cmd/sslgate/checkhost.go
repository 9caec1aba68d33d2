package main

import (
	"slices"
	"strings"

	"github.com/sslgate/sslgate/internal/config"
	"github.com/sslgate/sslgate/internal/doctor"
	"github.com/sslgate/sslgate/tun"
)

// hostFindings is what a configuration that is right in itself means on this
// host. They are warnings: it may be meant for another one. What they say of
// fatal Troubles, run refuses here.
func hostFindings(rt *config.Runtime) []config.Finding {
	c := rt.Config
	if c.TUN.Attach {
		return nil
	}
	found, err := tun.CheckInterfaces(c.Capture.Interfaces, c.Capture.Exempt, c.TUN.Name)
	if err != nil {
		return []config.Finding{rt.File.Warning("capture.interfaces", err.Error())}
	}
	var all []config.Finding
	if services := doctor.LocalServices("/proc", c); len(services) > 0 {
		all = append(all, rt.File.Warning("capture.ports", "on this host services listen on captured ports ("+strings.Join(services, ", ")+"): "+doctor.LocalFate(c)))
	}
	for _, t := range found {
		path := "capture.interfaces"
		if slices.Contains(c.Capture.Exempt, t.Interface) {
			path = "capture.exempt"
		}
		text := "on this host " + t.Text
		if t.Fix != "" {
			text += ": `" + t.Fix + "`"
		}
		if t.Fatal {
			text += "; `sslgate run` refuses it here"
		}
		all = append(all, rt.File.Warning(path, text))
	}
	return all
}
