package admin

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/sslgate/sslgate/internal/ticket"
)

// How one process takes over from another, over the admin socket of the older one
// (docs/upgrade.md):
//
//  1. The newer one sends POST /v1/handover with an Offer and `Upgrade: sslgate-handover`.
//     With `"look": true` in it the answer is 200 and the Terms without keys, and nothing is
//     changed: so the newer one can see whether it agrees. Then it asks without. The older one
//     answers 101 and a line with its Terms. Any other answer means no. (A gateway that does
//     not know "look" answers 101 to the first.)
//  2. From then on the newer one sends a line with an Order, and the older one answers
//     with a line that says that it is done, or why not.
//  3. When the connection ends before the order "drain", or no order comes for LeaseTime, the
//     older one takes everything back. When it ends after that, one of the two has ended.

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
	// Memory is what both processes may take together, in bytes; 0: there is no bound.
	Memory int64 `json:"memory"`
	// Config is the absolute path of the configuration that the process has loaded; "": not
	// said. Once it stays the older one reads that too.
	Config string `json:"config,omitempty"`
	// Look asks for the terms alone.
	Look bool `json:"look,omitempty"`
	// Unasked: no one has asked for this hand-over; a supervisor has started the process, and
	// may start many.
	Unasked bool `json:"unasked,omitempty"`
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
	LocalOut     bool     `json:"local_out"`
	OwnMark      uint32   `json:"own_mark"` // of its own sockets; 0 without LocalOut
	Programs     string   `json:"programs"` // which connections of this host's programs it captures, as text to compare
	Mask         uint32   `json:"mask"`
	CTMask       uint32   `json:"ct_mask"`
	Preference   int      `json:"preference"`
	Mark         uint32   `json:"mark"`  // of its own slot
	Table        int      `json:"table"` // likewise
	ReturnMark   uint32   `json:"return_mark"`
	ReturnTable  int      `json:"return_table"`
	// Ceiling is what the older process keeps of Offer.Memory, in bytes; 0: it has no bound.
	Ceiling int64 `json:"ceiling"`
	// Decided are the flows of the last ten minutes, Refused those of them that were not let
	// through.
	Decided uint64 `json:"decided"`
	Refused uint64 `json:"refused"`
	// Watchdog is how often systemd wants a sign of life; 0: never.
	Watchdog time.Duration `json:"watchdog_ns"`
	// TicketKeys are secrets: with them tickets of the older process are good at the newer. They
	// must be the last field: see line.
	TicketKeys []ticket.ExportedKey `json:"ticket_keys"`
}

// line is the terms as they are sent. It clears the keys: the line has the only copy, and is
// cleared once it is sent. No encoder may see the keys, as it would leave them in its buffers.
func (t *Terms) line() ([]byte, error) {
	defer clearKeys(t.TicketKeys)
	without := *t
	without.TicketKeys = nil
	rest, err := json.Marshal(without)
	if err != nil {
		return nil, err
	}
	rest, last := bytes.CutSuffix(rest, []byte("null}"))
	if !last {
		return nil, errors.New("the keys are not the last field of the terms")
	}
	const each = `{"key":"","made":""},`
	size := len(rest) + len("[]}\n")
	for i := range t.TicketKeys {
		size += len(each) + base64.StdEncoding.EncodedLen(len(t.TicketKeys[i].Key)) + len(time.RFC3339Nano)
	}
	line := append(make([]byte, 0, size), rest...) // never grows: that would leave a copy
	line = append(line, '[')
	for i, k := range t.TicketKeys {
		if i > 0 {
			line = append(line, ',')
		}
		line = append(line, `{"key":"`...)
		line = base64.StdEncoding.AppendEncode(line, k.Key)
		line = append(line, `","made":"`...)
		line = k.Made.UTC().AppendFormat(line, time.RFC3339Nano)
		line = append(line, `"}`...)
	}
	return append(line, "]}\n"...), nil
}

// clearKeys overwrites keys that are not wanted any more.
func clearKeys(keys []ticket.ExportedKey) {
	for i := range keys {
		clear(keys[i].Key)
		keys[i] = ticket.ExportedKey{}
	}
}

// Orders that the newer process gives.
const (
	OrderGive  = "give"  // stop repairing the steering: the newer one takes it
	OrderBack  = "back"  // take everything back
	OrderDrain = "drain" // the newer one stays: end when the last flow has ended
	OrderAlive = "alive" // nothing: the newer one lives
	// OrderReport asks for a Report. After it the older process keeps to the ceiling that the
	// report has.
	OrderReport = "report"
)

// Report is how far the older process is.
type Report struct {
	Flows int `json:"flows"`
	// Clients are the live flows by client, of the MaxClients clients that have the most.
	Clients map[netip.Prefix]int `json:"clients,omitempty"`
	Ceiling int64                `json:"ceiling"` // of its memory, in bytes; 0: it has no bound
	Metrics []byte               `json:"metrics"` // its counters, as metrics.Export writes them
	Last    bool                 `json:"last"`    // it has no flow and gets no more
	// Stopping: it was told to stop, which means both: the newer one does not stay.
	Stopping bool `json:"stopping,omitempty"`
}

// MaxClients bounds Report.Clients: some 40 bytes each.
const MaxClients = 4096

// LeaseTime is how long the older process waits for the next order, until "drain". The newer
// one gives one every AliveEvery at least.
const (
	LeaseTime  = 15 * time.Second
	AliveEvery = 3 * time.Second
)

type order struct {
	Do string `json:"do"`
}

type done struct {
	Did    string  `json:"did"`
	Error  string  `json:"error,omitempty"`
	Report *Report `json:"report,omitempty"`
}

// HandOver is the older process's side of a hand-over that is under way.
type HandOver interface {
	Give() error
	Back() error
	Drain() error
	Report() Report
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
	if offer.Look {
		answer(w, http.StatusOK, terms)
		return
	}
	s.hijacked.Add(1) // the server does not wait for hijacked connections by itself
	defer s.hijacked.Done()
	defer over.End()
	line, err := terms.line()
	defer func() { clear(line) }()
	if err != nil {
		fail(w, http.StatusInternalServerError, err.Error())
		return
	}
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		fail(w, http.StatusInternalServerError, err.Error())
		return
	}
	defer context.AfterFunc(s.ending, func() { _ = conn.Close() })()
	defer func() { _ = conn.Close() }()
	if err = conn.SetDeadline(time.Now().Add(LeaseTime)); err != nil {
		return
	}
	_, err = fmt.Fprintf(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", handOverUpgrade)
	err = errors.Join(err, rw.Flush())
	if err == nil {
		_, err = conn.Write(line) // not through a buffer
	}
	clear(line)
	for err == nil {
		var o order
		if err = readLine(rw.Reader, maxOrder, &o); err != nil {
			break
		}
		answer := obey(over, o)
		// Set anew before the answer: whoever does not read it does not keep the lease either.
		if err = conn.SetDeadline(time.Now().Add(LeaseTime)); err == nil {
			err = sendLine(rw.Writer, answer)
		}
	}
}

func obey(over HandOver, o order) done {
	switch o.Do {
	case OrderAlive:
		return done{Did: o.Do}
	case OrderReport:
		r := over.Report()
		return done{Did: o.Do, Report: &r}
	}
	do, ok := map[string]func() error{OrderGive: over.Give, OrderBack: over.Back, OrderDrain: over.Drain}[o.Do]
	if !ok {
		return done{Did: o.Do, Error: "there is no such order"}
	}
	if err := do(); err != nil {
		return done{Did: o.Do, Error: err.Error()}
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

// readLine reads a line of at most most bytes. It leaves no copy of it in buffers: there may be
// keys in it.
func readLine(r *bufio.Reader, most int, v any) error {
	var line []byte
	defer func() { clear(line) }()
	for {
		part, err := r.ReadSlice('\n')
		if len(line)+len(part) > most {
			return errLongLine
		}
		if len(line)+len(part) > cap(line) {
			more := append(make([]byte, 0, 2*cap(line)+len(part)), line...)
			clear(line)
			line = more
		}
		line = append(line, part...)
		clear(part) // in the reader's buffer; it is read
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if err != nil {
			return err
		}
		return json.Unmarshal(line, v)
	}
}
