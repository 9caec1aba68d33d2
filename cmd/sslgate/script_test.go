package main

import (
	"context"
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
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
	testscript.Run(t, testscript.Params{Dir: "testdata/script", Setup: func(e *testscript.Env) error {
		e.Setenv("COLUMNS", "5000") // lines stay whole for those who look for them
		return nil
	}})
}
