// Command docgen writes docs/config.md from the comments of the structs that
// sslgate.yaml is decoded into:
//
//	go run ./internal/config/docgen
//	go run ./internal/config/docgen -write
//	go run ./internal/config/docgen -check
package main

//go:generate go run . -write

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "docgen:", err)
		os.Exit(1)
	}
}

func run(args []string, stdout io.Writer) error {
	fs := flag.NewFlagSet("docgen", flag.ContinueOnError)
	check := fs.Bool("check", false, "compare with docs/config.md instead of printing")
	write := fs.Bool("write", false, "write docs/config.md instead of printing")
	if err := fs.Parse(args); err != nil {
		return err
	}
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	text, err := generate(root)
	if err != nil {
		return err
	}
	page := filepath.Join(root, "docs", "config.md")
	if *write {
		return os.WriteFile(page, text, 0o644)
	}
	if !*check {
		_, err = stdout.Write(text)
		return err
	}
	have, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	if !bytes.Equal(have, text) {
		return errors.New("docs/config.md is stale: go generate ./internal/config/docgen")
	}
	return nil
}

// moduleRoot is the nearest directory upwards with a go.mod.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", errors.New("no go.mod here or above: run it inside the checkout")
		}
		dir = up
	}
}
