package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/sslgate/sslgate/internal/audit"
)

// records follows the gateway's audit file.
type records struct {
	path   string
	offset int64
	found  map[string]json.RawMessage // first record of each client address and port
}

// recordTimeout is how long a record may take after the client is done. The gateway writes it
// when both sides are done, and first waits a moment for a refused client to take its alert.
// The timeout is long because the machine may be busy.
const recordTimeout = time.Minute

func newRecords(path string) *records {
	return &records{path: path, found: map[string]json.RawMessage{}}
}

// wait returns the record of the client with the address and port, parsed and as written;
// with "" that of any one.
func (r *records) wait(ctx context.Context, client string) (*audit.Parsed, json.RawMessage, error) {
	ctx, cancel := context.WithTimeout(ctx, recordTimeout)
	defer cancel()
	for {
		if err := r.read(); err != nil {
			return nil, nil, err
		}
		for from, raw := range r.found {
			if client == "" || client == from {
				rec, err := audit.Parse(raw)
				return rec, raw, err
			}
		}
		pause(ctx, 10*time.Millisecond)
		if ctx.Err() != nil {
			return nil, nil, fmt.Errorf("no audit record of %q came within %s", client, recordTimeout)
		}
	}
}

// read reads the complete lines that were added.
func (r *records) read() error {
	f, err := os.Open(r.path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	if _, err := f.Seek(r.offset, io.SeekStart); err != nil {
		return err
	}
	b, err := io.ReadAll(f)
	if err != nil {
		return err
	}
	for {
		line, rest, whole := bytes.Cut(b, []byte("\n"))
		if !whole {
			return nil
		}
		r.offset += int64(len(line)) + 1
		b = rest
		rec, err := audit.Parse(line)
		if err != nil {
			return fmt.Errorf("audit record: %w", err)
		}
		if _, ok := r.found[rec.Client]; !ok {
			r.found[rec.Client] = append(json.RawMessage(nil), line...)
		}
	}
}
