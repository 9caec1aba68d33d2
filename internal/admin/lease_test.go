package admin

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/ticket"
)

func agrees(*Terms) error { return nil }

// answering is whatever listens on a socket where a gateway is looked for: it reads a little,
// says its piece and hangs up.
func answering(t *testing.T, say string) *Client {
	t.Helper()
	dir, err := os.MkdirTemp("", "lease") // short: a socket's path has at most 108 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "s")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			_, _ = c.Read(make([]byte, 4096))
			_, _ = c.Write([]byte(say))
			_ = c.(*net.UnixConn).CloseWrite()
			_, _ = io.Copy(io.Discard, c)
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = ln.Close(); <-done })
	return NewClient(path)
}

// A gateway of a version without hand-over, one that speaks another protocol, and whatever else
// may listen there: each is answered with a sentence, and nothing is taken over.
func TestHandOverOfOldVersions(t *testing.T) {
	const yes = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: sslgate-handover\r\n\r\n"
	for name, c := range map[string]struct{ say, want string }{
		"without hand-over":       {"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "of a version that cannot hand over"},
		"another method":          {"HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n", "of a version that cannot hand over"},
		"another protocol":        {"HTTP/1.1 409 Conflict\r\nContent-Type: application/json\r\nContent-Length: 42\r\n\r\n" + `{"error": "this gateway hands over by 99"}`, "hands over by 99"},
		"another protocol, later": {yes + `{"protocol": 2}` + "\n", "by protocol 2, not 1"},
		"nothing":                 {"", "ask the running gateway"},
		"no HTTP":                 {"SSH-2.0-x\r\n", "ask the running gateway"},
		"half":                    {yes + `{"protocol": 1, "slot`, "cannot be read"},
		"no terms":                {yes + "null and void\n", "cannot be read"},
		"huge terms":              {yes + `{"slot": "` + strings.Repeat("x", maxOrder) + `"}` + "\n", "a line is too long"},
	} {
		t.Run(name, func(t *testing.T) {
			lease, err := answering(t, c.say).HandOver(context.Background(), Offer{Protocol: HandOverProtocol}, agrees)
			if err == nil {
				_ = lease.Close()
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
			if without := strings.Contains(c.want, "of a version"); without != errors.Is(err, ErrNoHandOver) {
				t.Errorf("%v: ErrNoHandOver is %v", err, !without)
			}
		})
	}
}

// The terms arrive as they were, and nothing of the keys stays in buffers of either side: not in
// the line that was sent, and not in the reader's.
func TestTermsLeaveNoKeys(t *testing.T) {
	key := bytes.Repeat([]byte{0xa7, 0x5c, 0x11}, 11)[:32]
	made := time.Date(2026, 1, 2, 3, 4, 5, 678, time.UTC)
	for _, n := range []int{0, 1, 3, 170} {
		terms := Terms{Protocol: HandOverProtocol, Slot: "b", Ports: []uint16{443}}
		for range n {
			terms.TicketKeys = append(terms.TicketKeys, ticket.ExportedKey{Key: bytes.Clone(key), Made: made})
		}
		sent := terms.TicketKeys
		kept := make([][]byte, n)
		for i := range sent {
			kept[i] = sent[i].Key
		}
		line, err := terms.line()
		if err != nil {
			t.Fatal(err)
		}
		for i := range kept {
			if !bytes.Equal(kept[i], make([]byte, 32)) {
				t.Fatalf("%d keys: the exported copy is not cleared", n)
			}
		}
		if line[len(line)-1] != '\n' || bytes.Count(line, []byte("\n")) != 1 {
			t.Fatalf("%d keys: not one line", n)
		}
		buffer := bufio.NewReader(bytes.NewReader(append(line, "next"...)))
		whole, _ := buffer.Peek(1)
		var got Terms
		if err := readLine(buffer, maxOrder, &got); err != nil {
			t.Fatal(err)
		}
		if got.Slot != "b" || !slices.Equal(got.Ports, []uint16{443}) || len(got.TicketKeys) != n {
			t.Errorf("%d keys: %+v", n, got)
		}
		for _, k := range got.TicketKeys {
			if !bytes.Equal(k.Key, key) || !k.Made.Equal(made) {
				t.Errorf("%d keys: %x of %v", n, k.Key, k.Made)
			}
		}
		if inside := whole[:buffer.Size():buffer.Size()]; bytes.Contains(inside, []byte(base64.StdEncoding.EncodeToString(key)[:20])) {
			t.Errorf("%d keys: the reader's buffer has one", n)
		}
	}
}

// After an answer that is none the connection is of no use: no later answer is taken for that
// of another order.
func TestLeaseIsLost(t *testing.T) {
	const yes = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: sslgate-handover\r\n\r\n" + `{"protocol": 1}` + "\n"
	for name, say := range map[string]string{
		"of another order": `{"did": "drain"}` + "\n" + `{"did": "give"}` + "\n",
		"no report":        `{"did": "give", "error": "no"}` + "\n" + `{"did": "report"}` + "\n",
		"no JSON":          "{\n",
		"nothing":          "",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			lease, err := answering(t, yes+say).HandOver(context.Background(), Offer{Protocol: HandOverProtocol}, agrees)
			if err != nil {
				t.Fatal(err)
			}
			defer lease.Close()
			err = lease.Order(OrderGive)
			if refused := name == "no report"; err == nil || errors.Is(err, ErrRefused) != refused || (lease.lost == nil) != refused {
				t.Errorf("%v, lost: %v", err, lease.lost)
			}
			if _, err := lease.Report(); err == nil {
				t.Error("a report of nobody")
			}
			ended := make(chan struct{})
			go func() { defer close(ended); lease.KeepAlive(context.Background()) }()
			select {
			case <-ended: // at the first order that fails
			case <-time.After(time.Minute):
				t.Error("it is kept alive, and is dead")
			}
		})
	}
}
