package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/sslgate/sslgate/internal/config"
	"github.com/sslgate/sslgate/internal/doctor"
	"github.com/sslgate/sslgate/internal/fielderr"
	"github.com/sslgate/sslgate/tun"
)

// hostFindings returns the problems that a valid configuration would have on this host. They
// are warnings, because the configuration may be for another host. Fatal Troubles among them
// would make run refuse here.
func hostFindings(rt *config.Runtime) []config.Finding {
	c := rt.Config
	if c.TUN.Attach {
		return nil
	}
	found, err := tun.CheckInterfaces(c.Capture.Interfaces, c.Capture.Exempt, c.TUN.Name)
	if err != nil {
		return []config.Finding{rt.File.Warning("capture.interfaces", err.Error())}
	}
	all := absentInterfaces(rt)
	if services := doctor.LocalServices("/proc", c); len(services) > 0 {
		all = append(all, rt.File.Warning("capture.ports", "on this host services listen on captured ports ("+strings.Join(services, ", ")+"): "+doctor.LocalFate(c)))
	}
	for _, t := range found {
		path := interfacePath(c, t.Interface)
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

// interfacePath is the place of an interface's name in the configuration.
func interfacePath(c *config.Config, name string) string {
	if i := slices.Index(c.Capture.Exempt, name); i >= 0 {
		return fmt.Sprintf("capture.exempt[%d]", i)
	}
	if i := slices.Index(c.Capture.Interfaces, name); i >= 0 {
		return fmt.Sprintf("capture.interfaces[%d]", i)
	}
	return "capture.interfaces"
}

// absentInterfaces warns of names without an interface: capture or exemption begins when an
// interface of that name appears.
func absentInterfaces(rt *config.Runtime) []config.Finding {
	c := rt.Config
	absent, present, err := tun.Absent(slices.Concat(c.Capture.Interfaces, c.Capture.Exempt)...)
	if err != nil {
		return nil // CheckInterfaces reports it
	}
	present = slices.DeleteFunc(present, func(name string) bool { return name == "lo" || name == c.TUN.Name })
	var all []config.Finding
	for _, name := range absent {
		fate := "nothing is captured there until one comes"
		if slices.Contains(c.Capture.Exempt, name) {
			fate = "it exempts nothing until one comes"
		}
		there := ""
		if len(present) > 0 {
			there = " (there is " + strings.Join(present[:min(len(present), 8)], ", ") + ")"
		}
		all = append(all, rt.File.Warning(interfacePath(c, name), fmt.Sprintf("on this host there is no interface %s%s%s: %s",
			strconv.Quote(name), fielderr.Suggest(name, present), there, fate)))
	}
	return all
}
