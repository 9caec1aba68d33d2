package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/sslgate/sslgate/internal/fileset"
	"github.com/sslgate/sslgate/internal/pki"
	"github.com/sslgate/sslgate/internal/signer"
)

// maxKeyFile is the size of a key's file in bytes.
const maxKeyFile = 1 << 20

// signerOptions are the flags of `sslgate signer`.
type signerOptions struct {
	socket     string
	keys       []string
	passphrase string
	users      []string
}

// newSignerCmd is `sslgate signer`.
func newSignerCmd(stdout io.Writer) *cobra.Command {
	var o signerOptions
	cmd := &cobra.Command{
		Use:   "signer --socket SOCKET --key FILE",
		Short: "Sign for a gateway that shall not have the key",
		Long: `Have private keys in a process of their own, and sign with them for gateways
whose configuration says "key: signer:SOCKET". Only digests of TLS's signature
schemes are signed, and the keys are never given away; no core dump has them.
It may run as another user than the gateway, as sslgate-signer.service does.
docs/signer.md has the protocol, so that others can write signers too: for a
hardware module there is one in signers/pkcs11.`,
		Example: "  sslgate signer --socket /run/signer/s.sock --key pay.key --user sslgate\n  sslgate signer --socket s.sock --key pay.key --passphrase credential:pay",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := signer.Undumpable(); err != nil {
				return &exitError{code: 1, err: err}
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			return o.run(ctx, stdout)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.socket, "socket", "", "listen on this Unix socket")
	f.StringArrayVar(&o.keys, "key", nil, "sign with this private key, a PEM file, credential:NAME or env:NAME; may be repeated")
	f.StringVar(&o.passphrase, "passphrase", "", "where the passphrase of encrypted keys stands: a file, credential:NAME or env:NAME")
	f.StringArrayVar(&o.users, "user", nil, "a user, by name or number, whose processes may ask, besides root and the own; may be repeated")
	for _, name := range []string{"socket", "key"} {
		if err := cmd.MarkFlagRequired(name); err != nil {
			panic(err)
		}
	}
	return cmd
}

func (o *signerOptions) run(ctx context.Context, stdout io.Writer) error {
	keys, err := o.load(ctx)
	if err != nil {
		return &exitError{code: 1, err: err}
	}
	var users []uint32
	for _, who := range o.users {
		uid, err := signer.UserOf(who)
		if err != nil {
			return &exitError{code: 1, err: err}
		}
		users = append(users, uid)
	}
	s, err := signer.NewServer(keys, users...)
	if err != nil {
		return &exitError{code: 1, err: err}
	}
	ln, err := signer.Listen(o.socket)
	if err != nil {
		return &exitError{code: 1, err: err}
	}
	if err := say(stdout, "signs on %s with %s", o.socket, count(len(keys), "key")); err != nil {
		return errors.Join(err, ln.Close())
	}
	return s.Serve(ctx, ln)
}

// load reads the keys.
func (o *signerOptions) load(ctx context.Context) ([]signer.Key, error) {
	var passphrase []byte
	if o.passphrase != "" {
		f, err := fileset.Disk{}.Read(ctx, fileset.Place(".", o.passphrase), maxKeyFile, nil)
		if err != nil {
			return nil, err
		}
		if f.Mode.Perm()&0o007 != 0 {
			return nil, fmt.Errorf("%s is open to everyone (mode %04o): chmod o= %[1]s", o.passphrase, f.Mode.Perm())
		}
		passphrase = pki.Passphrase(f.Text)
		defer clear(passphrase)
	}
	var keys []signer.Key
	for _, name := range o.keys {
		f, err := fileset.Disk{}.Read(ctx, fileset.Place(".", name), maxKeyFile, nil)
		if err != nil {
			return nil, err
		}
		key, _, err := pki.DecryptKey(f.Text, passphrase)
		clear(f.Text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if f.Mode.Perm()&0o007 != 0 {
			return nil, fmt.Errorf("%s is open to everyone (mode %04o): chmod o= %[1]s", name, f.Mode.Perm())
		}
		keys = append(keys, signer.Key{Signer: key})
	}
	return keys, nil
}
