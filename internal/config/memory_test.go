package config

import (
	"time"

	"github.com/sslgate/sslgate/handshake"
)

// Build is Check for a file that was parsed.
func Build(f *File, eng handshake.Engine) (*Runtime, []Finding) { return build(f, eng, time.Now()) }

// Parse is Load for text in memory.
func Parse(name string, src []byte) (*File, error) {
	f := parse(name, src)
	if Failed(f.findings) {
		return nil, Findings(f.findings)
	}
	return f, nil
}

func parse(name string, text []byte) *File { return parseIn(nil, name, text, nil) }
