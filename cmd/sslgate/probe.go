package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/handshake/engines"
	"github.com/sslgate/sslgate/internal/fielderr"
	"github.com/sslgate/sslgate/internal/pemfile"
	"github.com/sslgate/sslgate/internal/pki"
	"github.com/sslgate/sslgate/internal/probe"
	"github.com/sslgate/sslgate/internal/readfile"
)

// probeFlags are those of `sslgate probe`.
type probeFlags struct {
	sni, cert, key, ca, against string
	timeout                     time.Duration
	asJSON                      bool
}

func newProbeCmd(stdout, stderr io.Writer) *cobra.Command {
	var f probeFlags
	cmd := &cobra.Command{
		Use:   "probe HOST:PORT",
		Short: "Find out what a TLS server accepts, sslgate being its client",
		Long: fmt.Sprintf(`Find out what a TLS server accepts: sslgate is the SSL client, draws one
handshake in its nine steps and judges the certificate chain as the gateway
would, then asks for versions, CipherSuites, groups, the client-certificate
request, resumption and refusals, with one question a connection, one after the
other, at most %d connections. No application data is sent. Probe only servers
that are yours, or whose owner agrees.

Exit code 0: the server was probed, and fits --against where that is given. 1:
it does not fit, or it could not be probed. 2: wrong usage.`, probe.MaxConnections),
		Example: `  sslgate probe pay.example:443 --against intermediate
  sslgate probe 10.0.0.7:8443 --sni pay.internal --ca ca.pem \
    --cert me.pem --key me.key`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runProbe(cmd.Context(), args[0], &f, stdout, stderr)
		},
	}
	cmd.Flags().StringVar(&f.sni, "sni", "", "server `NAME` to ask for and to verify (default: HOST)")
	cmd.Flags().StringVar(&f.cert, "cert", "", "client certificate `FILE` to try, PEM, with its intermediates")
	cmd.Flags().StringVar(&f.key, "key", "", "its private key `FILE`, PEM")
	cmd.Flags().StringVar(&f.ca, "ca", "", "trust the CA certificates in this `FILE` instead of the system's")
	cmd.Flags().StringVar(&f.against, "against", "", "say whether the server fits this named `PROFILE` (see: sslgate profiles)")
	cmd.Flags().DurationVar(&f.timeout, "timeout", time.Minute, "`DURATION` for everything together")
	cmd.Flags().BoolVar(&f.asJSON, "json", false, "print JSON instead of text")
	return cmd
}

func runProbe(ctx context.Context, address string, f *probeFlags, stdout, stderr io.Writer) error {
	o := probe.Options{Address: address, ServerName: f.sni, Timeout: f.timeout, Engine: engines.New()}
	if err := f.fill(&o); err != nil {
		return &exitError{2, err}
	}
	if !f.asJSON {
		if err := say(stderr, "probing %s: at most %d connections, one after the other, within %s", address, probe.MaxConnections, f.timeout); err != nil {
			return err
		}
	}
	r, err := probe.Run(ctx, o)
	if errors.Is(err, probe.ErrOptions) {
		return &exitError{2, err}
	}
	if err != nil {
		return &exitError{1, err}
	}
	if f.asJSON {
		if err := writeJSON(stdout, r); err != nil {
			return err
		}
	} else if _, err := io.WriteString(stdout, r.Text()); err != nil {
		return err
	}
	if r.Fit != nil && !r.Fit.Fits {
		return &exitError{code: 1}
	}
	return nil
}

// fill reads the files that the flags name.
func (f *probeFlags) fill(o *probe.Options) error {
	if f.timeout <= 0 {
		return fmt.Errorf("--timeout %s is no time", f.timeout)
	}
	if f.against != "" {
		pr, err := namedProfile(f.against)
		if err != nil {
			return err
		}
		o.Against = &pr
	}
	if f.ca != "" {
		roots, err := certificates(f.ca)
		if err != nil {
			return err
		}
		o.Roots = roots
	}
	if (f.cert == "") != (f.key == "") {
		return errors.New("--cert and --key belong together")
	}
	if f.cert == "" {
		return nil
	}
	chain, err := readChain(f.cert)
	if err != nil {
		return err
	}
	_, data, err := readfile.All(context.Background(), f.key, maxChainFile, nil)
	if err != nil {
		return err
	}
	key, err := pki.ParseKey(data)
	if err != nil {
		return fmt.Errorf("%s: %w", f.key, pemfile.Named(err, f.key))
	}
	if err := pki.CheckPair(chain[0], key); err != nil {
		return fmt.Errorf("%s and %s: %w", f.cert, f.key, err)
	}
	c := &tls.Certificate{PrivateKey: key, Leaf: chain[0]}
	for _, x := range chain {
		c.Certificate = append(c.Certificate, x.Raw)
	}
	o.Certificate = c
	return nil
}

// maxRootsFile bounds a file of trust anchors, in bytes; all public roots have
// about 250 KiB.
const maxRootsFile = 4 << 20

func certificates(file string) ([]*x509.Certificate, error) {
	_, data, err := readfile.All(context.Background(), file, maxRootsFile, nil)
	if err != nil {
		return nil, err
	}
	certs, err := pki.ParseCertificates(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, pemfile.Named(err, file))
	}
	return certs, nil
}

// namedProfile finds a named profile; the error suggests.
func namedProfile(name string) (handshake.Profile, error) {
	var all []string
	for _, p := range handshake.NamedProfiles() {
		if p.Name == name {
			return p, nil
		}
		all = append(all, p.Name)
	}
	return handshake.Profile{}, fmt.Errorf("no such profile: %q%s; `sslgate profiles` lists all of them", name, fielderr.Suggest(name, all))
}
