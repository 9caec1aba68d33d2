// Command pkcs11 is a signer (docs/signer.md) for keys in a hardware module that speaks
// PKCS#11: the keys never leave the module. It is a Go module of its own, because PKCS#11 is
// a C interface, and the gateway's binary has no cgo.
package main

import (
	"context"
	"crypto/rsa"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/ThalesGroup/crypto11"

	"github.com/sslgate/sslgate/internal/fileset"
	"github.com/sslgate/sslgate/internal/pki"
	"github.com/sslgate/sslgate/internal/signer"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := signer.Undumpable()
	if err == nil {
		err = run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	}
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

// options are the flags.
type options struct {
	module, token, pin, socket string
	noPSS                      bool
	labels                     []string
	users                      []uint32
}

func parse(args []string, stderr io.Writer) (o options, err error) {
	f := flag.NewFlagSet("sslgate-signer-pkcs11", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.StringVar(&o.module, "module", "", "the PKCS#11 library, such as /usr/lib/softhsm/libsofthsm2.so")
	f.StringVar(&o.token, "token", "", "label of the token")
	f.StringVar(&o.pin, "pin", "", "where the user's PIN stands: a file, credential:NAME or env:NAME")
	f.StringVar(&o.socket, "socket", "", "listen on this Unix socket")
	f.BoolVar(&o.noPSS, "no-pss", false, "the module has no RSASSA-PSS: RSA keys are then good for TLS 1.2 alone")
	f.Func("key", "label of a key to sign with; may be repeated", func(s string) error {
		o.labels = append(o.labels, s)
		return nil
	})
	f.Func("user", "a user, by name or number, whose processes may ask, besides root and the own; may be repeated", func(s string) error {
		uid, err := signer.UserOf(s)
		o.users = append(o.users, uid)
		return err
	})
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if o.module == "" || o.token == "" || o.pin == "" || o.socket == "" || len(o.labels) == 0 || f.NArg() > 0 {
		return o, errors.New("-module, -token, -pin, -socket and -key are required, and nothing else is taken")
	}
	return o, nil
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	o, err := parse(args, stderr)
	if err != nil {
		return err
	}
	pin, err := fileset.Disk{}.Read(ctx, fileset.Place(".", o.pin), 4096, nil)
	if err != nil {
		return err
	}
	secret := pki.Passphrase(pin.Text)
	defer clear(secret)
	module, err := crypto11.Configure(&crypto11.Config{Path: o.module, TokenLabel: o.token, Pin: string(secret)})
	if err != nil {
		return fmt.Errorf("open token %q by %s: %w", o.token, o.module, err)
	}
	defer func() { err = errors.Join(err, module.Close()) }()
	var keys []signer.Key
	for _, label := range o.labels {
		pair, err := module.FindKeyPair(nil, []byte(label))
		if err != nil {
			return fmt.Errorf("key %q: %w", label, err)
		}
		k := signer.Key{Signer: pair}
		if _, ok := pair.Public().(*rsa.PublicKey); ok && o.noPSS {
			k.Schemes = []tls.SignatureScheme{tls.PKCS1WithSHA256, tls.PKCS1WithSHA384, tls.PKCS1WithSHA512}
		}
		keys = append(keys, k)
	}
	s, err := signer.NewServer(keys, o.users...)
	if err != nil {
		return err
	}
	ln, err := signer.Listen(o.socket)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(stdout, "signs on %s with %d keys of token %s\n", o.socket, len(keys), o.token); err != nil {
		return errors.Join(err, ln.Close())
	}
	return s.Serve(ctx, ln)
}
