package handshake_test

import (
	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/handshake/stdtls"
)

// able is what the engine can do.
func able() *handshake.Capabilities { return stdtls.New().Capabilities() }
