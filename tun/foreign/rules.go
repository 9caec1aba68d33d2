package foreign

import (
	"encoding/binary"
	"errors"
	"fmt"
	"syscall"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// ruleReader reads the rules of chains of others. The library always reads whole chains,
// and leaves out expressions that it does not know, so that a rule seems to have fewer
// conditions. ruleReader stops after a number of rules, and returns nil for an unknown
// expression.
type ruleReader struct {
	fd  int
	seq uint32
}

// rule is a rule of somebody else, with the number by which nft names it.
type rule struct {
	handle uint64
	exprs  []expr.Any // nil stands for an unknown expression
}

// openRules opens the reader in the network namespace of the calling thread.
func openRules() (*ruleReader, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, fmt.Errorf("open nftables: %w", err)
	}
	return &ruleReader{fd: fd}, nil
}

func (r *ruleReader) close() { _ = unix.Close(r.fd) }

// errInterrupted means that somebody changed the rules meanwhile.
var errInterrupted = errors.New("the rules were changed while they were read")

// read returns the rules of a chain. If there are more than most it returns errTooMany.
func (r *ruleReader) read(t *nftables.Table, chain string, most int) ([]rule, error) {
	attrs, err := netlink.MarshalAttributes([]netlink.Attribute{
		{Type: unix.NFTA_RULE_TABLE, Data: []byte(t.Name + "\x00")}, {Type: unix.NFTA_RULE_CHAIN, Data: []byte(chain + "\x00")},
	})
	if err != nil {
		return nil, fmt.Errorf("ask for the rules of chain %s: %w", chain, err)
	}
	r.seq++
	ask := binary.NativeEndian.AppendUint32(nil, uint32(unix.NLMSG_HDRLEN+4+len(attrs)))
	ask = binary.NativeEndian.AppendUint16(ask, unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_GETRULE)
	ask = binary.NativeEndian.AppendUint16(ask, unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	ask = binary.NativeEndian.AppendUint32(ask, r.seq)
	ask = append(ask, 0, 0, 0, 0, byte(t.Family), 0, 0, 0) // port: the kernel's; struct nfgenmsg
	if err := unix.Sendto(r.fd, append(ask, attrs...), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, fmt.Errorf("ask for the rules of chain %s: %w", chain, err)
	}
	all, err := r.receive(byte(t.Family), most)
	if err != nil {
		return nil, fmt.Errorf("read the rules of chain %s: %w", chain, err)
	}
	return all, nil
}

// receive reads the whole answer, and keeps at most most rules of it.
func (r *ruleReader) receive(family byte, most int) ([]rule, error) {
	var all []rule
	var bad error
	buf := make([]byte, 1<<16) // bytes; the kernel's packets have at most 32 KiB
	for {
		n, from, err := unix.Recvfrom(r.fd, buf, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, err
		}
		msgs, err := syscall.ParseNetlinkMessage(buf[:n])
		if err != nil {
			return nil, err
		}
		if a, ok := from.(*unix.SockaddrNetlink); !ok || a.Pid != 0 { // not from the kernel
			continue
		}
		for _, m := range msgs {
			switch {
			case m.Header.Seq != r.seq:
				continue
			case m.Header.Type == unix.NLMSG_DONE:
				return all, bad
			case m.Header.Type == unix.NLMSG_ERROR:
				return nil, netlinkError(m.Data)
			case m.Header.Flags&unix.NLM_F_DUMP_INTR != 0:
				bad = errInterrupted
			case bad != nil: // drain the rest from the socket's buffer
			case len(all) == most:
				all, bad = nil, errTooMany
			default:
				one, err := decodeRule(family, m.Data)
				all, bad = append(all, one), err
			}
		}
	}
}

func netlinkError(data []byte) error {
	if len(data) < 4 {
		return unix.EBADMSG
	}
	return unix.Errno(-int32(binary.NativeEndian.Uint32(data)))
}

// decodeRule reads NFTA_RULE_HANDLE and NFTA_RULE_EXPRESSIONS of a message of
// linux/netfilter/nf_tables.h, behind its struct nfgenmsg of 4 bytes.
func decodeRule(family byte, data []byte) (rule, error) {
	var r rule
	if len(data) < 4 {
		return r, unix.EBADMSG
	}
	ad, err := netlink.NewAttributeDecoder(data[4:])
	if err != nil {
		return r, err
	}
	for ad.Next() {
		switch ad.Type() {
		case unix.NFTA_RULE_HANDLE:
			if b := ad.Bytes(); len(b) == 8 {
				r.handle = binary.BigEndian.Uint64(b)
			}
		case unix.NFTA_RULE_EXPRESSIONS:
			ad.Nested(func(list *netlink.AttributeDecoder) error {
				for list.Next() {
					list.Nested(func(e *netlink.AttributeDecoder) error {
						r.exprs = append(r.exprs, decodeExpr(family, e))
						return e.Err()
					})
				}
				return list.Err()
			})
		}
	}
	return r, ad.Err()
}

// decodeExpr reads one expression; nil if it is not known or cannot be read.
func decodeExpr(family byte, ad *netlink.AttributeDecoder) expr.Any {
	name := ""
	var data []byte
	for ad.Next() {
		switch ad.Type() {
		case unix.NFTA_EXPR_NAME:
			name = ad.String()
		case unix.NFTA_EXPR_DATA:
			data = ad.Bytes()
		}
	}
	e := newExpr(name)
	if e == nil || expr.Unmarshal(family, data, e) != nil {
		return nil
	}
	// A verdict is an immediate for the register of verdicts.
	if i, ok := e.(*expr.Immediate); ok && i.Register == unix.NFT_REG_VERDICT {
		v := &expr.Verdict{}
		if expr.Unmarshal(family, data, v) != nil {
			return nil
		}
		return v
	}
	if c, ok := e.(*expr.Ct); ok && readSource(c, data) != nil {
		return nil
	}
	return e
}

// readSource reads the register that a ct expression sets something from (NFTA_CT_SREG),
// which the library leaves out.
func readSource(c *expr.Ct, data []byte) error {
	ad, err := netlink.NewAttributeDecoder(data)
	if err != nil {
		return err
	}
	ad.ByteOrder = binary.BigEndian
	for ad.Next() {
		if ad.Type() == unix.NFTA_CT_SREG {
			c.SourceRegister, c.Register = true, ad.Uint32()
		}
	}
	return ad.Err()
}

// newExpr is one of the expressions that a walk understands.
func newExpr(name string) expr.Any {
	switch name {
	case "meta":
		return &expr.Meta{}
	case "ct":
		return &expr.Ct{}
	case "payload":
		return &expr.Payload{}
	case "bitwise":
		return &expr.Bitwise{}
	case "immediate":
		return &expr.Immediate{}
	case "cmp":
		return &expr.Cmp{}
	case "lookup":
		return &expr.Lookup{}
	case "fib":
		return &expr.Fib{}
	case "reject":
		return &expr.Reject{}
	case "queue":
		return &expr.Queue{}
	case "match":
		return &expr.Match{}
	case "target":
		return &expr.Target{}
	case "counter":
		return &expr.Counter{}
	case "log":
		return &expr.Log{}
	case "notrack":
		return &expr.Notrack{}
	case "flow_offload":
		return &expr.FlowOffload{}
	}
	return nil
}
