package tun_test

import (
	"github.com/sslgate/sslgate/stack"
	"github.com/sslgate/sslgate/tun"
)

var _ stack.Device = (*tun.Device)(nil)
