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

A directory or a web server needs no such command: copy --dir there, blobs first.`,
		Example: "  sslgate fleet push --cert ci.pem --key ci.key --ca etcd-ca.pem etcd://e1.example:2379,e2.example:2379/sslgate/acme",
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
