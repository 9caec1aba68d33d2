package main

import (
	"context"
	"fmt"
	"io"
	"runtime/debug"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sslgate/sslgate/internal/admin"
	"github.com/sslgate/sslgate/internal/config"
	"github.com/sslgate/sslgate/internal/doctor"
	"github.com/sslgate/sslgate/internal/escape"
	"github.com/sslgate/sslgate/internal/revocation"
	"github.com/sslgate/sslgate/internal/service"
	"github.com/sslgate/sslgate/internal/times"
)

// newDoctorCmd is `sslgate doctor`.
func newDoctorCmd(stdout io.Writer) *cobra.Command {
	var file string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "doctor [FILE]",
		Short: "Say what on this host is in the gateway's way, and what mends it",
		Long: `Look at the host: TUN, capabilities, nftables, forwarding, reverse path filter,
receive and segmentation offload of the captured interfaces, rules and routes
that lead captured traffic elsewhere, guard, connection tracking, ports, file
limits, admin socket, clock; with a configuration also at that, at certificates
and revocation lists near their end, and at what a running gateway says of lists
that it fetches. For each finding the command that mends it is printed, or what
to do where no command does. Nothing is changed. Run it as root: some of it
cannot be seen otherwise.

Exit code 0: all is well. 1: there are findings. 2: wrong usage.`,
		Example: "  sudo sslgate doctor -c sslgate.yaml",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			file, err := optionalConfigFile(cmd, file, args)
			if err != nil {
				return err
			}
			o := doctor.Options{File: file, Built: built(), Steer: service.SteerConfig}
			var found []doctor.Finding
			if file != "" {
				o.Config, found = doctorConfig(cmd.Context(), file)
				o.Config = inItsSlot(cmd.Context(), o.Config)
			}
			found = append(doctor.Examine(o), found...)
			if err := printFindings(stdout, found, asJSON); err != nil {
				return err
			}
			if doctor.Bad(found) {
				return &exitError{code: 1}
			}
			return nil
		},
	}
	configFlag(cmd, &file)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object a finding")
	return cmd
}

// doctorConfig reads the configuration. Its mistakes and warnings, such as certificates that
// expire soon, are findings too.
func doctorConfig(ctx context.Context, file string) (*config.Config, []doctor.Finding) {
	var found []doctor.Finding
	rt, mistakes, err := checkUntilSignal(ctx, file)
	if err != nil {
		return nil, []doctor.Finding{{Check: "config", Level: doctor.Fail, Text: file + " was not read: " + err.Error()}}
	}
	for _, m := range mistakes {
		f := doctor.Finding{Check: "config", Level: doctor.Fail, Text: m.String(), Fix: "sslgate check -c " + doctor.Quote(file)}
		if m.Warning {
			f.Level = doctor.Warn
		}
		if m.Mend != "" { // check reports the same, but without a remedy
			f.Text, f.Fix = f.Text+"; "+m.Mend, ""
		}
		found = append(found, f)
	}
	if rt != nil {
		if len(found) == 0 {
			found = append(found, doctor.Finding{Check: "config", Level: doctor.Good, Text: file + " can be used, no certificate is near its end"})
		}
		found = append(found, doctorLists(ctx, rt)...)
		return rt.Config, append(found, doctorFleet(ctx, rt.Config)...)
	}
	c, _ := config.LoadCapture(file) // nil if even that cannot be read
	return c, found
}

// inItsSlot is the configuration with the device, mark and table of the slot in which the
// gateway runs.
func inItsSlot(ctx context.Context, c *config.Config) *config.Config {
	if c == nil {
		return nil
	}
	second, ok := c.Second()
	st, err := admin.NewClient(c.Admin.Socket).Status(ctx)
	if !ok || err != nil || st.Slot != "b" {
		return c
	}
	moved := *c
	moved.Upgrade.TUN, moved.Upgrade.Mark, moved.Upgrade.Table = c.TUN.Name, c.Capture.Mark, c.Capture.Table
	moved.TUN.Name, moved.Capture.Mark, moved.Capture.Table = second.TUN, second.Mark, second.Table
	return &moved
}

// doctorFleet reports on the gateway's part in its fleet, as the running one sees it.
func doctorFleet(ctx context.Context, c *config.Config) []doctor.Finding {
	if c.Fleet == nil {
		return nil
	}
	st, err := admin.NewClient(c.Admin.Socket).Status(ctx)
	if err != nil || st.Fleet == nil {
		return []doctor.Finding{{Check: "fleet", Level: doctor.Good, Text: "looked at while the gateway runs, and none answers"}}
	}
	f := st.Fleet
	var found []doctor.Finding
	warn := func(format string, args ...any) {
		found = append(found, doctor.Finding{Check: "fleet", Level: doctor.Warn, Text: escape.String(fmt.Sprintf(format, args...), 0)})
	}
	if !f.Fresh {
		warn("epoch %d is in force, and since %s nothing says that it is the newest: see what is wrong with %s", f.Epoch, times.Stamp(f.Contact), c.Fleet.Source)
	}
	if f.Refuses {
		warn("new flows are refused, as fleet.stale says")
	}
	if f.Withdrawn != "" {
		warn("epoch %d is in force though it was withdrawn (%s): sign the next one", f.Epoch, f.Withdrawn)
	}
	if f.Pending != 0 {
		warn("epoch %d waits for a restart", f.Pending)
	}
	if f.Refused != "" {
		warn("epoch %d stays in force, what the source has is refused: %s", f.Epoch, f.Refused)
	}
	for _, what := range []string{f.Revoked.Behind, f.Revoked.Full} {
		if what != "" {
			warn("%s", what)
		}
	}
	if f.Revoked.Refused != "" {
		warn("the list of what is revoked stays, what the source has is refused: %s", f.Revoked.Refused)
	}
	if found == nil {
		return []doctor.Finding{{Check: "fleet", Level: doctor.Good, Text: fmt.Sprintf("epoch %d is in force, and the source has no other", f.Epoch)}}
	}
	return found
}

// doctorLists reports on the lists that are fetched by URL. Only a running gateway knows their
// content.
func doctorLists(ctx context.Context, rt *config.Runtime) []doctor.Finding {
	var found []doctor.Finding
	add := func(level doctor.Level, fix, format string, args ...any) {
		found = append(found, doctor.Finding{Check: "lists", Level: level, Text: fmt.Sprintf(format, args...), Fix: fix})
	}
	var urls [][2]string // authority, URL
	checked := false
	for _, a := range rt.Revocation {
		checked = checked || a.Mode != revocation.Off
		for _, s := range a.Sources {
			if revocation.IsURL(s.Location) && a.Mode != revocation.Off {
				urls = append(urls, [2]string{a.Name, s.Location})
			}
		}
	}
	if !checked {
		return nil
	}
	lists, err := admin.NewClient(rt.Config.Admin.Socket).Revocation(ctx)
	if err != nil && urls == nil {
		return nil
	}
	if err != nil {
		add(doctor.Good, "", "%s fetched by URL: looked at while the gateway runs, and none answers", count(len(urls), "revocation list"))
		return found
	}
	for _, l := range lists {
		if l.State == "missing" {
			add(doctor.Fail, "", "the running gateway uses a list of authority %s that %s does not carry any more: %s: put it back there", l.Authority, l.Source, l.Error)
		}
	}
	for _, u := range urls {
		known := false
		for _, l := range lists {
			if l.Authority != u[0] || l.Source != u[1] {
				continue
			}
			known = true
			switch {
			case l.State == "missing": // reported already
			case l.Error != "":
				add(doctor.Warn, "curl -fsSo /dev/null "+doctor.Quote(l.Source), "the list of authority %s at %s is %s, and was not taken: %s", l.Authority, l.Source, l.State, l.Error)
			case l.State != "fresh":
				add(doctor.Warn, "", "the list of authority %s at %s is %s: the CA must publish the next one there", l.Authority, l.Source, l.State)
			}
		}
		if !known {
			fix := "sslgate reload"
			if socket := rt.Config.Admin.Socket; socket != config.DefaultSocket {
				fix += " --socket " + doctor.Quote(socket)
			}
			add(doctor.Warn, fix, "the running gateway does not fetch the list of authority %s at %s yet", u[0], u[1])
		}
	}
	if found == nil && urls != nil {
		add(doctor.Good, "", "%s fetched by URL, all fresh", count(len(urls), "revocation list"))
	}
	return found
}

func printFindings(w io.Writer, found []doctor.Finding, asJSON bool) error {
	bad := 0
	for _, f := range found {
		if f.Level != doctor.Good {
			bad++
		}
		var err error
		if asJSON {
			err = writeJSON(w, f)
		} else {
			err = printHanging(w, fmt.Sprintf("%-4s  %-12s  ", f.Level, f.Check), strings.Repeat(" ", 20), escape.String(f.Text, 2000))
			// A command stays on its line, so that it can be copied.
			if err == nil && f.Fix != "" {
				_, err = fmt.Fprintf(w, "%20s%s\n", "", escape.String(f.Fix, 2000))
			}
		}
		if err != nil {
			return err
		}
	}
	if asJSON {
		return nil
	}
	_, err := fmt.Fprintf(w, "%s\n", count(bad, "finding"))
	return err
}

// built returns the time of the commit that sslgate was built from; zero if unknown.
func built() time.Time {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return time.Time{}
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.time" {
			if t, err := time.Parse(time.RFC3339, s.Value); err == nil {
				return t
			}
		}
	}
	return time.Time{}
}
