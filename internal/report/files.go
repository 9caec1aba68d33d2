package report

import (
	"bytes"
	"io"
	"os"
	"time"
)

// WriteFiles writes the page and the bill of materials to the files of these names, "" for
// none. tool is the version of sslgate. The files name people, so others may not read them.
func (v *Inventory) WriteFiles(read Read, page, cbom, tool string, now time.Time) error {
	for _, f := range []struct {
		name  string
		write func(w io.Writer) error
	}{
		{page, func(w io.Writer) error { return v.HTML(w, read, now) }},
		{cbom, func(w io.Writer) error { return v.CBOM(w, read, tool, now) }},
	} {
		if f.name == "" {
			continue
		}
		var b bytes.Buffer
		if err := f.write(&b); err != nil {
			return err
		}
		if err := os.WriteFile(f.name, b.Bytes(), 0o600); err != nil {
			return err
		}
	}
	return nil
}
