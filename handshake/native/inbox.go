package native

import (
	"errors"
	"fmt"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/handshake/native/record"
)

// alertReceived: the peer has ended the connection.
type alertReceived struct {
	alert handshake.Alert
	clear bool // in the clear although there are keys
}

func (a *alertReceived) Error() string { return "alert " + a.alert.String() + unproven(a.clear) }

// unproven says of an alert that nobody knows whose it is. A client that cannot go on behind
// ServerHello may have no keys to seal its alert with (RFC 8446, section 6), so it is taken;
// anybody on the way can send one there, which ends a handshake as a RST of theirs does.
func unproven(inTheClear bool) string {
	if inTheClear {
		return ", in the clear: it may be anybody's"
	}
	return ""
}

// tooLarge is a message that is longer than what is read of its kind.
type tooLarge struct {
	typ  uint8
	size int // bytes, with the header
}

func (t *tooLarge) Error() string {
	return fmt.Sprintf("%s of %d bytes", handshake.MessageName(t.typ), t.size)
}

// inbox puts handshake messages together from records (RFC 8446, section 5.1).
type inbox struct {
	in      *record.Reader
	ledger  *handshake.Ledger
	part    []byte // what came and was not taken: parts of messages
	warning int    // in a row
	v12     bool   // TLS 1.2: alerts have levels
	step    handshake.Step
}

// expect is next for a message of one type: one of another type that is longer is as
// unexpected as one that is not.
func (i *inbox) expect(typ uint8, most int) ([]byte, error) {
	msg, err := i.next(most)
	if large, ok := errors.AsType[*tooLarge](err); ok && large.typ != typ {
		return nil, unexpected("%s in place of %s", large, handshake.MessageName(typ))
	}
	return msg, err
}

// coming waits for the header of the next message, and says its type.
func (i *inbox) coming() (uint8, error) {
	for len(i.part) < handshake.MessageHeader {
		typ, content, err := i.in.Next()
		if err == nil {
			err = i.put(typ, content)
		}
		if err != nil {
			return 0, err
		}
	}
	return i.part[0], nil
}

// next waits for a whole message of at most most bytes. It is the caller's.
func (i *inbox) next(most int) ([]byte, error) {
	for {
		msg, err := i.take(most)
		if msg != nil || err != nil {
			return msg, err
		}
		typ, content, err := i.in.Next()
		if err != nil {
			return nil, err
		}
		if err := i.put(typ, content); err != nil {
			return nil, err
		}
	}
}

// take takes a message that is there, nil if there is none.
func (i *inbox) take(most int) ([]byte, error) {
	if len(i.part) < handshake.MessageHeader {
		return nil, nil
	}
	n := handshake.MessageHeader + (int(i.part[1])<<16 | int(i.part[2])<<8 | int(i.part[3]))
	if n > most {
		return nil, &tooLarge{i.part[0], n}
	}
	if len(i.part) < n {
		return nil, nil
	}
	msg := i.part[:n:n]
	if i.part = i.part[n:]; len(i.part) == 0 {
		i.part, i.in.Midway = nil, false
	}
	return msg, nil
}

// put takes the content of a record during the handshake.
func (i *inbox) put(typ uint8, content []byte) error {
	switch typ {
	case handshake.RecordAlert:
		return i.alert(content)
	case handshake.RecordHandshake:
		i.part, i.in.Midway, i.warning = append(i.part, content...), true, 0
		return nil
	}
	return unexpected("a record of type %d during the handshake", typ)
}

// changeCipherSpec waits for the sign that the peer's keys change (RFC 5246, section 7.1).
func (i *inbox) changeCipherSpec() error {
	for {
		if err := i.changeKeys(); err != nil {
			return err
		}
		typ, content, err := i.in.Next()
		switch {
		case err != nil:
			return err
		case typ != handshake.RecordCCS:
			if typ != handshake.RecordAlert {
				return unexpected("a record of type %d in place of ChangeCipherSpec", typ)
			}
			if err := i.alert(content); err != nil {
				return err
			}
		case len(content) != 1 || content[0] != 1:
			return &record.Fault{Alert: handshake.AlertDecodeError, Detail: fmt.Sprintf("a ChangeCipherSpec of %d bytes", len(content))}
		default:
			return nil
		}
	}
}

// alert is for an alert of the peer. All end the connection but user_canceled, which
// close_notify follows (RFC 8446, section 6.1), and in TLS 1.2 warnings (RFC 5246, section
// 7.2.2).
func (i *inbox) alert(content []byte) error {
	if len(content) != 2 {
		return &record.Fault{Alert: handshake.AlertDecodeError, Detail: fmt.Sprintf("an alert of %d bytes", len(content))}
	}
	a := handshake.Alert(content[1])
	goesOn := a == handshake.AlertUserCanceled
	if i.v12 {
		goesOn = content[0] == 1 && a != handshake.AlertCloseNotify
		if content[0] != 1 && content[0] != 2 {
			return unexpected("an alert of level %d", content[0])
		}
	}
	if len(i.part) > 0 && (goesOn || a == handshake.AlertCloseNotify && i.step == handshake.StepApplicationData) {
		return unexpected("alert %s inside a message", a) // section 5.1
	}
	if orderly := a == handshake.AlertCloseNotify || a == handshake.AlertUserCanceled; i.step != handshake.StepApplicationData || !orderly {
		i.note(content, a)
	}
	if goesOn {
		if i.warning++; i.warning > maxWarnings {
			return unexpected("alert %s without an end", a)
		}
		return nil
	}
	return &alertReceived{a, i.in.Clear}
}

// note puts an alert of the peer into the ledger.
func (i *inbox) note(content []byte, a handshake.Alert) {
	facts := a.String()
	if content[0] == 1 && a != handshake.AlertCloseNotify {
		facts = "warning " + facts
	}
	facts += unproven(i.in.Clear)
	i.ledger.Note(handshake.Entry{Step: i.step, From: handshake.SidePeer, Message: handshake.MsgAlert, Alert: a, Facts: facts, Size: len(content)})
}

// maxWarnings bounds user_canceled and warnings, in a row.
const maxWarnings = 4

// changeKeys says whether the keys may change here: nothing of a message may be left
// (RFC 8446, section 5.1).
func (i *inbox) changeKeys() error {
	if len(i.part) > 0 {
		return unexpected("%d bytes behind the last message before a change of keys", len(i.part))
	}
	return nil
}

// unexpected is a breach of the order of messages.
func unexpected(format string, args ...any) error {
	return &record.Fault{Alert: handshake.AlertUnexpectedMessage, Detail: fmt.Sprintf(format, args...)}
}
