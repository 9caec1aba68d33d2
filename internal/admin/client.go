package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"syscall"
	"time"
)

// Client talks to a running gateway.
type Client struct {
	path string
	http *http.Client
}

// NewClient is a client of the gateway that listens on the socket.
func NewClient(path string) *Client {
	return &Client{path: path, http: &http.Client{
		Timeout: time.Minute, // a reload reads every certificate and CRL
		Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, "unix", path)
			},
		},
	}}
}

// Status asks how the gateway stands.
func (c *Client) Status(ctx context.Context) (s Status, err error) {
	_, err = c.do(ctx, http.MethodGet, "/v1/status", &s)
	return s, err
}

// Reload asks for a reload; taken is false where the old configuration stays.
func (c *Client) Reload(ctx context.Context) (res ReloadResult, taken bool, err error) {
	code, err := c.do(ctx, http.MethodPost, "/v1/reload", &res)
	return res, code == http.StatusOK, err
}

// Flows lists the live flows.
func (c *Client) Flows(ctx context.Context) (flows []Flow, err error) {
	_, err = c.do(ctx, http.MethodGet, "/v1/flows", &flows)
	return flows, err
}

// EndFlow ends a live flow; false where there is none of that id.
func (c *Client) EndFlow(ctx context.Context, id string) (bool, error) {
	var ignored map[string]string
	code, err := c.do(ctx, http.MethodPost, "/v1/flows/"+url.PathEscape(id)+"/end", &ignored)
	return code == http.StatusOK, err
}

// maxAnswer bounds what is read of an answer, in bytes: 20,000 flows of about
// half a KiB.
const maxAnswer = 16 << 20

func (c *Client) do(ctx context.Context, method, path string, into any) (int, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://sslgate"+path, nil)
	if err != nil {
		return 0, err
	}
	resp, err := c.http.Do(req)
	switch {
	case errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return 0, fmt.Errorf("no gateway answers on %s: is it running? `sslgate run -c FILE` starts it", c.path)
	case errors.Is(err, os.ErrPermission):
		return 0, fmt.Errorf("may not open %s: it belongs to the user the gateway runs as; try sudo", c.path)
	case err != nil:
		return 0, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return resp.StatusCode, err
	}
	if err := json.Unmarshal(body, into); err != nil {
		return resp.StatusCode, fmt.Errorf("%s: answer %s is not what this version understands", path, resp.Status)
	}
	return resp.StatusCode, nil
}
