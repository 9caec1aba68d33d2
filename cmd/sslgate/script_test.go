package main

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/sslgate/sslgate/internal/audit"
)

// TestMain lets the scripts call sslgate as a program of its own.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"sslgate": func() {
			os.Exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
		},
	})
}

// The promises of the command line, one file each.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			e.Setenv("COLUMNS", "5000") // lines stay whole for those who look for them
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			// digests CONFIG RECORDS: as if they were written under the configuration.
			"digests": func(ts *testscript.TestScript, neg bool, args []string) {
				if neg || len(args) != 2 {
					ts.Fatalf("usage: digests CONFIG RECORDS")
				}
				text, err := underPolicy(ts.MkAbs(args[0]), []byte(ts.ReadFile(args[1])))
				ts.Check(err)
				ts.Check(os.WriteFile(ts.MkAbs(args[1]), text, 0o600))
			},
		},
	})
}

// underPolicy gives the records of an audit log the digests (rule_digest) that their rules have
// in a configuration, where they have any: a record that was kept stays one of it, whatever a
// digest is made of.
func underPolicy(config string, records []byte) ([]byte, error) {
	set, _, err := ownPolicy(config)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	for line := range bytes.Lines(records) {
		p, err := audit.Parse(line)
		if err != nil {
			return nil, err
		}
		if p.RuleDigest != "" {
			a := auditLine{Parsed: p, place: "kept"}
			f, err := a.facts()
			if err != nil {
				return nil, err
			}
			v, decided := set.OnSYN(f)
			if !decided {
				v = set.OnHello(f)
			}
			if v.Plan == nil || v.Rule != p.Rule {
				return nil, fmt.Errorf("flow %s comes to rule %q, and was one of %q: %s", p.ID, v.Rule, p.Rule, v.Reason)
			}
			sum := v.Plan.Digest()
			line = bytes.Replace(line, []byte(`"rule_digest":"`+p.RuleDigest+`"`), []byte(`"rule_digest":"`+hex.EncodeToString(sum[:8])+`"`), 1)
		}
		out.Write(line)
	}
	return out.Bytes(), nil
}
