package main

import (
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sslgate/sslgate/internal/fleet/author"
	"github.com/sslgate/sslgate/internal/fleet/seal"
)

func newFleetRotateCmd(stdout io.Writer, f *fleetFlags) *cobra.Command {
	var o author.RotateOptions
	var root, policy, revoke string
	cmd := &cobra.Command{
		Use:   "rotate",
		Short: "Make the root that follows, with other keys",
		Long: `Make the root that follows, with other keys.

--policy, --root and --revoke make new keys in the place of all of a role, as
"sslgate fleet init" does; --void-above 41 says that epochs above 41 were signed
with stolen keys and count for nothing. Enough root keys of the root in force
must sign, and of the next one its own. Where not all are at hand it waits in
root/next.json; without a change its signatures are added to. With enough of
them it is published, and gateways follow it by themselves.

Sign the configuration anew after that: gateways go on with the bundle they
have, and warn that its keys are gone.`,
		Example: `  sslgate fleet rotate --key fleet-keys/root-1.key --policy 2/3
  sslgate fleet rotate --key fleet-keys/root-2.key`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, q := range []struct {
				flag, text string
				to         *author.Quorum
			}{{"root", root, &o.Root}, {"policy", policy, &o.Policy}, {"revoke", revoke, &o.Revoke}} {
				if q.text == "" {
					continue
				}
				var err error
				if *q.to, err = author.ParseQuorum(q.text); err != nil {
					return usageError(cmd, "--%s %v", q.flag, err)
				}
			}
			switch {
			case len(o.Keys) == 0:
				return usageError(cmd, "which key signs? --key FILE")
			case o.VoidAbove < 0 || o.VoidAbove > seal.MaxEpoch:
				return usageError(cmd, "--void-above %d is no epoch", o.VoidAbove)
			}
			res, err := author.Rotate(f.dir, o)
			if err != nil {
				return fleetExit(err)
			}
			if f.json {
				return writeJSON(stdout, res)
			}
			return printRotated(stdout, res)
		},
	}
	fl := cmd.Flags()
	fl.StringArrayVar(&o.Keys, "key", nil, "`FILE` of a private root key; may be repeated")
	fl.StringVar(&root, "root", "", "`K/N`: N new root keys in the place of all, of which K must sign")
	fl.StringVar(&policy, "policy", "", "`K/N`: N new policy keys in the place of all, of which K must sign")
	fl.StringVar(&revoke, "revoke", "", "`K/N`: N new revoke keys in the place of all, of which K must sign")
	fl.Int64Var(&o.VoidAbove, "void-above", 0, "`EPOCH` above which all count for nothing")
	fl.StringVar(&o.Kind, "kind", seal.Kinds()[0], "`KIND` of new keys: "+strings.Join(seal.Kinds(), ", "))
	fl.StringVar(&o.KeyDir, "keys", "./fleet-keys", "`DIR`ectory of new private keys")
	return cmd
}

func printRotated(w io.Writer, res *author.RotateResult) error {
	state := "waits for more"
	if res.Published {
		state = "published"
	}
	if err := say(w, "root %d of fleet %s: %s, %s", res.Version, res.Fleet, res.File, state); err != nil {
		return err
	}
	for i, version := range []int64{res.Version - 1, res.Version} {
		if err := say(w, "signed by %d of the keys of root %d, %d must", res.Signed[i], version, res.Needed[i]); err != nil {
			return err
		}
	}
	for _, k := range res.Keys {
		if err := say(w, "%-6s %s %.12s %s", k.Role, k.Kind, k.ID, k.File); err != nil {
			return err
		}
	}
	return nil
}
