package main

import (
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sslgate/sslgate/internal/escape"
	"github.com/sslgate/sslgate/internal/pki"
	"github.com/sslgate/sslgate/internal/times"
)

func printInit(w io.Writer, f *pkiFlags, r *pki.InitResult) error {
	return printLines(w,
		"Made the CA "+escape.Shown(r.Certificate.Subject, 0)+": "+r.Certificate.Key+", valid to "+day(*r.Certificate.NotAfter)+".",
		"  certificate      "+r.CertFile+"   for all who must trust it",
		"  key              "+r.KeyFile+"   for nobody else",
		"  revocation list  "+r.CRLFile+"  nobody revoked yet",
		"",
		"Next, a certificate for a server and one for a client:",
		"  "+pkiCommand(f, "issue app.example.org"),
		"  "+pkiCommand(f, "issue spiffe://example.org/app"))
}

func printIssue(w io.Writer, f *pkiFlags, r *pki.IssueResult) error {
	c := r.Certificate
	lines := wrap(fmt.Sprintf("Issued a certificate for %s, valid to %s (%d days), %s:", audience(c), day(*c.NotAfter), *c.DaysLeft, c.Key), columns(w))
	for _, n := range c.Names {
		lines = append(lines, "  - "+escape.String(n, 0))
	}
	if len(c.Names) == 0 {
		lines = append(lines, "  - "+escape.Shown(c.Subject, 0))
	}
	lines = append(lines, "",
		"  certificate  "+r.CertFile,
		"  key          "+r.KeyFile,
		"  serial       "+c.Serial, "")
	for _, n := range r.Notes {
		lines = append(lines, wrap("Note: "+n, columns(w))...)
	}
	if len(r.Notes) > 0 {
		lines = append(lines, "")
	}
	ca := pki.ShellQuote(filepath.Join(f.dir, "ca.pem"))
	cert, key := pki.ShellQuote(r.CertFile), pki.ShellQuote(r.KeyFile)
	lines = append(lines, "Next, look at it, or use it:", "  sslgate pki show "+cert)
	if slices.Contains(c.ExtKeyUse, "clientAuth") {
		lines = append(lines, "  curl --cacert "+ca+" --cert "+cert+" --key "+key+" https://HOST/")
	}
	if slices.Contains(c.ExtKeyUse, "serverAuth") {
		lines = append(lines, "  openssl s_server -accept 8443 -www -cert "+cert+" -key "+key)
	}
	return printLines(w, lines...)
}

func audience(c pki.Item) string {
	client, server := slices.Contains(c.ExtKeyUse, "clientAuth"), slices.Contains(c.ExtKeyUse, "serverAuth")
	switch {
	case client && server:
		return "clients and servers"
	case client:
		return "clients"
	}
	return "servers"
}

func printRevoke(w io.Writer, r *pki.RevokeResult) error {
	who := escape.Shown(r.Subject, 0)
	if len(r.Names) > 0 {
		who = escape.String(strings.Join(r.Names, ", "), 0)
	}
	if err := printLines(w, "Revoked "+who+" ("+r.Reason+").", "  serial       "+r.Serial); err != nil {
		return err
	}
	return printCRL(w, &r.CRL)
}

func printCRL(w io.Writer, r *pki.CRLResult) error {
	return printLines(w,
		fmt.Sprintf("Signed revocation list %s: %d revoked, the next one is due by %s.", r.Number, r.Revoked, day(r.NextUpdate)),
		"  revocation list  "+r.File,
		"",
		"Next, give it to those who check it, and look at it:",
		"  sslgate pki show "+pki.ShellQuote(r.File))
}

// shownFile is what `pki show --json` prints.
type shownFile struct {
	File  string     `json:"file"`
	Items []pki.Item `json:"items"`
}

func showFiles(w io.Writer, f *pkiFlags, files []string) error {
	now := time.Now()
	var shown []shownFile
	for _, file := range files {
		items, err := pki.Show(file, now)
		if err != nil {
			return pkiExit(err)
		}
		shown = append(shown, shownFile{file, items})
	}
	if f.json {
		return writeJSON(w, map[string]any{"files": shown})
	}
	for i, s := range shown {
		if i > 0 {
			if err := printLines(w, ""); err != nil {
				return err
			}
		}
		if err := printLines(w, escape.String(s.File, 0)+":"); err != nil {
			return err
		}
		for _, it := range s.Items {
			if err := showItem(w, it); err != nil {
				return err
			}
		}
	}
	return nil
}

// itemIndent is where the values of an item stand.
const itemIndent = 15

// showItem prints an item. Sentences and lists of words are wrapped; names, numbers and
// digests stay whole, so that they can be copied.
func showItem(w io.Writer, it pki.Item) error {
	var text strings.Builder
	if err := it.WriteText(&text); err != nil {
		return err
	}
	for line := range strings.Lines(text.String()) {
		line = strings.TrimSuffix(line, "\n")
		var err error
		if label := strings.TrimSpace(line[:min(len(line), itemIndent)]); label == "usage" || label == "warning" || label == "valid" {
			err = printHanging(w, line[:itemIndent], strings.Repeat(" ", itemIndent), line[itemIndent:])
		} else {
			err = printLines(w, line)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// pkiCommand is a `sslgate pki` command to type for the CA at hand.
func pkiCommand(f *pkiFlags, words string) string { return pki.Command(f.dir, words) }

func day(t time.Time) string { return times.Date(t) }

func printLines(w io.Writer, lines ...string) error {
	_, err := io.WriteString(w, strings.Join(lines, "\n")+"\n")
	return err
}
