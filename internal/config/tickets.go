package config

import (
	"fmt"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/ticket"
)

// RuntimeTickets are Tickets with their keys loaded.
type RuntimeTickets struct {
	Lifetime time.Duration
	Keys     handshake.TicketSealer // nil: those of the gateway's own
	IDs      []string               // of the keys that several gateways share, the one that seals first
}

// ticketHello is a ClientHello of usual size that brings back a ticket with a chain of usual
// size.
const ticketHello = 8 << 10

func (f *File) checkTickets(t *Tickets) {
	if hello := f.Config.Limits.Hello; t.Mode == "on" && hello >= minHello && hello < ticketHello {
		f.findings = append(f.findings, f.Warning("limits.hello", fmt.Sprintf(
			"leaves little room for session tickets: a hello has the client's chain in its ticket, and clients whose ticket would not fit into %s get none; 8KiB does for most, or write `tickets: {mode: off}`", hello)))
	}
	f.word("tickets.mode", t.Mode, "on", "off")
	f.check(t.Lifetime.Std() >= time.Minute && t.Lifetime.Std() <= ticket.MaxLifetime, "tickets.lifetime",
		"%s is out of range: 1m to 24h", t.Lifetime.Std())
	if t.Mode == "off" && f.has("tickets.keys") {
		f.findings = append(f.findings, f.Warning("tickets.keys", "has no effect with mode: off"))
	}
}

// tickets loads the keys; nil means that there are no tickets.
func (b *builder) tickets() *RuntimeTickets {
	t := b.file.Config.Tickets
	if t.Mode != "on" {
		return nil
	}
	rt := &RuntimeTickets{Lifetime: t.Lifetime.Std()}
	if t.Keys == "" {
		return rt
	}
	file := b.file.abs(t.Keys)
	if b.inBundle("tickets.keys", file) {
		return nil
	}
	f, err := b.file.in.readPEM(file)
	if err != nil {
		b.add("tickets.keys", err.Error())
		return nil
	}
	defer b.file.in.files.DoneSecret(file)
	b.secret("tickets.keys", file, f.Mode.Perm())
	keys, err := ticket.ParseKeys(f.Text)
	if err != nil {
		b.add("tickets.keys", file+": "+err.Error())
		return nil
	}
	rt.Keys, rt.IDs = keys, keys.IDs()
	return rt
}
