package bogo

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// errUnimplemented is what a test asks for and the shim has not: exit code 89.
var errUnimplemented = errors.New("not implemented")

func unimplemented(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errUnimplemented, fmt.Sprintf(format, args...))
}

// The flags that the shim takes. Those of notChecked ask to look at something that a
// Session does not say, or at how BoringSSL's own interface behaves: the handshake and
// the data are tested all the same.
const (
	valueFlags = `engine port shim-id resume-count trust-cert verify-prefs curves min-version max-version
		expect-version advertise-alpn select-alpn expect-alpn expect-advertised-alpn host-name expect-server-name
		expect-peer-signature-algorithm expect-curve-id expect-cipher expect-cipher-aes expect-cipher-no-aes
		expect-peer-cert-file expect-ocsp-response expect-peer-verify-pref use-client-ca-list
		expect-client-ca-list max-cert-list resumption-delay read-size shim-initial-write
		repeat-shim-initial-write cipher`
	credentialFlags = `cert-file key-file signing-prefs ocsp-response must-match-issuer`
	plainFlags      = `ipv6 server require-any-client-certificate verify-peer verify-fail no-tls1 no-tls11 no-tls12
		no-tls13 no-ticket shim-writes-first shim-shuts-down check-close-notify decline-alpn reject-alpn
		expect-hrr expect-no-hrr expect-session-miss expect-extended-master-secret expect-no-peer-cert
		server-preference peek-then-read write-different-record-sizes new-x509-credential is-handshaker-supported`
	notChecked = `async implicit-handshake use-custom-verify-callback expect-verify-result reverify-on-resume
		use-early-callback use-old-client-cert-callback enable-ocsp-stapling partial-write install-ddos-callback
		no-op-extra-handshake handshake-twice expect-no-session expect-session-id expect-no-session-id
		expect-secure-renegotiation allow-hint-mismatch cbc-record-splitting use-ticket-callback
		use-ticket-aead-callback enable-early-data expect-ticket-supports-early-data expect-no-server-name
		expect-no-offer-early-data`
	notCheckedValues = `expect-selected-credential expect-early-data-reason`
)

// credential has the flags that belong to the certificate of a -new-x509-credential before them.
type credential map[string][]string

// options are the flags of one connection: every value that a flag was given, in order.
type options struct {
	values      map[string][]string
	credentials []credential // of -new-x509-credential
}

func (o *options) has(name string) bool { return len(o.values[name]) > 0 }

// text is the last value, "" where there is none.
func (o *options) text(name string) string {
	v := o.values[name]
	if len(v) == 0 {
		return ""
	}
	return v[len(v)-1]
}

// number is the last value, or what it is without one.
func (o *options) number(name string, without int) (int, error) {
	if !o.has(name) {
		return without, nil
	}
	n, err := strconv.Atoi(o.text(name))
	if err != nil {
		return 0, fmt.Errorf("-%s: %w", name, err)
	}
	return n, nil
}

// ids are all values, as numbers of a registry of TLS.
func ids(values []string) ([]uint16, error) {
	var out []uint16
	for _, v := range values {
		n, err := strconv.ParseUint(v, 10, 16)
		if err != nil {
			return nil, err
		}
		out = append(out, uint16(n))
	}
	return out, nil
}

// add notes one flag.
func (o *options) add(name, value string, ofCredential bool) {
	switch last := len(o.credentials) - 1; {
	case name == "new-x509-credential":
		o.credentials = append(o.credentials, credential{})
	case ofCredential && last >= 0:
		o.credentials[last][name] = append(o.credentials[last][name], value)
	default:
		o.values[name] = append(o.values[name], value)
	}
}

// parse reads the command line: the options of the first connection and those of the
// later ones.
func parse(args []string) (first, later *options, err error) {
	kinds := map[string]bool{} // of each flag: whether a value follows
	of := map[string]bool{}    // flags of credentials
	for _, name := range strings.Fields(plainFlags + " " + notChecked) {
		kinds[name] = false
	}
	for _, name := range strings.Fields(valueFlags + " " + notCheckedValues + " " + credentialFlags) {
		kinds[name] = true
	}
	for _, name := range strings.Fields(credentialFlags) {
		of[name] = true
	}
	kinds["must-match-issuer"] = false // the one without a value
	first, later = &options{values: map[string][]string{}}, &options{values: map[string][]string{}}
	for i := 0; i < len(args); i++ {
		name, ok := strings.CutPrefix(args[i], "-")
		if !ok {
			return nil, nil, fmt.Errorf("%q is no flag", args[i])
		}
		into := []*options{first, later}
		name = strings.TrimPrefix(name, "on-shim-")
		for prefix, only := range map[string][]*options{
			"on-initial-": {first}, "on-resume-": {later},
			"on-handshaker-": nil, // of a second process, which there is not
			"on-retry-":      nil, // of what follows refused early data, which is not sent
		} {
			if rest, cut := strings.CutPrefix(name, prefix); cut {
				name, into = rest, only
			}
		}
		takes, known := kinds[name]
		if !known {
			return nil, nil, unimplemented("flag -%s", name)
		}
		value := "true"
		if takes {
			if i++; i == len(args) {
				return nil, nil, fmt.Errorf("-%s has no value", name)
			}
			value = args[i]
		}
		for _, o := range into {
			o.add(name, value, of[name])
		}
	}
	return first, later, nil
}
