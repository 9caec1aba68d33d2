package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/handshake/engines"
	"github.com/sslgate/sslgate/internal/diagram"
)

// profileJSON is what `profiles --json` prints of one profile. The names are
// stable.
type profileJSON struct {
	Name    string        `json:"name"`
	Source  string        `json:"source"`
	Demands []demandJSON  `json:"demands"`
	Cannot  []profileGaps `json:"cannot"` // engine: std
	Native  []profileGaps `json:"cannot_native"`
	dials   bool          // the native engine goes to destinations with it
}

// demandJSON is one demand with its values, in the profile's order.
type demandJSON struct {
	Demand string   `json:"demand"`
	Values []string `json:"values"`
}

// profileGaps is one demand that an engine cannot meet.
type profileGaps struct {
	Demand string `json:"demand"`
	Why    string `json:"why"`
}

func newProfilesCmd(stdout io.Writer) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "profiles [NAME]",
		Short: "Show the named profiles of cryptography, and what cannot be kept",
		Example: `  sslgate profiles
  sslgate profiles intermediate`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			all := handshake.NamedProfiles()
			if len(args) == 1 {
				p, err := namedProfile(args[0])
				if err != nil {
					return &exitError{2, err}
				}
				all = []handshake.Profile{p}
			}
			engine := engines.New()
			if asJSON {
				out := []profileJSON{}
				for i := range all {
					out = append(out, describeProfile(&all[i], engine))
				}
				return writeJSON(stdout, map[string]any{"profiles": out})
			}
			for i := range all {
				if i > 0 {
					fmt.Fprintln(stdout)
				}
				if _, err := io.WriteString(stdout, profileText(describeProfile(&all[i], engine))); err != nil {
					return err
				}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON instead of text")
	return cmd
}

// describeProfile puts a profile in words.
func describeProfile(p *handshake.Profile, engine handshake.Engine) profileJSON {
	j := profileJSON{Name: p.Name, Source: handshake.ProfileSource(p.Name), Cannot: []profileGaps{}, Native: []profileGaps{}}
	add := func(demand string, values ...string) {
		if len(values) > 0 {
			j.Demands = append(j.Demands, demandJSON{demand, values})
		}
	}
	var versions []string
	for v := p.MinVersion; v <= p.MaxVersion; v++ {
		versions = append(versions, handshake.VersionName(v))
	}
	add("versions", versions...)
	if p.Suites13 == nil {
		add("TLS 1.3", "any CipherSuite")
	}
	add("TLS 1.3", named(p.Suites13, handshake.SuiteName)...)
	add("TLS 1.2", named(p.Suites12, handshake.SuiteName)...)
	add("groups", named(p.Groups, handshake.GroupName)...)
	add("order", map[handshake.Order]string{
		handshake.OrderFast:   "by what is fast: TLS 1.2 CipherSuites with hardware first, ML-KEM first",
		handshake.OrderServer: "the profile's",
		handshake.OrderClient: "the client's",
	}[p.Order])
	if p.RequireEMS {
		add("hello", "extended_master_secret is required in TLS 1.2 (RFC 7627)")
	}
	if p.KeyTransport() {
		add("step 4", "RSA key transport is allowed: no forward secrecy, for clients that have nothing else")
	}
	add("peers sign", named(p.Signatures, handshake.SchemeName)...)
	add("peers' keys", named(p.Curves, handshake.GroupName)...)
	add("key sizes", fmt.Sprintf("RSA %d bits", p.MinRSABits), fmt.Sprintf("elliptic curves %d bits", p.MinECBits))
	with := handshake.Params{Profile: *p}
	for _, l := range engine.Cannot(&with) {
		j.Cannot = append(j.Cannot, profileGaps{l.What, l.Why})
	}
	with.Profile.Engine = handshake.EngineNative
	j.dials = engine.Capabilities().Of(handshake.EngineNative).Dials(p)
	for _, l := range engine.Cannot(&with) {
		j.Native = append(j.Native, profileGaps{l.What, l.Why})
	}
	return j
}

func named(ids []uint16, name func(uint16) string) []string {
	out := make([]string, len(ids))
	for i, id := range ids {
		out[i] = name(id)
	}
	return out
}

// profileText is a table: the demand once, each value on a line of its own.
func profileText(j profileJSON) string {
	var b strings.Builder
	b.WriteString(diagram.Field("profile", j.Name))
	b.WriteString(diagram.Field("source", j.Source))
	for _, d := range j.Demands {
		for i, v := range d.Values {
			if i > 0 {
				d.Demand = ""
			}
			b.WriteString(diagram.Field(d.Demand, v))
		}
	}
	for _, c := range j.Cannot {
		b.WriteString(diagram.Field("cannot keep", c.Demand+": "+c.Why))
	}
	if len(j.Cannot) == 0 {
		b.WriteString(diagram.Field("kept", "all of it, by Go's crypto/tls"))
		return b.String()
	}
	for _, c := range j.Native {
		b.WriteString(diagram.Field("native lacks", c.Demand+": "+c.Why))
	}
	if len(j.Native) == 0 {
		whom := "all of it, towards clients"
		if j.dials {
			whom = "all of it, on both legs"
		}
		b.WriteString(diagram.Field("native keeps", whom+": a profile of your own with base: "+j.Name+" and engine: native"))
	}
	return b.String()
}
