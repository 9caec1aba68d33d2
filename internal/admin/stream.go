package admin

import (
	"bytes"
	"encoding/json"
	"net/http"
	"time"

	"github.com/sslgate/sslgate/internal/audit"
)

const (
	// streamWrite is how long a reader may take for what was written. A slower reader is
	// cut off and can connect again.
	streamWrite = 20 * time.Second
	// heartbeat is how often a trace without records sends a line, so that both sides
	// notice when the other is gone.
	heartbeat = 15 * time.Second
	// maxBoardReaders bounds the open web pages; all share one Board.
	maxBoardReaders = 8
	// traceBatch is how many records at most are written at once.
	traceBatch = 64
)

// long removes the deadlines of ordinary answers from a response.
func long(w http.ResponseWriter) *http.ResponseController {
	rc := http.NewResponseController(w)
	_ = rc.SetReadDeadline(time.Time{}) // fails only on a connection that is gone
	_ = rc.SetWriteDeadline(time.Time{})
	return rc
}

// stream begins an answer that consists of lines.
func stream(w http.ResponseWriter) func([]byte) error {
	rc := long(w)
	h := w.Header()
	h.Set("Content-Type", ndjson)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(http.StatusOK)
	return func(line []byte) error {
		if err := rc.SetWriteDeadline(time.Now().Add(streamWrite)); err != nil {
			return err
		}
		if _, err := w.Write(line); err != nil {
			return err
		}
		return rc.Flush()
	}
}

func (s *Server) trace(w http.ResponseWriter, r *http.Request) {
	f, err := ParseFilter(r.URL.Query())
	if err != nil {
		fail(w, http.StatusBadRequest, err.Error())
		return
	}
	sub, err := s.opt.Hub.Subscribe(f)
	if err != nil {
		fail(w, http.StatusServiceUnavailable, err.Error())
		return
	}
	defer s.opt.Hub.Unsubscribe(sub)
	write := stream(w)
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	if write([]byte("{}\n")) != nil { // tells the reader that nothing is missed from here on
		return
	}
	var lines bytes.Buffer
	for {
		lines.Reset()
		select {
		case <-r.Context().Done():
			return
		case <-s.ending.Done():
			return
		case <-beat.C:
			traceLine(&lines, sub, nil)
		case rec := <-sub.C:
			traceLine(&lines, sub, rec)
			for n := min(len(sub.C), traceBatch); n > 0; n-- {
				traceLine(&lines, sub, <-sub.C)
			}
		}
		if write(lines.Bytes()) != nil {
			return
		}
	}
}

// traceLine appends one line; a record that cannot be encoded counts as lost.
func traceLine(b *bytes.Buffer, sub *Subscription, r *audit.Record) {
	line := TraceLine{Lost: sub.Lost()}
	if r != nil {
		var err error
		if line.Record, err = EncodeRecord(r); err != nil {
			line.Lost++
		}
	}
	_ = json.NewEncoder(b).Encode(line) // a RawMessage made here is valid JSON
}

func (s *Server) board(w http.ResponseWriter, r *http.Request) {
	first, err := s.boards.get()
	if err != nil {
		fail(w, http.StatusInternalServerError, err.Error())
		return
	}
	if r.URL.Query().Get("once") == "true" {
		answer(w, http.StatusOK, json.RawMessage(first))
		return
	}
	select {
	case s.readers <- struct{}{}:
		defer func() { <-s.readers }()
	default:
		fail(w, http.StatusServiceUnavailable, "too many web pages are open: 8 at a time")
		return
	}
	write := stream(w)
	tick := time.NewTicker(boardEvery)
	defer tick.Stop()
	for b := first; ; {
		// A slow reader gets fewer boards, never old ones: the next one is made after it has
		// taken this one.
		if write(append(b[:len(b):len(b)], '\n')) != nil {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-s.ending.Done():
			return
		case <-tick.C:
		}
		if b, err = s.boards.get(); err != nil {
			return
		}
	}
}
