package main

import (
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"net/netip"
	"time"

	"github.com/spf13/cobra"

	"github.com/sslgate/sslgate/handshake/engines"
	"github.com/sslgate/sslgate/internal/config"
	"github.com/sslgate/sslgate/internal/pemfile"
	"github.com/sslgate/sslgate/internal/pki"
	"github.com/sslgate/sslgate/internal/policytest"
	"github.com/sslgate/sslgate/internal/readfile"
	"github.com/sslgate/sslgate/policy"
)

// explainFlags are the facts of a flow from the command line.
type explainFlags struct {
	config, from, to, sni, ja4, cert, at string
	upgrade                              string
	alpn, tls                            []string
	flow, audit                          string
	local, syn, json                     bool
}

// newExplainCmd is `sslgate explain`: what a policy does with one flow, and why.
func newExplainCmd(stdout io.Writer) *cobra.Command {
	var f explainFlags
	cmd := &cobra.Command{
		Use:   "explain [-c FILE] --from ADDR --to ADDR:PORT",
		Short: "Say what the policy does with a flow, and why",
		Long: `Say what the policy does with a flow, and why: each rule that is tried with the
first condition that did not fit, then the demands of the rule that does, the
verdict with its reason and alert, and what would have to change.

The flow is made of the flags, or taken from the audit log by its id. It is
decided by the same functions that decide real ones. No private key is read,
and nothing is sent. That the client holds the key of --cert is assumed. The
audit log has no certificates: with --flow, give the client's with --cert, or
the explanation ends where one is asked for. The files that the log was rotated
to (FILE.1, FILE.2, ...) are looked through too. "policy" in --json is the
digest that the gateway has of this configuration; it is left out where the
certificate of an identity cannot be read.

Exit code 0: the flow goes through. 1: it is refused. 2: wrong usage.`,
		Example: `  sslgate explain --from 10.1.0.7 --to 10.20.0.9:443 \
    --sni pay.corp.example --cert client.pem
  sslgate explain --flow 4f2a-17 --audit /var/log/sslgate/audit.jsonl`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if f.config, err = configFile(cmd, f.config, nil); err == nil {
				err = needs(cmd, "flow", "audit")
			}
			if err == nil {
				err = needs(cmd, "audit", "flow")
			}
			if err == nil {
				err = excludes(cmd, "flow", "from", "to", "upgrade", "sni", "ja4", "alpn", "tls", "at", "local", "syn")
			}
			if err != nil {
				return err
			}
			return orSignal(cmd.Context(), func() error { return f.run(stdout) })
		},
	}
	fl := cmd.Flags()
	configFlag(cmd, &f.config)
	fl.StringVar(&f.from, "from", "", "client `ADDR`ess, perhaps with :PORT")
	fl.StringVar(&f.to, "to", "", "original destination, `ADDR:PORT`")
	fl.StringVar(&f.upgrade, "upgrade", "", "`PROTOCOL` in which the client asks for TLS: postgres (default TLS at once)")
	fl.StringVar(&f.sni, "sni", "", "server `NAME` that the client asks for (default none)")
	fl.StringVar(&f.ja4, "ja4", "", "`FINGERPRINT` of the client's hello (default that of a usual client)")
	fl.StringSliceVar(&f.alpn, "alpn", nil, "application `PROTOCOL`s that the client offers")
	fl.StringSliceVar(&f.tls, "tls", nil, "protocol `VERSION`s that the client offers (default 1.2,1.3)")
	fl.StringVar(&f.cert, "cert", "", "the client's certificate, PEM `FILE` with its intermediates (default: it shows none)")
	fl.StringVar(&f.at, "at", "", "`TIME` of the flow, 2026-11-23T10:00:00Z (default now)")
	fl.StringVar(&f.flow, "flow", "", "`ID` of a flow in the audit log, in the place of the flags above")
	fl.StringVar(&f.audit, "audit", "", "audit log `FILE` to look for the flow in, and what it was rotated to")
	fl.BoolVar(&f.local, "local", false, "the client is a program of this host (capture.local.out)")
	fl.BoolVar(&f.syn, "syn", false, "what is decided by the first packet alone, without a client hello: all there is of a client without TLS")
	fl.BoolVar(&f.json, "json", false, "print JSON instead of text")
	return cmd
}

func (f *explainFlags) run(stdout io.Writer) error {
	set, made, err := ownPolicy(f.config)
	if err != nil {
		return err
	}
	digest := set.ID()
	if len(made) > 0 {
		digest = "" // it would be the digest of the stand-ins' policy
	}
	facts, record, err := f.facts()
	if err != nil {
		return &exitError{2, err}
	}
	var chain []*x509.Certificate
	if f.cert != "" {
		if chain, err = readChain(f.cert); err != nil {
			return &exitError{2, err}
		}
	}
	why := policytest.Ask(set, facts, chain)
	if record != nil && record.Peer != nil && f.cert == "" && why.Moment == "peer" {
		record.settle(why)
	}
	if f.json {
		if err := explainJSON(stdout, facts, why, record, digest); err != nil {
			return err
		}
	} else {
		explainText(stdout, facts, why, record, digest)
	}
	if !why.Decided || why.Verdict.Action != policy.Deny {
		return nil
	}
	return &exitError{code: 1}
}

// facts returns the facts from the flags or from a record.
func (f *explainFlags) facts() (policy.Facts, *auditLine, error) {
	if f.flow != "" {
		record, err := findFlow(f.audit, f.flow)
		if err != nil {
			return policy.Facts{}, nil, err
		}
		facts, err := record.facts()
		return facts, record, err
	}
	facts := policy.Facts{Now: time.Now(), Local: f.local}
	var err error
	if facts.Src, err = policytest.ParseSource(f.from); err != nil {
		return facts, nil, fmt.Errorf("--from: %w", err)
	}
	if facts.Dst, err = netip.ParseAddrPort(f.to); err != nil {
		return facts, nil, fmt.Errorf("--to: %q is no destination such as 10.20.0.9:443 or [fd00::1]:443", f.to)
	}
	if f.at != "" {
		if facts.Now, err = time.Parse(time.RFC3339, f.at); err != nil {
			return facts, nil, fmt.Errorf("--at: %q is no time such as 2026-11-23T10:00:00Z", f.at)
		}
	}
	if f.syn {
		return facts, nil, nil
	}
	if facts.Upgrade, err = policytest.ParseUpgrade(f.upgrade); err != nil {
		return facts, nil, fmt.Errorf("--upgrade: %w", err)
	}
	if facts.JA4 = f.ja4; f.ja4 != "" {
		if err = policytest.CheckJA4(f.ja4); err != nil {
			return facts, nil, fmt.Errorf("--ja4: %w", err)
		}
	}
	facts.Hello, err = policytest.Hello{SNI: f.sni, ALPN: f.alpn, Versions: f.tls}.ClientHello()
	if err != nil {
		return facts, nil, fmt.Errorf("such a client hello cannot be: %w", err)
	}
	return facts, nil, nil
}

// ownPolicy compiles the policy of a configuration with its certificates and without its
// private keys. Certificates of identities that cannot be read are replaced by stand-ins;
// made names them.
func ownPolicy(path string) (set *policy.Set, made []string, err error) {
	set, _, made, err = tryConfig(path, config.StandIns{Own: true}, policytest.NewStandIns())
	return set, made, err
}

// standInPolicy compiles the policy of a configuration without any of the other files that it
// names.
func standInPolicy(path string, stand *policytest.StandIns) (*policy.Set, *config.File, error) {
	set, file, _, err := tryConfig(path, config.StandIns{Authority: stand.Authority}, stand)
	return set, file, err
}

func tryConfig(path string, ins config.StandIns, stand *policytest.StandIns) (*policy.Set, *config.File, []string, error) {
	file, err := loadPolicy(path)
	if err != nil {
		return nil, nil, nil, &exitError{2, err}
	}
	if ins.Identity, err = stand.Identity(); err != nil {
		return nil, nil, nil, err
	}
	set, made, found := config.TryPolicy(file, engines.New(), ins)
	if set == nil {
		var wrong config.Findings
		for _, f := range found {
			if !f.Warning {
				wrong = append(wrong, f)
			}
		}
		return nil, nil, nil, &exitError{2, fmt.Errorf("the policy cannot be used; `sslgate check -c %s` says more:\n%w", path, wrong)}
	}
	return set, file, made, nil
}

// maxChainFile is the size of a client's certificate file in bytes.
const maxChainFile = 1 << 20

func readChain(path string) ([]*x509.Certificate, error) {
	info, text, err := readfile.All(context.Background(), path, maxChainFile, nil)
	if err != nil {
		return nil, err
	}
	certs, err := pki.ParseChain(text, info.Mode())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, pemfile.Named(err, path))
	}
	return certs, nil
}
