package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/sslgate/sslgate/internal/lab/testenv"
)

// Every command has a page, and man finds nothing wrong with it.
func TestManPages(t *testing.T) {
	testenv.Slow(t)
	dir := t.TempDir()
	var out, errs bytes.Buffer
	if code := run(t.Context(), []string{"man", dir}, nil, &out, &errs); code != 0 {
		t.Fatalf("%d: %s", code, errs.String())
	}
	var want []string
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		want = append(want, manName(c)+".1")
		for _, sub := range documented(c) {
			walk(sub)
		}
	}
	walk(newRootCmd(nil, &out, &errs))
	if len(want) < 15 {
		t.Fatalf("only %v", want)
	}
	man := testenv.Tool(t, "man")
	for _, name := range want {
		page := filepath.Join(dir, name)
		cmd := exec.Command(man, "--warnings", "-l", page)
		cmd.Env = append(os.Environ(), "MANPAGER=cat", "PAGER=cat", "MANWIDTH=80", "LC_ALL=C")
		var said bytes.Buffer
		cmd.Stderr = &said
		text, err := cmd.Output()
		if err != nil || said.Len() > 0 || !strings.Contains(string(text), "SYNOPSIS") {
			t.Errorf("%s: %v\n%s", name, err, said.String())
		}
	}
}

func TestManPage(t *testing.T) {
	c := &cobra.Command{
		Use: "x FILE", Short: "Do it - well", Example: "  x 'a'", Run: func(*cobra.Command, []string) {},
		Long: ".hidden is no request\nand C:\\x stays\n\n  a  table",
	}
	c.Flags().StringP("out", "o", "here", "write to `DIR`")
	got := manPage(c)
	for _, want := range []string{
		".TH X 1 \"\" sslgate\n", "x \\- Do it \\- well\n", ".B x FILE [flags]\n",
		".SH DESCRIPTION\n\\&.hidden is no request\nand C:\\ex stays\n.PP\n.nf\n  a  table\n.fi\n",
		".TP\n\\fB\\-o, \\-\\-out\\fP \\fIDIR\\fP\nwrite to DIR (default here)\n", ".SH EXAMPLES\n.nf\n  x \\(aqa\\(aq\n.fi\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in:\n%s", want, got)
		}
	}
}

// The shells read what completion writes for them.
func TestCompletions(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish"} {
		t.Run(shell, func(t *testing.T) {
			var out, errs bytes.Buffer
			if code := run(t.Context(), []string{"completion", shell}, nil, &out, &errs); code != 0 || !strings.Contains(out.String(), "sslgate") {
				t.Fatalf("%d: %s", code, errs.String())
			}
			path := testenv.Tool(t, shell)
			file := filepath.Join(t.TempDir(), shell)
			if err := os.WriteFile(file, out.Bytes(), 0o600); err != nil {
				t.Fatal(err)
			}
			if said, err := exec.Command(path, "-n", file).CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, said)
			}
		})
	}
}
