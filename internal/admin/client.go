package admin

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sslgate/sslgate/internal/dialer"
)

// Client talks to a running gateway.
type Client struct {
	path string
	http *http.Client
}

// requestTimeout bounds a request: a reload reads every certificate and CRL.
const requestTimeout = time.Minute

// NewClient returns a client of the gateway that listens on the socket.
func NewClient(path string) *Client {
	return &Client{path: path, http: &http.Client{
		Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return dialer.Unix(ctx, path, 0)
			},
		},
	}}
}

// Process returns the process ID of the listener on the socket, 0 if that is in another PID
// namespace.
func (c *Client) Process(ctx context.Context) (int, error) {
	conn, err := dialer.Unix(ctx, c.path, 0)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return 0, err
	}
	if credErr != nil {
		return 0, credErr
	}
	return int(cred.Pid), nil
}

// Status asks for the state of the gateway.
func (c *Client) Status(ctx context.Context) (s Status, err error) {
	_, err = c.do(ctx, http.MethodGet, "/v1/status", &s)
	return s, err
}

// Ready asks whether flows are taken, and why not, where reasons of these kinds count; none
// means all.
func (c *Client) Ready(ctx context.Context, kinds ...ReadyKind) (r Readiness, err error) {
	_, err = c.do(ctx, http.MethodGet, readyPath(kinds), &r)
	return r, err
}

// Revocation lists the CRLs in use and the sources without one.
func (c *Client) Revocation(ctx context.Context) (lists []RevocationList, err error) {
	_, err = c.do(ctx, http.MethodGet, "/v1/revocation", &lists)
	return lists, err
}

// Reload asks for a reload; taken is false if the old configuration stays.
func (c *Client) Reload(ctx context.Context) (res ReloadResult, taken bool, err error) {
	code, err := c.do(ctx, http.MethodPost, "/v1/reload", &res)
	return res, code == http.StatusOK, err
}

// Drain asks for a drain, after which the gateway stops.
func (c *Client) Drain(ctx context.Context) (d Drain, err error) {
	_, err = c.do(ctx, http.MethodPost, "/v1/drain", &d)
	return d, err
}

// Flows lists at most limit of the live flows that pass the filter, the oldest
// first, and says how many there are; 0 lists all.
func (c *Client) Flows(ctx context.Context, f Filter, limit int) (flows []Flow, all int, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	q := f.Query()
	if limit > 0 {
		q.Set("limit", strconv.Itoa(limit))
	}
	resp, err := c.send(ctx, http.MethodGet, "/v1/flows?"+q.Encode())
	if err != nil {
		return nil, 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, 0, failure(resp)
	}
	// Decode one by one: with long names in certificates the whole list can be many MiB.
	in := json.NewDecoder(resp.Body)
	if _, err = in.Token(); err == nil {
		for in.More() {
			var one Flow
			if err = in.Decode(&one); err != nil {
				break
			}
			flows = append(flows, one)
		}
	}
	if err == nil {
		_, err = in.Token()
	}
	if err != nil {
		return nil, 0, fmt.Errorf("flows: the answer is not what this version understands: %w", err)
	}
	if all, err = strconv.Atoi(resp.Header.Get(totalHeader)); err != nil {
		all = len(flows) // an older gateway does not send the header
	}
	return flows, all, nil
}

// Recent lists the remembered finished flows that pass the filter, the newest first. Since the
// returned time, all flows that were not let through are among them; the zero time means since
// the start.
func (c *Client) Recent(ctx context.Context, f Filter) (flows []Finished, since time.Time, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	resp, err := c.send(ctx, http.MethodGet, "/v1/recent?"+f.Query().Encode())
	if err != nil {
		return nil, since, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, since, failure(resp)
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(&flows); err != nil {
		return nil, since, fmt.Errorf("recent: the answer is not what this version understands: %w", err)
	}
	if s := resp.Header.Get(sinceHeader); s != "" {
		if since, err = time.Parse(time.RFC3339Nano, s); err != nil {
			return nil, since, fmt.Errorf("recent: the answer is not what this version understands: %w", err)
		}
	}
	return flows, since, nil
}

// Flow returns one flow with its picture; false if no flow has that id.
func (c *Client) Flow(ctx context.Context, id string) (d FlowDetail, ok bool, err error) {
	code, err := c.do(ctx, http.MethodGet, "/v1/flows/"+url.PathEscape(id), &d)
	return d, code == http.StatusOK, err
}

// EndFlow ends a live flow; false if no flow has that id.
func (c *Client) EndFlow(ctx context.Context, id string) (bool, error) {
	var ignored Ended
	code, err := c.do(ctx, http.MethodPost, "/v1/flows/"+url.PathEscape(id)+"/end", &ignored)
	return code == http.StatusOK, err
}

// maxLine bounds one line of a trace, in bytes: a record with two full
// ledgers is some 100 KiB at most.
const maxLine = 1 << 20

// Trace calls f for every flow that finishes and passes the filter. It ends with ctx, with an
// error of f, which it returns, or with io.EOF when the gateway goes away. Lines without a
// record are passed on too: the first one says that nothing is missed from then on.
func (c *Client) Trace(ctx context.Context, filter Filter, f func(TraceLine) error) error {
	resp, err := c.send(ctx, http.MethodGet, "/v1/trace?"+filter.Query().Encode())
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return failure(resp)
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(make([]byte, 64<<10), maxLine)
	for lines.Scan() {
		var l TraceLine
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			return fmt.Errorf("trace: a line is not what this version understands: %w", err)
		}
		if err := f(l); err != nil {
			return err
		}
	}
	switch err := lines.Err(); {
	case ctx.Err() != nil:
		return ctx.Err()
	case err == nil, errors.Is(err, io.ErrUnexpectedEOF):
		return io.EOF
	default:
		return err
	}
}

// maxAnswer bounds the bytes read of an answer that is no list of flows: a policy of 10,000
// rules of 1 KiB.
const maxAnswer = 16 << 20

func (c *Client) send(ctx context.Context, method, path string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://sslgate"+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	switch {
	case errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return nil, fmt.Errorf("no gateway answers on %s: is it running? `sslgate run -c FILE` starts it", c.path)
	case errors.Is(err, os.ErrPermission):
		return nil, fmt.Errorf("may not open %s: it belongs to the user the gateway runs as; try sudo", c.path)
	}
	return resp, err
}

func (c *Client) do(ctx context.Context, method, path string, into any) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	resp, err := c.send(ctx, method, path)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusBadRequest {
		return resp.StatusCode, failure(resp)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return resp.StatusCode, err
	}
	if err := json.Unmarshal(body, into); err != nil {
		return resp.StatusCode, fmt.Errorf("%s: answer %s is not what this version understands", path, resp.Status)
	}
	return resp.StatusCode, nil
}

// failure returns the error in an answer.
func failure(resp *http.Response) error {
	var f Failure
	if err := json.NewDecoder(io.LimitReader(resp.Body, 64<<10)).Decode(&f); err != nil || f.Error == "" {
		return fmt.Errorf("the gateway answers %s", resp.Status)
	}
	return errors.New(f.Error)
}
