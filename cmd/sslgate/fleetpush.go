package main

import (
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/sslgate/sslgate/internal/fleet/author"
	"github.com/sslgate/sslgate/internal/fleet/etcd"
	"github.com/sslgate/sslgate/internal/fleet/member"
)

func newFleetPushCmd(stdout io.Writer, f *fleetFlags) *cobra.Command {
	var root string
	var files member.Files
	cmd := &cobra.Command{
		Use:   "push etcd://HOST:PORT[,HOST:PORT]/PREFIX",
		Short: "Write the bundle of --dir to an etcd",
		Long: `Write the bundle of --dir to an etcd, from which gateways take it: fleet.source
is the same place. It is verified as "sslgate fleet verify" does before anything
is written, and the bundle itself is written last, if what was there has not
changed meanwhile. What gateways would not take after what is there is refused.
What is there already is not written again: push once more after a failure.

A directory or a web server needs no such command: copy --dir there, blobs
first.`,
		Example: "  sslgate fleet push --cert ci.pem --key ci.key etcd://e1.example:2379/acme",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := etcd.Check(args[0]); err != nil {
				return usageError(cmd, "%q %v", args[0], err)
			}
			if (files.Certificate == "") != (files.Key == "") {
				return usageError(cmd, "--cert and --key belong together")
			}
			cred, err := member.ReadCredentials(files)
			if err != nil {
				return &exitError{1, err}
			}
			store, err := member.OpenEtcd(args[0], cred)
			if err != nil {
				return &exitError{1, err}
			}
			defer store.Close()
			res, err := author.Push(cmd.Context(), f.dir, root, store, time.Now())
			if err != nil {
				return fleetExit(err)
			}
			if f.json {
				return writeJSON(stdout, res)
			}
			if res.Same {
				return say(stdout, "epoch %d of fleet %s was there already, with %s", res.Epoch, res.Fleet, count(res.Files, "file"))
			}
			return say(stdout, "epoch %d of fleet %s, after %d: %s", res.Epoch, res.Fleet, res.Before, count(res.Files, "file"))
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&root, "root", "", "`FILE` of the root that gateways were given; default the first of the directory")
	fl.StringVar(&files.Certificate, "cert", "", "`FILE` of the client certificate")
	fl.StringVar(&files.Key, "key", "", "`FILE` of its private key")
	fl.StringVar(&files.CA, "ca", "", "`FILE` of the roots that etcd is verified by; default those of the system")
	return cmd
}

func newFleetRevokeCmd(stdout io.Writer, f *fleetFlags) *cobra.Command {
	var o author.RevokeOptions
	cmd := &cobra.Command{
		Use:   "revoke SERIAL|SPKI|SUBJECT...",
		Short: "Add certificates to what all gateways refuse",
		Long: `Add certificates to what all gateways refuse: by serial number (hexadecimal), by
the SHA-256 of their public key (64 hexadecimal digits), or by subject. Whoever
has issued them, whatever the CRLs say: new flows are refused, live flows end,
and tickets are not taken.

The list is revoked.json in --dir, signed by revoke keys. Those are online keys:
they add to the list, and gateways take no list that has less than the one
before. "sslgate fleet push" writes it to an etcd, whose gateways have it at
once; from elsewhere they take it at their next look.`,
		Example: `  sslgate fleet revoke --key fleet-keys/revoke-1.key 4f:3a:99 'CN=alice'
  sslgate fleet push etcd://e1.example:2379/sslgate/acme`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(o.Keys) == 0 {
				return usageError(cmd, "which key signs? --key FILE")
			}
			o.Entries = args
			res, err := author.Revoke(f.dir, o)
			if err != nil {
				return fleetExit(err)
			}
			if f.json {
				return writeJSON(stdout, res)
			}
			return say(stdout, "list %d of fleet %s: %s, %s, %s: %s", res.Number, res.Fleet,
				count(res.Serials, "serial number"), count(res.Keys, "public key"), count(res.Subjects, "subject"), res.File)
		},
	}
	cmd.Flags().StringArrayVar(&o.Keys, "key", nil, "`FILE` of a private revoke key; may be repeated")
	return cmd
}
