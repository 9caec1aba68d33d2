package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sslgate/sslgate/internal/pki"
)

// pkiFlags are shared by the commands under `sslgate pki`.
type pkiFlags struct {
	dir  string
	json bool
}

func newPKICmd(stdout, stderr io.Writer) *cobra.Command {
	f := &pkiFlags{}
	cmd := &cobra.Command{
		Use:   "pki",
		Short: "A small certificate authority for trying things out",
		Long: `A small certificate authority for trying things out.

It lives in one directory (--dir): ca.pem is its certificate, for all who must
trust it; ca.key its key, for nobody; crl.pem its newest revocation list;
index.jsonl what it issued. Certificates and keys it makes lie beside them. It
never overwrites what is there.`,
		Example: `  sslgate pki init
  sslgate pki issue app.example.org 192.0.2.10
  sslgate pki issue spiffe://example.org/pay
  sslgate pki revoke pki/example.org_pay.pem
  sslgate pki show pki/crl.pem`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.SetOut(stdout)
	cmd.SetErr(stderr)
	cmd.PersistentFlags().StringVar(&f.dir, "dir", "./"+pki.DefaultDir, "`DIR`ectory of the CA")
	cmd.PersistentFlags().BoolVar(&f.json, "json", false, "print one JSON object instead of text")
	cmd.AddCommand(newPKIInitCmd(stdout, f), newPKIIssueCmd(stdout, f), newPKIRevokeCmd(stdout, f), newPKICRLCmd(stdout, f), newPKIShowCmd(stdout, f))
	return cmd
}

func newPKIInitCmd(stdout io.Writer, f *pkiFlags) *cobra.Command {
	var o pki.InitOptions
	var days int
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Make a CA: key, certificate and an empty revocation list",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			var err error
			if o.Life, err = lifetime(days); err != nil {
				return pkiExit(err)
			}
			res, err := pki.Init(f.dir, o)
			if err != nil {
				return pkiExit(err)
			}
			if f.json {
				return writeJSON(stdout, res)
			}
			return printInit(stdout, f, res)
		},
	}
	cmd.Flags().StringVar(&o.Name, "name", "", `name (CN) of the CA; default "sslgate CA" and 8 random hex digits`)
	cmd.Flags().StringVar(&o.Org, "org", "", "organization (O) of the CA")
	keyFlag(cmd, &o.Key)
	cmd.Flags().IntVar(&days, "days", 3650, "how long it is valid, a `NUMBER` of days")
	return cmd
}

func newPKIIssueCmd(stdout io.Writer, f *pkiFlags) *cobra.Command {
	var o pki.IssueOptions
	var days int
	cmd := &cobra.Command{
		Use:   "issue NAME...",
		Short: "Issue a certificate with a new key for the names",
		Long: `Issue a certificate with a new key for the names.

A name is a DNS name (*.example.org too), an IP address, an e-mail address or a
URI such as a SPIFFE ID; its form tells which. Where that is not enough, put
dns:, ip:, email: or uri: before it. The certificate is for servers if all names
are DNS names or addresses, else for clients; --client and --server (or both)
say it themselves.`,
		Example: `  sslgate pki issue app.example.org 192.0.2.10
  sslgate pki issue spiffe://example.org/pay
  sslgate pki issue --client --server gateway.example.org`,
		Args: cobra.ArbitraryArgs,
		RunE: func(_ *cobra.Command, args []string) error {
			var err error
			if o.Life, err = lifetime(days); err != nil {
				return pkiExit(err)
			}
			o.Names = args
			res, err := pki.Issue(f.dir, o)
			if err != nil {
				return pkiExit(err)
			}
			if f.json {
				return writeJSON(stdout, res)
			}
			return printIssue(stdout, f, res)
		},
	}
	fl := cmd.Flags()
	fl.BoolVar(&o.Client, "client", false, "for clients (extended key usage clientAuth)")
	fl.BoolVar(&o.Server, "server", false, "for servers (extended key usage serverAuth)")
	fl.StringVar(&o.CN, "cn", "", "common `NAME` (CN) in the subject; default the first name that fits")
	fl.StringArrayVar(&o.Org, "org", nil, "organization `NAME` (O) in the subject; may be repeated")
	fl.StringArrayVar(&o.OU, "ou", nil, "organizational `UNIT` (OU) in the subject; may be repeated")
	keyFlag(cmd, &o.Key)
	fl.IntVar(&days, "days", 90, "how long it is valid, a `NUMBER` of days")
	fl.StringVar(&o.Out, "out", "", "`DIR`ectory the files are written to; default that of the CA")
	fl.StringVar(&o.File, "file", "", "`NAME` of the files, without ending; default made from the first name")
	return cmd
}

func newPKIRevokeCmd(stdout io.Writer, f *pkiFlags) *cobra.Command {
	var o pki.RevokeOptions
	cmd := &cobra.Command{
		Use:   "revoke FILE | revoke --serial HEX",
		Short: "Revoke a certificate and sign a new revocation list",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 1 {
				o.File = args[0]
			}
			res, err := pki.Revoke(f.dir, o)
			if err != nil {
				return pkiExit(err)
			}
			if f.json {
				return writeJSON(stdout, res)
			}
			return printRevoke(stdout, res)
		},
	}
	cmd.Flags().StringVar(&o.Serial, "serial", "", "serial number in `HEX`, as \"pki show\" prints it, instead of a file")
	cmd.Flags().StringVar(&o.Reason, "reason", "", "`WORD` for why: "+strings.Join(pki.Reasons(), ", "))
	return cmd
}

func newPKICRLCmd(stdout io.Writer, f *pkiFlags) *cobra.Command {
	var days int
	cmd := &cobra.Command{
		Use:   "crl",
		Short: "Sign a new revocation list, before the old one gets stale",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			life, err := lifetime(days)
			if err != nil {
				return pkiExit(err)
			}
			res, err := pki.CRL(f.dir, pki.CRLOptions{Life: life})
			if err != nil {
				return pkiExit(err)
			}
			if f.json {
				return writeJSON(stdout, res)
			}
			return printCRL(stdout, res)
		},
	}
	cmd.Flags().IntVar(&days, "days", 30, "`NUMBER` of days until the next one is due")
	return cmd
}

func newPKIShowCmd(stdout io.Writer, f *pkiFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "show FILE...",
		Short: "Describe certificates, requests, revocation lists and keys",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			return showFiles(stdout, f, args)
		},
	}
}

func keyFlag(cmd *cobra.Command, key *string) {
	kinds := pki.KeyKinds()
	cmd.Flags().StringVar(key, "key", kinds[0], "`KIND` of key: "+strings.Join(kinds, ", "))
}

// maxDays bounds a validity: 100 years, within what a time.Duration holds and
// what certificates before the year 10000 can say.
const maxDays = 36500

func lifetime(days int) (time.Duration, error) {
	if days < 1 || days > maxDays {
		return 0, &exitError{2, fmt.Errorf("--days %d: from 1 to %d days are possible", days, maxDays)}
	}
	return time.Duration(days) * 24 * time.Hour, nil
}

// pkiExit puts the exit code to an error: 2 for a mistake in what was typed,
// 1 for everything else.
func pkiExit(err error) error {
	var done *exitError
	var usage *pki.UsageError
	switch {
	case errors.As(err, &done):
		return err
	case errors.As(err, &usage):
		return &exitError{2, err}
	}
	return &exitError{1, err}
}
