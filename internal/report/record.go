package report

import (
	"encoding/json/jsontext"
	"encoding/json/v2"
	"errors"
	"fmt"

	"github.com/sslgate/sslgate/internal/audit"
)

// record is what an inventory needs of a record: audit.Parsed without the ledgers, which
// are most of the bytes and are passed over unread.
type record struct {
	Msg             string             `json:"msg"`
	ID              string             `json:"id"`
	Seq             uint64             `json:"seq"`
	Time            string             `json:"time"`
	Client          string             `json:"client"`
	Destination     string             `json:"destination"`
	SNI             string             `json:"sni"`
	Hello           *audit.ParsedHello `json:"hello"`
	Action          string             `json:"action"`
	Verdict         string             `json:"verdict"`
	Reason          string             `json:"reason"`
	Would           string             `json:"would"`
	ClientLeg       *audit.ParsedLeg   `json:"client_leg"`
	DestinationLeg  *audit.ParsedLeg   `json:"destination_leg"`
	Peer            *audit.ParsedPeer  `json:"peer"`
	DestinationPeer *audit.ParsedPeer  `json:"destination_peer"`
	Seen            *audit.ParsedSeen  `json:"seen"`
}

// parse reads a line. What is in it is bounded by the line, and strings of peers are
// escaped already.
func parse(line []byte, r *record) error {
	*r = record{}
	err := json.Unmarshal(line, r)
	var syntax *jsontext.SyntacticError
	var kind *json.SemanticError
	switch {
	case errors.As(err, &syntax):
		return fmt.Errorf("column %d: no JSON", syntax.ByteOffset+1)
	case errors.As(err, &kind):
		return fmt.Errorf("column %d: a field of another type than a record has", kind.ByteOffset+1)
	case err != nil:
		return errors.New("no JSON")
	case r.Msg != "flow":
		return errors.New("no record of a flow")
	}
	return nil
}
