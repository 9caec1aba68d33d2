package dialer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// Of sock_diag(7) and include/uapi/linux/inet_diag.h, what x/sys/unix does not have.
const (
	sockDiagByFamily = 20 // SOCK_DIAG_BY_FAMILY
	inetDiagMark     = 15 // INET_DIAG_MARK
	// Sizes in bytes of struct inet_diag_req_v2 and struct inet_diag_msg.
	inetDiagRequest, inetDiagMessage = 56, 72
	// nlaTypeMask takes the flags from the type of an attribute (NLA_TYPE_MASK).
	nlaTypeMask = 0x3fff
	// idiagTimer is where the kind of timer is in struct inet_diag_msg, and timerTimeWait
	// that of a socket in TIME_WAIT, or of one in FIN_WAIT2 that has no owner any more.
	idiagTimer    = 2
	timerTimeWait = 3
)

// Owns says whether the TCP connection with these two addresses, seen from its socket, is
// one of a socket of this host that carries the mark. The kernel is asked about the socket
// itself, so it does not matter what chains of others do with the marks of its packets. It
// takes some ten microseconds. To see a mark takes CAP_NET_ADMIN.
func (m Mark) Owns(local, remote netip.AddrPort) (bool, error) {
	if m == 0 {
		return false, nil
	}
	mark, err := socketMark(local, remote)
	if errors.Is(err, unix.ENOENT) {
		return false, nil // of no socket of this host, or of one that is gone
	}
	return mark == uint32(m), err
}

// socketMark is the mark of a TCP socket of this host. The error is ENOENT if there is none.
func socketMark(local, remote netip.AddrPort) (uint32, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_INET_DIAG)
	if err != nil {
		return 0, os.NewSyscallError("socket", err)
	}
	defer func() { _ = unix.Close(fd) }()
	if err := unix.Sendto(fd, question(local, remote), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return 0, os.NewSyscallError("sendto", err)
	}
	var b [8 << 10]byte
	n, _, err := unix.Recvfrom(fd, b[:], 0) // the kernel has answered already
	if err != nil {
		return 0, os.NewSyscallError("recvfrom", err)
	}
	return answer(b[:n])
}

// question asks for one socket: struct nlmsghdr, then struct inet_diag_req_v2.
func question(local, remote netip.AddrPort) []byte {
	b := make([]byte, unix.NLMSG_HDRLEN, unix.NLMSG_HDRLEN+inetDiagRequest)
	binary.NativeEndian.PutUint32(b, unix.NLMSG_HDRLEN+inetDiagRequest)
	binary.NativeEndian.PutUint16(b[4:], sockDiagByFamily)
	binary.NativeEndian.PutUint16(b[6:], unix.NLM_F_REQUEST)
	from, to := local.Addr().Unmap(), remote.Addr().Unmap()
	family := byte(unix.AF_INET)
	if from.Is6() {
		family = unix.AF_INET6
	}
	b = append(b, family, unix.IPPROTO_TCP, 0, 0)
	b = binary.NativeEndian.AppendUint32(b, ^uint32(0)) // in any state
	b = binary.BigEndian.AppendUint16(b, local.Port())
	b = binary.BigEndian.AppendUint16(b, remote.Port())
	for _, a := range []netip.Addr{from, to} {
		var field [16]byte
		copy(field[:], a.AsSlice())
		b = append(b, field[:]...)
	}
	b = binary.NativeEndian.AppendUint32(b, 0) // any interface
	const noCookie = ^uint32(0)                // INET_DIAG_NOCOOKIE
	b = binary.NativeEndian.AppendUint32(b, noCookie)
	return binary.NativeEndian.AppendUint32(b, noCookie)
}

// answer reads the mark of the one socket in an answer of the kernel.
func answer(b []byte) (uint32, error) {
	malformed := fmt.Errorf("an answer of sock_diag that cannot be read")
	if len(b) < unix.NLMSG_HDRLEN {
		return 0, malformed
	}
	switch body := b[unix.NLMSG_HDRLEN:]; binary.NativeEndian.Uint16(b[4:]) {
	case unix.NLMSG_ERROR:
		if len(body) < 4 {
			return 0, malformed
		}
		if code := int32(binary.NativeEndian.Uint32(body)); code < 0 {
			return 0, os.NewSyscallError("sock_diag", unix.Errno(-code))
		}
		return 0, malformed
	case sockDiagByFamily:
		if len(body) < inetDiagMessage {
			return 0, malformed
		}
		for attrs := body[inetDiagMessage:]; len(attrs) >= unix.SizeofNlAttr; {
			size := int(binary.NativeEndian.Uint16(attrs))
			if size < unix.SizeofNlAttr || size > len(attrs) {
				return 0, malformed
			}
			if value := attrs[unix.SizeofNlAttr:size]; binary.NativeEndian.Uint16(attrs[2:])&nlaTypeMask == inetDiagMark && len(value) >= 4 {
				return binary.NativeEndian.Uint32(value), nil
			}
			attrs = attrs[min(len(attrs), (size+3)&^3):]
		}
		if body[idiagTimer] == timerTimeWait {
			return 0, unix.ENOENT // kernels before 5.14 tell no mark of what is left of a closed socket
		}
		return 0, errors.New("sock_diag does not tell the mark of a socket: CAP_NET_ADMIN is missing, or the kernel is older than Linux 4.10")
	}
	return 0, malformed
}
