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
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/sslgate/sslgate/internal/dialer"
)

// Lease is the newer process's side of a hand-over.
type Lease struct {
	Terms Terms

	conn net.Conn
	mu   sync.Mutex // one order at a time
	lost error      // why the connection is of no use any more; guarded by mu
	in   *bufio.Reader
	out  *bufio.Writer
}

// orderTime bounds an order: the older process may have to write the nft table. It is shorter
// than LeaseTime: the newer one knows first.
const orderTime = 10 * time.Second

// maxReport bounds the answer to an order in bytes: the counters of 2000 rules are some
// hundred KiB.
const maxReport = 16 << 20

// ErrNoHandOver is returned by HandOver if nothing that can hand over answers: there is no
// gateway, or it is older than the protocol.
var ErrNoHandOver = errors.New("nothing to take over from")

// HandOver asks the running gateway to hand over, if agree says nothing against its terms. It
// is asked before anything is handed over, and again of the final terms. The caller must close
// the Lease.
func (c *Client) HandOver(ctx context.Context, offer Offer, agree func(*Terms) error) (*Lease, error) {
	offer.Look = true
	l, looked, err := c.lease(ctx, offer, agree)
	if err != nil || !looked {
		return l, err
	}
	_ = l.Close()
	offer.Look = false
	l, looked, err = c.lease(ctx, offer, agree)
	if err == nil && looked {
		_ = l.Close()
		return nil, errors.New("the running gateway answers as if nothing were to be handed over")
	}
	return l, err
}

// lease makes an offer on a connection of its own. looked says that the lease is terms alone.
func (c *Client) lease(ctx context.Context, offer Offer, agree func(*Terms) error) (_ *Lease, looked bool, err error) {
	conn, err := dialer.Unix(ctx, c.path, 0)
	switch {
	case errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return nil, false, fmt.Errorf("%w: no gateway answers on %s; start one: sslgate run", ErrNoHandOver, c.path)
	case err != nil:
		return nil, false, fmt.Errorf("ask the running gateway: %w", err)
	}
	l := &Lease{conn: conn, in: bufio.NewReader(conn), out: bufio.NewWriter(conn)}
	if looked, err = l.ask(ctx, offer); err == nil {
		err = agree(&l.Terms)
	}
	if err != nil {
		_ = l.Close()
		return nil, false, err
	}
	return l, looked, nil
}

// ask sends an offer and reads the terms. looked says that they are terms alone.
func (l *Lease) ask(ctx context.Context, offer Offer) (looked bool, err error) {
	if err := l.conn.SetDeadline(time.Now().Add(orderTime)); err != nil {
		return false, err
	}
	body, err := json.Marshal(offer)
	if err != nil {
		return false, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://sslgate/v1/handover", strings.NewReader(string(body)))
	if err != nil {
		return false, err
	}
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", handOverUpgrade)
	if err := errors.Join(req.Write(l.out), l.out.Flush()); err != nil {
		return false, err
	}
	resp, err := http.ReadResponse(l.in, req)
	if err != nil {
		return false, fmt.Errorf("ask the running gateway: %w", err)
	}
	switch resp.StatusCode {
	case http.StatusSwitchingProtocols:
		err = readLine(l.in, maxOrder, &l.Terms)
	case http.StatusOK:
		looked = true
		err = json.NewDecoder(io.LimitReader(resp.Body, maxOrder)).Decode(&l.Terms)
		_ = resp.Body.Close()
	case http.StatusNotFound, http.StatusMethodNotAllowed:
		_ = resp.Body.Close()
		return false, fmt.Errorf("%w: the running gateway is of a version that cannot hand over: stop it and start the other (systemctl restart sslgate), its flows have limits.drain", ErrNoHandOver)
	default:
		defer resp.Body.Close()
		return false, fmt.Errorf("the running gateway does not hand over: %w", failure(resp))
	}
	if err != nil {
		return false, fmt.Errorf("the terms of the running gateway cannot be read: %w", err)
	}
	if l.Terms.Protocol != HandOverProtocol {
		return false, fmt.Errorf("the running gateway hands over by protocol %d, not %d", l.Terms.Protocol, HandOverProtocol)
	}
	return looked, nil
}

// ErrRefused is wrapped by errors of Order with which the older process says no. After any
// other error the connection is of no use: the older process has died, or does not answer.
var ErrRefused = errors.New("the older gateway refuses")

// Order gives an order and waits until it is done.
func (l *Lease) Order(do string) error {
	_, err := l.order(do)
	return err
}

// Report asks how far the older process is.
func (l *Lease) Report() (Report, error) {
	d, err := l.order(OrderReport)
	if err == nil && d.Report == nil {
		err = errors.New("the older gateway reports nothing")
	}
	if err != nil {
		return Report{}, err
	}
	return *d.Report, nil
}

func (l *Lease) order(do string) (d done, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lost != nil {
		return d, l.lost
	}
	err = l.conn.SetDeadline(time.Now().Add(orderTime))
	if err == nil {
		err = sendLine(l.out, order{do})
	}
	if err == nil {
		err = readLine(l.in, maxReport, &d)
	}
	if err == nil && d.Did != do {
		err = fmt.Errorf("it answers to %q", d.Did)
	}
	switch {
	case err != nil:
		l.lost = fmt.Errorf("the older gateway does not answer to %q: %w", do, err)
		_ = l.conn.Close() // so that it knows too
		return done{}, l.lost
	case d.Error != "":
		return done{}, fmt.Errorf("%w: %s", ErrRefused, d.Error)
	}
	return d, nil
}

// KeepAlive gives an order every AliveEvery until ctx ends, or the connection.
func (l *Lease) KeepAlive(ctx context.Context) {
	tick := time.NewTicker(AliveEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if l.Order(OrderAlive) != nil {
			return // the next order fails too
		}
	}
}

// Close ends the lease: without the order "drain" the older process takes everything back.
func (l *Lease) Close() error {
	err := l.conn.Close() // first: it ends an order that waits
	l.ForgetKeys()
	return err
}

// ForgetKeys clears the keys of the terms.
func (l *Lease) ForgetKeys() {
	l.mu.Lock()
	defer l.mu.Unlock()
	clearKeys(l.Terms.TicketKeys)
	l.Terms.TicketKeys = nil
}
