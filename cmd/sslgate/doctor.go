package main

import (
	"fmt"
	"io"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/config"
	"github.com/sslgate/sslgate/internal/doctor"
	"github.com/sslgate/sslgate/internal/escape"
)

// newDoctorCmd is `sslgate doctor`.
func newDoctorCmd(stdout io.Writer) *cobra.Command {
	var file string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "doctor [-c FILE]",
		Short: "Say what of this host stands in the gateway's way, and what mends it",
		Long: `Look at the host: TUN, capabilities, nftables, forwarding, reverse path filter,
receive and segmentation offload of the captured interfaces, rules and routes
that lead captured traffic elsewhere, guard, connection tracking, ports, file
limits, admin socket, clock; with -c also at the configuration and at
certificates near their end. For each finding the command that mends it is
printed. Nothing is changed. Run it as root: some of it cannot be seen otherwise.

Exit code 0: all is well. 1: there are findings. 2: wrong usage.`,
		Example: "  sudo sslgate doctor -c sslgate.yaml",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			o := doctor.Options{File: file, Built: built()}
			var found []doctor.Finding
			if file != "" {
				o.Config, found = doctorConfig(file)
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
	cmd.Flags().StringVarP(&file, "config", "c", "", "configuration `FILE`")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object a finding")
	return cmd
}

// doctorConfig reads the configuration; its mistakes and warnings, such as
// certificates near their end, are findings too.
func doctorConfig(file string) (*config.Config, []doctor.Finding) {
	rt, mistakes := config.Check(file, handshake.NewStdEngine())
	var found []doctor.Finding
	for _, m := range mistakes {
		f := doctor.Finding{Check: "config", Level: doctor.Fail, Text: m.String(), Fix: "sslgate check -c " + doctor.Quote(file)}
		if m.Warning {
			f.Level = doctor.Warn
		}
		found = append(found, f)
	}
	if rt != nil {
		if len(found) == 0 {
			found = append(found, doctor.Finding{Check: "config", Level: doctor.Good, Text: file + " can be used, no certificate is near its end"})
		}
		return rt.Config, found
	}
	c, _ := config.LoadCapture(file) // nil where even that cannot be read
	return c, found
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
			_, err = fmt.Fprintf(w, "%-4s  %-12s  %s\n", f.Level, f.Check, escape.String(f.Text, 2000))
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

// built is when the commit was made that sslgate was built of; zero if unknown.
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
