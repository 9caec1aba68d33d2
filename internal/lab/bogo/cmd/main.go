// Command bogo is the shim of sslgate's engines for BoringSSL's test runner;
// scripts/bogo builds and runs it, docs/bogo.md explains it.
package main

import (
	"context"
	"os"

	"github.com/sslgate/sslgate/internal/lab/bogo"
)

func main() {
	os.Exit(bogo.Run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
}
