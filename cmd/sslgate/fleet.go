package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sslgate/sslgate/handshake/engines"
	"github.com/sslgate/sslgate/internal/config"
	"github.com/sslgate/sslgate/internal/escape"
	"github.com/sslgate/sslgate/internal/fleet/author"
	"github.com/sslgate/sslgate/internal/fleet/seal"
	"github.com/sslgate/sslgate/internal/readfile"
)

// fleetFlags are shared by the commands under `sslgate fleet`.
type fleetFlags struct {
	dir  string
	json bool
}

func newFleetCmd(stdout, stderr io.Writer) *cobra.Command {
	f := &fleetFlags{}
	cmd := &cobra.Command{
		Use:   "fleet",
		Short: "One signed policy for many gateways",
		Long: `One signed policy for many gateways.

A bundle is a configuration with every file it names, numbered by an epoch that
only grows and signed by policy keys. It lies in one directory (--dir), which
may be copied anywhere, by anybody: each gateway takes what is signed, newer
than what it has seen, and for its site, and nothing else.

Private keys are in no bundle. Keep those that sign on no gateway.`,
		Example: `  sslgate fleet init acme --policy 2/3
  sslgate fleet sign --key fleet-keys/policy-1.key --site berlin sslgate.yaml
  sslgate fleet sign --key fleet-keys/policy-2.key
  sslgate fleet verify --root root.json fleet`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.SetOut(stdout)
	cmd.SetErr(stderr)
	cmd.PersistentFlags().StringVar(&f.dir, "dir", "./fleet", "`DIR`ectory of the fleet")
	cmd.PersistentFlags().BoolVar(&f.json, "json", false, "print one JSON object instead of text")
	cmd.AddCommand(newFleetInitCmd(stdout, f), newFleetSignCmd(stdout, f), newFleetRotateCmd(stdout, f), newFleetPushCmd(stdout, f), newFleetRevokeCmd(stdout, f), newFleetVerifyCmd(stdout, f), newFleetDiffCmd(stdout, f))
	return cmd
}

func newFleetInitCmd(stdout io.Writer, f *fleetFlags) *cobra.Command {
	var o author.InitOptions
	var root, policy, revoke string
	cmd := &cobra.Command{
		Use:   "init NAME",
		Short: "Make the keys of a fleet, and the root that names them",
		Long: `Make the keys of a fleet, and the root that names them.

NAME is that of the fleet: lower-case letters, digits and hyphens. The root,
root/1.json below --dir, goes to each gateway by hand. The private keys go to
--keys, mode 0600: give each to another person, and keep the root keys offline.
Nothing that is there is overwritten.`,
		Example: "  sslgate fleet init acme --root 2/3 --policy 2/3 --kind ml-dsa-65",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			o.Fleet = args[0]
			if o.Root, err = author.ParseQuorum(root); err != nil {
				return usageError(cmd, "--root %v", err)
			}
			if o.Policy, err = author.ParseQuorum(policy); err != nil {
				return usageError(cmd, "--policy %v", err)
			}
			if o.Revoke, err = author.ParseQuorum(revoke); err != nil {
				return usageError(cmd, "--revoke %v", err)
			}
			if !seal.NameFits(o.Fleet) {
				return usageError(cmd, "%q cannot be the name of a fleet: lower-case letters, digits and hyphens, at most 63", o.Fleet)
			}
			res, err := author.Init(f.dir, o)
			if err != nil {
				return fleetExit(err)
			}
			if f.json {
				return writeJSON(stdout, res)
			}
			if err := say(stdout, "fleet %s: %s", res.Fleet, res.Root); err != nil {
				return err
			}
			for _, k := range res.Keys {
				if err := say(stdout, "%-6s %s %.12s %s", k.Role, k.Kind, k.ID, k.File); err != nil {
					return err
				}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&root, "root", "1/1", "`K/N`: of N root keys K must sign the next root")
	cmd.Flags().StringVar(&policy, "policy", "1/1", "`K/N`: of N policy keys K must sign a bundle")
	cmd.Flags().StringVar(&revoke, "revoke", "1/1", "`K/N`: of N online keys K must sign what is revoked besides CRLs")
	cmd.Flags().StringVar(&o.Kind, "kind", seal.Kinds()[0], "`KIND` of the keys: "+strings.Join(seal.Kinds(), ", "))
	cmd.Flags().StringVar(&o.KeyDir, "keys", "./fleet-keys", "`DIR`ectory of the private keys")
	return cmd
}

func newFleetSignCmd(stdout io.Writer, f *fleetFlags) *cobra.Command {
	var o author.SignOptions
	var sites []string
	var days int
	var gateway string
	cmd := &cobra.Command{
		Use:   "sign [FILE]",
		Short: "Sign a configuration as the fleet's next epoch",
		Long: `Sign a configuration as the fleet's next epoch.

FILE is an sslgate.yaml with what all gateways share. Every file that it names
by a relative path goes into the bundle; those with an absolute path are each
gateway's own, private keys above all. A site may have files of its own beside
those of all, or in their place: --site berlin=DIR. What "sslgate check" refuses
is not signed.

Where the list of what "sslgate fleet revoke" revokes is full, or a thief of its
keys has filled it, --revoked-anew has it begin anew: only policy keys can.

Where more than one key must sign, the bundle waits in next.json; without FILE
its signatures are added to. With enough of them it becomes bundle.json, and is
kept as epochs/EPOCH.json: put that in the place of bundle.json to go back to
it, where a later one was signed with --rollback-to.

Exit code 0: it was signed. 1: it failed. 2: check refuses the configuration.`,
		Example: `  sslgate fleet sign --key a.key --site berlin --site oslo=oslo sslgate.yaml
  sslgate fleet sign --key b.key`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				o.Config = args[0]
			}
			if err := signUsage(cmd, &o, sites, days); err != nil {
				return err
			}
			o.Gateway = config.StandInHost()
			if gateway != "" {
				_, text, err := readfile.All(cmd.Context(), gateway, 8<<20, nil)
				if err != nil {
					return &exitError{1, err}
				}
				o.Gateway = text
			}
			o.Engine, o.Now = engines.New(), time.Now()
			res, err := author.Sign(cmd.Context(), f.dir, o)
			if err != nil {
				return fleetExit(err)
			}
			if f.json {
				return writeJSON(stdout, res)
			}
			state := "published"
			if res.Signed < res.Needed {
				state = fmt.Sprintf("waits for %d more", res.Needed-res.Signed)
			}
			err = say(stdout, "epoch %d of fleet %s (manifest %.12s): %s, %s %s", res.Epoch, res.Fleet, res.Manifest,
				count(res.Files, "file"), plural(len(res.Sites), "site"), strings.Join(res.Sites, ", "))
			if err != nil {
				return err
			}
			return say(stdout, "signed by %d of %d: %s, %s", res.Signed, res.Needed, res.File, state)
		},
	}
	fl := cmd.Flags()
	fl.StringArrayVar(&o.Keys, "key", nil, "`FILE` of a private policy key; may be repeated")
	fl.StringArrayVar(&sites, "site", nil, "`SITE` or SITE=DIR of the bundle; may be repeated")
	fl.Int64SliceVar(&o.RollbackTo, "rollback-to", nil, "older `EPOCH`s that gateways may go back to from this one")
	fl.IntVar(&days, "days", 0, "`NUMBER` of days in which gateways take it; 0 for ever")
	fl.StringVar(&o.RevokedAnew, "revoked-anew", "", "`FILE` of entries, one a line, that the list of what is revoked begins anew with")
	fl.StringVar(&o.MinVersion, "min-version", "", "oldest sslgate `VERSION` that may take it")
	fl.StringVar(&gateway, "gateway", "", "a gateway's own `FILE` to check the configuration with; default one that captures all ports")
	return cmd
}

func signUsage(cmd *cobra.Command, o *author.SignOptions, sites []string, days int) error {
	if len(o.Keys) == 0 {
		return usageError(cmd, "which key signs? --key FILE")
	}
	for _, s := range sites {
		name, dir, _ := strings.Cut(s, "=")
		if !seal.NameFits(name) {
			return usageError(cmd, "--site %q: lower-case letters, digits and hyphens, at most 63", name)
		}
		o.Sites = append(o.Sites, author.Site{Name: name, Dir: dir})
	}
	if o.Config != "" && len(o.Sites) == 0 {
		return usageError(cmd, "for which sites? --site NAME")
	}
	if o.Config == "" {
		for _, flag := range []string{"site", "rollback-to", "days", "min-version", "revoked-anew"} {
			if cmd.Flags().Changed(flag) {
				return usageError(cmd, "--%s needs FILE", flag)
			}
		}
	}
	if days < 0 || days > maxDays {
		return usageError(cmd, "--days %d: from 0 to %d days are possible", days, maxDays)
	}
	o.Life = time.Duration(days) * 24 * time.Hour
	return nil
}

func plural(n int, what string) string {
	if n == 1 {
		return what
	}
	return what + "s"
}

func newFleetVerifyCmd(stdout io.Writer, f *fleetFlags) *cobra.Command {
	var root string
	cmd := &cobra.Command{
		Use:   "verify [DIR]",
		Short: "Say whether gateways would take the bundle of a directory",
		Long: `Say whether gateways that have seen nothing would take the bundle of a directory
(default --dir): roots from --root on, signatures, bounds, and every file.

Exit code 0: they would. 1: they would not, and the word before the colon is the
reason that a gateway's log and status have.`,
		Example: "  sslgate fleet verify --root root.json fleet",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			dir := f.dir
			if len(args) == 1 {
				dir = args[0]
			}
			res, err := author.Verify(dir, root, time.Now())
			if err != nil {
				return fleetExit(err)
			}
			if f.json {
				return writeJSON(stdout, res)
			}
			until := ""
			if res.NotAfter != "" {
				until = ", to be taken until " + res.NotAfter
			}
			return say(stdout, "epoch %d of fleet %s (manifest %.12s, root %d): %s, %s %s%s", res.Epoch, res.Fleet, res.Manifest, res.Root,
				count(res.Files, "file"), plural(len(res.Sites), "site"), strings.Join(res.Sites, ", "), until)
		},
	}
	cmd.Flags().StringVar(&root, "root", "", "`FILE` of the root that gateways were given; default the first of the directory, which proves nothing")
	return cmd
}

func newFleetDiffCmd(stdout io.Writer, f *fleetFlags) *cobra.Command {
	var root string
	cmd := &cobra.Command{
		Use:   "diff OLD NEW",
		Short: "Say what differs between the bundles of two directories",
		Long: `Say what differs between the bundles of two directories, file by file and line
by line. Both are verified first.

Exit code 0: nothing differs. 1: something does, or it failed.`,
		Example: "  sslgate fleet diff fleet.before fleet",
		Args:    cobra.ExactArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			before, after, changes, err := author.Diff(args[0], args[1], root)
			if err != nil {
				return fleetExit(err)
			}
			if f.json {
				if changes == nil {
					changes = []author.Change{}
				}
				err = writeJSON(stdout, struct {
					Before  int64           `json:"before"`
					After   int64           `json:"after"`
					Changes []author.Change `json:"changes"`
				}{before, after, changes})
			} else {
				err = printDiff(stdout, before, after, changes)
			}
			if err == nil && len(changes) > 0 {
				err = &exitError{code: 1}
			}
			return err
		},
	}
	cmd.Flags().StringVar(&root, "root", "", "`FILE` of the root that gateways were given; default the first of OLD")
	return cmd
}

func printDiff(w io.Writer, before, after int64, changes []author.Change) error {
	if err := say(w, "epoch %d -> %d: %s", before, after, count(len(changes), "file")); err != nil {
		return err
	}
	for _, c := range changes {
		site := "all sites"
		if c.Site != "" {
			site = "site " + c.Site
		}
		if err := say(w, "%s: %s (%s)", c.What, c.File, site); err != nil {
			return err
		}
		for line := range strings.Lines(c.Diff) {
			if strings.HasPrefix(line, "diff ") {
				continue
			}
			if _, err := fmt.Fprintf(w, "  %s\n", escape.Shown(strings.TrimRight(line, "\n"), 4096)); err != nil {
				return err
			}
		}
	}
	return nil
}

// fleetExit puts the exit code to an error: 2 where check refuses the configuration.
func fleetExit(err error) error {
	var refused *author.CheckError
	if errors.As(err, &refused) {
		return &exitError{2, err}
	}
	return &exitError{1, err}
}
