package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/sslgate/sslgate/internal/admin"
	"github.com/sslgate/sslgate/internal/diagram"
	"github.com/sslgate/sslgate/internal/escape"
)

// oneFlow asks for one flow and returns a function that prints it.
func oneFlow(ctx context.Context, c *admin.Client, id string, stdout io.Writer, asJSON bool) (func() error, error) {
	d, ok, err := c.Flow(ctx, id)
	switch {
	case err != nil:
		return nil, err
	case !ok:
		return nil, fmt.Errorf("no live flow has the id %s, and none that finished lately", escape.String(id, 80))
	}
	return func() error {
		if asJSON {
			return writeJSON(stdout, d)
		}
		_, err := io.WriteString(stdout, flowBlock(d))
		return err
	}, nil
}

// flowBlock is the picture of a live flow with its other data. For a finished flow the picture
// contains everything.
func flowBlock(d admin.FlowDetail) string {
	f := d.Flow
	if f == nil {
		return d.Picture
	}
	var b strings.Builder
	field := func(name, text string) {
		if text != "" {
			b.WriteString(diagram.Field(name, text))
		}
	}
	head := f.Client + " -> " + f.Destination
	if f.SNI != "" {
		head += " (server name " + f.SNI + ")"
	}
	field("live", head)
	b.WriteString("\n" + d.Picture + "\n")
	state := fmt.Sprintf("step %d of the handshake", f.Step)
	if f.Relaying {
		state = fmt.Sprintf("data may flow; %d bytes up, %d down", f.BytesUp, f.BytesDown)
	}
	field("state", state+", for "+age(time.Since(f.Since)))
	rule := f.Rule
	if rule == "" {
		rule = "not decided yet"
	}
	field("rule", rule)
	field("reason", f.Reason)
	if f.Subject != "" {
		field("certificate", strings.Join(append([]string{"proven: " + f.Subject}, f.SANs...), ", "))
	}
	return b.String()
}
