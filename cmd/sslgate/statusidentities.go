package main

import (
	"fmt"

	"github.com/sslgate/sslgate/internal/admin"
	"github.com/sslgate/sslgate/internal/escape"
)

// printIdentities is a line for each identity that is renewed by more than files, and for each whose
// source fails.
func printIdentities(row func(name, format string, args ...any), s admin.Status) {
	name := "identities"
	for _, id := range s.Identities {
		if id.Source == "files" && id.Error == "" {
			continue
		}
		left := "no certificate"
		if id.NotAfter != nil {
			left = fmt.Sprintf("%.1f hours left", id.HoursLeft)
		}
		row(name, "%s: %s, %s", escape.String(id.Name, 0), id.Source, left)
		if name = ""; id.Error != "" {
			row("", "%s: %s", escape.String(id.Name, 0), escape.String(id.Error, 0))
		}
	}
}
