package acmeclient

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/sslgate/sslgate/internal/dialer"
	"github.com/sslgate/sslgate/internal/escape"
	"github.com/sslgate/sslgate/internal/signer"
)

const (
	hookFor  = 2 * time.Minute // one question to the hook, the wait for the record included
	maxReply = 1024            // bytes
)

// askHook has a program behind a Unix socket write a TXT record for dns-01, or take it away. The
// gateway runs no program itself: its sandbox lets it execute nothing. A connection has one
// line, "present NAME VALUE" or "remove NAME VALUE". The answer is "ok" once every server of the
// zone has the record, or why there is none; its end is that of the line, or of the connection.
func askHook(ctx context.Context, socket, do, name, value string) error {
	failed := func(err error) error { return fmt.Errorf("hook %s: %w", socket, err) }
	ctx, cancel := context.WithTimeout(ctx, hookFor)
	defer cancel()
	dialled, err := dialer.Mark(0).Dialer().DialContext(ctx, "unix", socket)
	if err != nil {
		return failed(err)
	}
	defer func() { _ = dialled.Close() }()
	c, ok := dialled.(*net.UnixConn)
	if !ok {
		return failed(signer.ErrPeer)
	}
	if err := signer.CheckPeer(c, socket); err != nil {
		return failed(err)
	}
	defer context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })()
	if _, err := fmt.Fprintf(c, "%s %s %s\n", do, name, value); err != nil {
		return failed(err)
	}
	reply, err := bufio.NewReader(io.LimitReader(c, maxReply)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return failed(err)
	}
	switch reply = strings.TrimSpace(reply); reply {
	case "ok":
		return nil
	case "":
		return failed(errors.New("it ended without an answer"))
	}
	return failed(errors.New(escape.Shown(reply, maxShown)))
}
