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

	"github.com/sslgate/sslgate/handshake"
)

// How one process takes over from another, over the admin socket of the older one
// (docs/upgrade.md):
//
//  1. The newer one sends POST /v1/handover with an Offer and `Upgrade: sslgate-handover`.
//     The older one answers 101 and a line with its Terms. Any other answer means no.
//  2. From then on the newer one sends a line with an Order, and the older one answers
//     with a line that says that it is done, or why not.
//  3. When the connection ends before the order "drain", for whatever reason, the older
//     one takes everything back. When it ends after that, one of the two has ended.

// HandOverProtocol is the version of the above. A gateway that speaks another one says so,
// and nothing is handed over.
const HandOverProtocol = 1

// handOverUpgrade is the protocol in the header Upgrade (RFC 9110, section 7.8).
const handOverUpgrade = "sslgate-handover"

// maxOrder bounds one line in bytes.
const maxOrder = 64 << 10

// Offer is what a process says that wants to take over.
type Offer struct {
	Protocol int    `json:"protocol"` // HandOverProtocol
	Version  string `json:"version"`
	Process  int    `json:"process"`
}

// Terms is what the older process says of itself and hands over.
type Terms struct {
	Protocol int    `json:"protocol"` // HandOverProtocol
	Version  string `json:"version"`
	Process  int    `json:"process"`
	Slot     string `json:"slot"` // a or b: the one it is in
	TUN      string `json:"tun"`  // its device
	Flows    int    `json:"flows"`
	// What the new one must capture too, and share.
	Interfaces   []string `json:"interfaces"`
	Ports        []uint16 `json:"ports"`
	AllPorts     bool     `json:"all_ports"`
	Local        bool     `json:"local"`
	ClientSource bool     `json:"client_source"`
	Mask         uint32   `json:"mask"`
	CTMask       uint32   `json:"ct_mask"`
	Preference   int      `json:"preference"`
	// Ceiling of memory and what is used of it, in bytes; 0: there is none.
	Ceiling  int64 `json:"ceiling"`
	Resident int64 `json:"resident"`
	// Watchdog is how often systemd wants a sign of life; 0: never.
	Watchdog time.Duration `json:"watchdog_ns"`
	// TicketKeys are secrets: with them tickets of the older process are good at the newer.
	TicketKeys []handshake.TicketKey `json:"ticket_keys"`
}

// Orders that the newer process gives.
const (
	OrderGive  = "give"  // stop repairing the steering: the newer one takes it
	OrderBack  = "back"  // take everything back
	OrderDrain = "drain" // the newer one stays: end when the last flow has ended
)

type order struct {
	Do string `json:"do"`
}

type done struct {
	Did   string `json:"did"`
	Error string `json:"error,omitempty"`
}

// HandOver is the older process's side of a hand-over that is under way.
type HandOver interface {
	Give() error
	Back() error
	Drain() error
	// End is called last, when the connection has ended.
	End()
}

// handOver serves POST /v1/handover.
func (s *Server) handOver(w http.ResponseWriter, r *http.Request) {
	if !strings.EqualFold(r.Header.Get("Upgrade"), handOverUpgrade) {
		w.Header().Set("Upgrade", handOverUpgrade)
		fail(w, http.StatusUpgradeRequired, "this is for another process of sslgate: sslgate upgrade")
		return
	}
	var offer Offer
	if err := json.NewDecoder(io.LimitReader(r.Body, maxOrder)).Decode(&offer); err != nil {
		fail(w, http.StatusBadRequest, "the offer cannot be read: "+err.Error())
		return
	}
	if offer.Protocol != HandOverProtocol {
		fail(w, http.StatusConflict, fmt.Sprintf("this gateway hands over by protocol %d, not %d: stop it and start the other", HandOverProtocol, offer.Protocol))
		return
	}
	terms, over, err := s.opt.Backend.HandOver(offer)
	if err != nil {
		fail(w, http.StatusConflict, err.Error())
		return
	}
	defer over.End()
	s.hijacked.Add(1) // the server does not wait for hijacked connections by itself
	defer s.hijacked.Done()
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		fail(w, http.StatusInternalServerError, err.Error())
		return
	}
	defer context.AfterFunc(s.ending, func() { _ = conn.Close() })()
	defer func() { _ = conn.Close() }()
	if conn.SetDeadline(time.Time{}) != nil {
		return
	}
	_, err = fmt.Fprintf(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", handOverUpgrade)
	if err == nil {
		err = sendLine(rw.Writer, &terms)
	}
	for err == nil {
		var o order
		if err = readLine(rw.Reader, &o); err == nil {
			err = sendLine(rw.Writer, obey(over, o))
		}
	}
}

func obey(over HandOver, o order) done {
	do, ok := map[string]func() error{OrderGive: over.Give, OrderBack: over.Back, OrderDrain: over.Drain}[o.Do]
	if !ok {
		return done{o.Do, "there is no such order"}
	}
	if err := do(); err != nil {
		return done{o.Do, err.Error()}
	}
	return done{Did: o.Do}
}

func sendLine(w *bufio.Writer, v any) error {
	if err := json.NewEncoder(w).Encode(v); err != nil {
		return err
	}
	return w.Flush()
}

var errLongLine = errors.New("a line is too long")

func readLine(r *bufio.Reader, v any) error {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		if len(line)+len(part) > maxOrder {
			return errLongLine
		}
		line = append(line, part...)
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if err != nil {
			return err
		}
		return json.Unmarshal(line, v)
	}
}

// Lease is the newer process's side of a hand-over.
type Lease struct {
	Terms Terms

	conn net.Conn
	mu   sync.Mutex // one order at a time
	in   *bufio.Reader
	out  *bufio.Writer
}

// orderTime bounds an order: the older process may have to write the nft table.
const orderTime = 30 * time.Second

// ErrNoHandOver is returned by HandOver if nothing that can hand over answers: there is no
// gateway, or it is older than the protocol.
var ErrNoHandOver = errors.New("nothing to take over from")

// HandOver asks the running gateway to hand over. The caller must close the Lease.
func (c *Client) HandOver(ctx context.Context, offer Offer) (*Lease, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", c.path)
	switch {
	case errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return nil, fmt.Errorf("%w: no gateway answers on %s; start one: sslgate run", ErrNoHandOver, c.path)
	case err != nil:
		return nil, fmt.Errorf("ask the running gateway: %w", err)
	}
	l := &Lease{conn: conn, in: bufio.NewReader(conn), out: bufio.NewWriter(conn)}
	if err := l.ask(ctx, offer); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return l, nil
}

func (l *Lease) ask(ctx context.Context, offer Offer) error {
	if err := l.conn.SetDeadline(time.Now().Add(orderTime)); err != nil {
		return err
	}
	body, err := json.Marshal(offer)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://sslgate/v1/handover", strings.NewReader(string(body)))
	if err != nil {
		return err
	}
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", handOverUpgrade)
	if err := errors.Join(req.Write(l.out), l.out.Flush()); err != nil {
		return err
	}
	resp, err := http.ReadResponse(l.in, req)
	if err != nil {
		return fmt.Errorf("ask the running gateway: %w", err)
	}
	switch resp.StatusCode {
	case http.StatusSwitchingProtocols:
	case http.StatusNotFound, http.StatusMethodNotAllowed:
		_ = resp.Body.Close()
		return fmt.Errorf("%w: the running gateway is of a version that cannot hand over: stop it and start the other (systemctl restart sslgate), its flows have limits.drain", ErrNoHandOver)
	default:
		defer resp.Body.Close()
		return fmt.Errorf("the running gateway does not hand over: %w", failure(resp))
	}
	if err := readLine(l.in, &l.Terms); err != nil {
		return fmt.Errorf("the terms of the running gateway cannot be read: %w", err)
	}
	if l.Terms.Protocol != HandOverProtocol {
		return fmt.Errorf("the running gateway hands over by protocol %d, not %d", l.Terms.Protocol, HandOverProtocol)
	}
	return l.conn.SetDeadline(time.Time{})
}

// Order gives an order and waits until it is done.
func (l *Lease) Order(do string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.conn.SetDeadline(time.Now().Add(orderTime)); err != nil {
		return err
	}
	var d done
	err := sendLine(l.out, order{do})
	if err == nil {
		err = readLine(l.in, &d)
	}
	switch {
	case err != nil:
		return fmt.Errorf("the older gateway does not answer to %q: %w", do, err)
	case d.Did != do:
		return fmt.Errorf("the older gateway answers to %q, not %q", d.Did, do)
	case d.Error != "":
		return errors.New(d.Error)
	}
	return l.conn.SetDeadline(time.Time{})
}

// Ended waits until the older process has ended, or ctx. No order may be given meanwhile.
func (l *Lease) Ended(ctx context.Context) error {
	defer context.AfterFunc(ctx, func() { _ = l.conn.SetReadDeadline(time.Unix(1, 0)) })()
	_, err := l.in.ReadByte()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err == nil {
		return errors.New("the older gateway says something that nobody asked for")
	}
	return nil
}

// Close ends the lease: without the order "drain" the older process takes everything back.
func (l *Lease) Close() error { return l.conn.Close() }
