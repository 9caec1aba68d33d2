package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/sslgate/sslgate/internal/report"
)

// reported is the result of one of the reports.
type reported interface{ Text(w io.Writer) error }

// newReportCmd is `sslgate report`: inventories of audit records.
func newReportCmd(stdin io.Reader, stdout, stderr io.Writer) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "report",
		Short: "Make an inventory of what the audit records have seen",
		Long: `Make an inventory of what the audit records have seen: the cryptography that is
spoken, the certificates, the clients. The files are read once, one after the
other, in bounded memory. Those that gzip, zstd or bzip2 has compressed are read
as they are, and "-" is standard input. A line that is no record is named and
passed over. A record that is read twice counts once.

Exit code 0, also where lines were damaged. 2: wrong usage, or a file cannot
be read.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	for _, r := range []struct {
		use, short, long, example string
		of                        func(*report.Inventory, report.Read) reported
	}{
		{
			"crypto", "Flows by version, suite, group and key; who would fail a profile",
			`Count flows by protocol version, CipherSuite, group, protocol and kind of key,
towards clients and towards destinations. From what the clients' hellos offer:
who has no ML-KEM, and who would fail under which of the named profiles
(sslgate profiles). Certificates are no part of that judgement.`,
			"  sslgate report crypto /var/log/sslgate/audit.jsonl*\n  xz -dc old.xz | sslgate report crypto - --json",
			func(v *report.Inventory, r report.Read) reported { c := v.Crypto(r); return &c },
		},
		{
			"certificates", "Every certificate that was seen: whose, where, until when",
			`List every certificate that a client or a destination has shown, the one that
ends first at the top: whose it is, where it was seen, in how many flows, and
in how many of them possession of its key was proven.`,
			"  sslgate report certificates /var/log/sslgate/audit.jsonl*",
			func(v *report.Inventory, r report.Read) reported { c := v.Certificates(r, time.Now()); return &c },
		},
		{
			"clients", "Every client address: as whom, with what, and what it would fail",
			`List every client address: which names it has proven, what it speaks, how often
it was refused, and which of the named profiles its hellos do not meet.`,
			"  sslgate report clients --json audit.jsonl | jq '.clients[] | select(.fails)'",
			func(v *report.Inventory, r report.Read) reported { c := v.Clients(r); return &c },
		},
	} {
		asJSON, page, cbom := false, "", ""
		var captures []string
		sub := &cobra.Command{
			Use: r.use + " FILE...", Short: r.short, Long: r.long, Example: r.example,
			RunE: func(cmd *cobra.Command, files []string) error {
				if len(files)+len(captures) == 0 {
					return usageError(cmd, "something is missing: %s", usageLine(cmd))
				}
				return orSignal(cmd.Context(), func() error {
					v, read, err := inventory(cmd.Context(), stdin, stderr, files, captures)
					if err != nil {
						return &exitError{code: 2, err: err}
					}
					if err := v.WriteFiles(read, page, cbom, version(), time.Now()); err != nil {
						return &exitError{code: 2, err: err}
					}
					result := r.of(v, read)
					if asJSON {
						return writeJSON(stdout, result)
					}
					return result.Text(stdout)
				})
			},
		}
		sub.Flags().BoolVar(&asJSON, "json", false, "print JSON instead of text")
		sub.Flags().StringSliceVar(&captures, "pcap", nil, "read the connections in a capture of packets, a `FILE` in pcap or pcapng, too")
		sub.Flags().StringVar(&page, "html", "", "write a page with all three reports and plots to a `FILE`; it needs no other file")
		sub.Flags().StringVar(&cbom, "cbom", "", "write a bill of materials of the cryptography to a `FILE` (CycloneDX 1.6, JSON)")
		cmd.AddCommand(sub)
	}
	return cmd
}

// inventory reads the files. How far it is stands on stderr if that is a terminal.
func inventory(ctx context.Context, stdin io.Reader, stderr io.Writer, files, captures []string) (*report.Inventory, report.Read, error) {
	v := report.New()
	r := report.Reader{Stdin: stdin}
	clear := showProgress(&r, stderr)
	defer clear()
	if err := r.Each(ctx, files, v.Add); err != nil {
		return nil, report.Read{}, err
	}
	packets, err := r.Captures(ctx, captures, v.Add)
	if err != nil {
		return nil, report.Read{}, err
	}
	read := v.Read(files, &r)
	read.Packets = packets
	return v, read, nil
}

// progressEvery is how often the progress is written anew.
const progressEvery = 500 * time.Millisecond

// showProgress writes how far a Reader is on a terminal. clear removes the line.
func showProgress(r *report.Reader, stderr io.Writer) (clear func()) {
	f, ok := stderr.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return func() {}
	}
	began := time.Now()
	told := began
	r.Tell = func(p report.Progress) {
		if time.Since(told) < progressEvery {
			return
		}
		told = time.Now()
		fmt.Fprintf(f, "\r\x1b[Kfile %d of %d, %d lines, %d MB, %.0f MB/s", p.At, p.Of, p.Lines, p.Bytes/1e6, float64(p.Bytes)/1e6/time.Since(began).Seconds())
	}
	return func() {
		if told != began {
			fmt.Fprint(f, "\r\x1b[K")
		}
	}
}
