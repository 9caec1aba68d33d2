package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/sslgate/sslgate/internal/escape"
	"github.com/sslgate/sslgate/internal/fleet/author"
	"github.com/sslgate/sslgate/internal/fleet/bundle"
	"github.com/sslgate/sslgate/internal/fleet/etcd"
	"github.com/sslgate/sslgate/internal/fleet/member"
)

// etcdFlags say how an etcd is reached.
type etcdFlags struct{ files member.Files }

// add adds the flags; key is the name of the one for the private key.
func (e *etcdFlags) add(fl *pflag.FlagSet, key string) {
	fl.StringVar(&e.files.Certificate, "cert", "", "`FILE` of the client certificate for etcd")
	fl.StringVar(&e.files.Key, key, "", "`FILE` of its private key")
	fl.StringVar(&e.files.CA, "ca", "", "`FILE` of the roots that etcd is verified by; default those of the system")
}

// check says what is wrong with a place and the flags.
func (e *etcdFlags) check(cmd *cobra.Command, place, key string) error {
	if err := etcd.Check(place); err != nil {
		return usageError(cmd, "%q %v", place, err)
	}
	if (e.files.Certificate == "") != (e.files.Key == "") {
		return usageError(cmd, "--cert and --%s belong together", key)
	}
	return nil
}

// open opens the etcd.
func (e *etcdFlags) open(place string) (*etcd.Store, error) {
	cred, err := member.ReadCredentials(e.files)
	if err != nil {
		return nil, err
	}
	return member.OpenEtcd(place, cred)
}

func newFleetPushCmd(stdout io.Writer, f *fleetFlags) *cobra.Command {
	var root string
	var at etcdFlags
	var revoked bool
	cmd := &cobra.Command{
		Use:   "push etcd://HOST:PORT[,HOST:PORT]/PREFIX",
		Short: "Write the bundle of --dir to an etcd",
		Long: `Write the bundle of --dir to an etcd, from which gateways take it: fleet.source
is the same place. It is verified as "sslgate fleet verify" does before anything
is written, and the bundle itself is written last, if what was there has not
changed meanwhile. What gateways would not take after what is there is refused.
What is there already is not written again: push once more after a failure.

--revoked writes the list of what is revoked alone, whatever the bundle of --dir
is: an ended one, or one that waits for signatures, holds up no revocation.

A directory or a web server needs no such command: copy --dir there, blobs
first.`,
		Example: "  sslgate fleet push --cert ci.pem --key ci.key etcd://e1.example:2379/acme",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := at.check(cmd, args[0], "key"); err != nil {
				return err
			}
			store, err := at.open(args[0])
			if err != nil {
				return &exitError{1, err}
			}
			defer store.Close()
			var res *author.PushResult
			if revoked {
				res, err = author.PushRevoked(cmd.Context(), f.dir, root, store)
			} else {
				res, err = author.Push(cmd.Context(), f.dir, root, store, time.Now())
			}
			if err != nil {
				return fleetExit(err)
			}
			if f.json {
				return writeJSON(stdout, res)
			}
			return printPushed(stdout, res, revoked)
		},
	}
	cmd.Flags().StringVar(&root, "root", "", "`FILE` of the root that gateways were given; default the first of the directory")
	cmd.Flags().BoolVar(&revoked, "revoked", false, "write the list of what is revoked alone")
	at.add(cmd.Flags(), "key")
	return cmd
}

func printPushed(w io.Writer, res *author.PushResult, listAlone bool) error {
	err := error(nil)
	if res.Same && !listAlone {
		err = say(w, "epoch %d of fleet %s was there already, with %s", res.Epoch, res.Fleet, count(res.Files, "file"))
	} else if !listAlone {
		err = say(w, "epoch %d of fleet %s, after %d: %s", res.Epoch, res.Fleet, res.Before, count(res.Files, "file"))
	}
	l := res.List
	if err != nil || l == nil {
		return err
	}
	was := ""
	if l.Refused != "" {
		was = ", not written, for no gateway would take it: " + escape.Shown(l.Refused, 300)
	} else if l.Same {
		was = ", which was there already"
	}
	return say(w, "list %d of what is revoked: %s%s%s", l.Number, count(l.Entries, "certificate"), bundle.RoomLeft(l.Entries), was)
}

func newFleetRevokeCmd(stdout io.Writer, f *fleetFlags) *cobra.Command {
	var o author.RevokeOptions
	var at etcdFlags
	var push string
	cmd := &cobra.Command{
		Use:   "revoke SERIAL|SPKI|SUBJECT...",
		Short: "Add certificates to what all gateways refuse",
		Long: `Add certificates to what all gateways refuse: by serial number (hexadecimal), by
the SHA-256 of their public key (64 hexadecimal digits), or by subject. Whoever
has issued them, whatever the CRLs say: new flows are refused, live flows end,
and tickets are not taken.

The list is revoked.json in --dir, signed by revoke keys. Those are online keys:
they add to the list, and gateways take no list that has less than the one
before. --push writes it to an etcd, whose gateways have it at once; from
elsewhere they take it at their next look.`,
		Example: `  sslgate fleet revoke --key fleet-keys/revoke-1.key 4f:3a:99 'CN=alice'
  sslgate fleet push --revoked etcd://e1.example:2379/sslgate/acme`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(o.Keys) == 0 {
				return usageError(cmd, "which key signs? --key FILE")
			}
			if push != "" {
				if err := at.check(cmd, push, "cert-key"); err != nil {
					return err
				}
			}
			o.Entries = args
			res, err := author.Revoke(f.dir, o)
			if err != nil {
				return fleetExit(err)
			}
			if !f.json {
				if err := say(stdout, "list %d of fleet %s: %s, %s, %s: %s%s", res.Number, res.Fleet, count(res.Serials, "serial number"),
					count(res.Keys, "public key"), count(res.Subjects, "subject"), res.File, bundle.RoomLeft(res.Serials+res.Keys+res.Subjects)); err != nil {
					return err
				}
			}
			if push != "" {
				if err := pushList(cmd.Context(), f.dir, &at, push); err != nil {
					return &exitError{1, fmt.Errorf("%s is written, and not pushed: %w; try \"sslgate fleet push --revoked\"", res.File, err)}
				}
			}
			switch {
			case f.json:
				return writeJSON(stdout, res)
			case push != "":
				return say(stdout, "pushed")
			}
			return nil
		},
	}
	cmd.Flags().StringArrayVar(&o.Keys, "key", nil, "`FILE` of a private revoke key; may be repeated")
	cmd.Flags().StringVar(&push, "push", "", "`PLACE` of an etcd to write the list to, such as etcd://e1.example:2379/sslgate/acme")
	at.add(cmd.Flags(), "cert-key")
	return cmd
}

func pushList(ctx context.Context, dir string, at *etcdFlags, place string) error {
	store, err := at.open(place)
	if err != nil {
		return err
	}
	defer store.Close()
	_, err = author.PushRevoked(ctx, dir, "", store)
	return err
}
