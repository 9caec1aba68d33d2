package etcd

import (
	"context"
	"crypto/tls"
	"net"

	"google.golang.org/grpc/credentials"
)

// security is TLS whose configuration is made anew for each connection, so that a CA that was replaced
// counts.
type security struct {
	config func() (*tls.Config, error)
}

// ClientHandshake is credentials.TransportCredentials.ClientHandshake.
func (s security) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	config, err := s.config()
	if err != nil {
		return nil, nil, err
	}
	return credentials.NewTLS(config).ClientHandshake(ctx, authority, conn)
}

// ServerHandshake is of no use here.
func (s security) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, net.ErrClosed
}

// Info is credentials.TransportCredentials.Info.
func (s security) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "tls"}
}

// Clone is credentials.TransportCredentials.Clone.
func (s security) Clone() credentials.TransportCredentials { return s }

// OverrideServerName is of no use here: the name is that of the endpoint.
func (s security) OverrideServerName(string) error { return net.ErrClosed }
