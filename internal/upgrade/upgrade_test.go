package upgrade

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"testing"

	"github.com/sslgate/sslgate/internal/reason"
)

func message(length, code uint32, rest ...byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, length)
	return append(binary.BigEndian.AppendUint32(b, code), rest...)
}

// outcome is how a dialogue ended that was given its bytes in pieces.
type outcome struct {
	then   Then
	reason reason.Code
	said   string // by us
	left   int    // of what was given and was not taken
	given  int    // how much was, until it ended
	heard  string // the messages with their sizes
	asked  bool
	steps  int
}

// run gives the bytes to a dialogue as a connection would: a piece a Read. A piece of 0
// bytes is all that is left.
func run(t testing.TB, talk *Talk, in []byte, pieces []byte) outcome {
	t.Helper()
	var o outcome
	var said []byte
	s := talk.Begin()
	for {
		if s.Took < 0 || s.Took > len(said) {
			t.Fatalf("takes %d of %d bytes", s.Took, len(said))
		}
		said = said[s.Took:]
		if s.Say != nil {
			o.said += string(s.Say)
		}
		if s.Heard != "" {
			o.heard += fmt.Sprintf("%s %d ", s.Heard, s.Took)
		}
		o.asked = o.asked || s.Asks
		o.steps++
		switch s.Then {
		case More:
		case TLS, Direct, End:
			o.then, o.reason, o.left = s.Then, s.Reason, len(said)
			return o
		default:
			t.Fatalf("then %d", s.Then)
		}
		if s.Took == 0 || len(said) == 0 {
			if o.given == len(in) {
				o.left = len(said)
				return o
			}
			n := 0
			if len(pieces) > 0 {
				n, pieces = int(pieces[0]), pieces[1:]
			}
			if n == 0 {
				n = len(in)
			}
			n = min(n, len(in)-o.given, MaxSaid-len(said))
			if n == 0 {
				t.Fatalf("wants more than %d bytes", MaxSaid)
			}
			said = append(slices.Clip(said), in[o.given:o.given+n]...)
			o.given += n
		}
		s = talk.Next(said)
	}
}

func TestPostgresClients(t *testing.T) {
	startup := message(17, 3<<16, []byte("user\x00bob\x00")...)
	ssl, gss := message(8, codeSSL), message(8, codeGSS)
	for name, c := range map[string]struct {
		in     []byte
		pieces []byte
		then   Then
		reason reason.Code
		said   string
	}{
		"nothing":                   {nil, nil, More, "", ""},
		"SSLRequest":                {ssl, nil, TLS, "", "S"},
		"cut short":                 {ssl[:7], nil, More, "", ""},
		"GSSENCRequest":             {gss, nil, More, "", "N"},
		"both":                      {slices.Concat(gss, ssl), []byte{8}, TLS, "", "NS"},
		"both at once":              {slices.Concat(gss, ssl), nil, End, reason.UpgradeInjected, ""},
		"GSSENCRequest twice":       {slices.Concat(gss, gss), []byte{8}, End, reason.UpgradeMalformed, "N"},
		"TLS after GSSENCRequest":   {slices.Concat(gss, []byte{22, 3, 1, 2, 0, 1}), []byte{8}, End, reason.UpgradeMalformed, "N"},
		"a byte behind SSLRequest":  {append(slices.Clone(ssl), 'Q'), nil, End, reason.UpgradeInjected, ""},
		"TLS":                       {[]byte{22, 3, 1}, nil, Direct, "", ""},
		"a CancelRequest":           {message(16, codeCancel, 1, 2, 3, 4, 5, 6, 7, 8), nil, End, reason.UpgradeCancel, ""},
		"protocol 2":                {message(296, 2<<16), nil, End, reason.UpgradeMalformed, ""},
		"an SSLRequest too long":    {message(9, codeSSL, 0), nil, End, reason.UpgradeMalformed, ""},
		"a length of 7":             {[]byte{0, 0, 0, 7}, nil, End, reason.UpgradeMalformed, ""},
		"another protocol":          {[]byte("HELO"), nil, End, reason.UpgradeMalformed, ""},
		"protocol 3.0":              {startup, nil, End, reason.NotUpgraded, string(plainAnswer)},
		"protocol 3.2":              {message(8, 3<<16|2), nil, End, reason.NotUpgraded, string(plainAnswer)},
		"protocol 3 after GSSAPI's": {slices.Concat(gss, startup), []byte{8}, End, reason.NotUpgraded, "N" + string(plainAnswer)},
	} {
		o := run(t, Postgres.WithClient(), c.in, c.pieces)
		if o.then != c.then || o.reason != c.reason || o.said != c.said {
			t.Errorf("%s: then %d, %s, says %q", name, o.then, o.reason, o.said)
		}
	}
}

// The last step too says how much of a message was heard, and whether it asked for TLS.
func TestHeard(t *testing.T) {
	ssl, gss := message(8, codeSSL), message(8, codeGSS)
	for name, c := range map[string]struct {
		talk  *Talk
		in    []byte
		heard string
		asked bool
	}{
		"SSLRequest":               {Postgres.WithClient(), ssl, "SSLRequest 8 ", true},
		"a byte behind SSLRequest": {Postgres.WithClient(), append(slices.Clone(ssl), 'Q'), "SSLRequest 8 ", true},
		"a byte behind GSSAPI's":   {Postgres.WithClient(), append(slices.Clone(gss), 'Q'), "GSSENCRequest 8 ", false},
		"a CancelRequest":          {Postgres.WithClient(), message(16, codeCancel, 1, 2, 3, 4, 5, 6, 7, 8), "CancelRequest 16 ", false},
		"half of a StartupMessage": {Postgres.WithClient(), message(17, 3<<16, 'u'), "StartupMessage 9 ", false},
		"more than StartupMessage": {Postgres.WithClient(), message(9, 3<<16, 0, 'Q'), "StartupMessage 9 ", false},
		"TLS":                      {Postgres.WithClient(), []byte{22, 3, 1}, "", false},
		"a server's no":            {Postgres.WithDestination(), []byte("N"), "N 1 ", false},
		"a server's no, and more":  {Postgres.WithDestination(), []byte("NO"), "N 1 ", false},
		"a server's yes, and more": {Postgres.WithDestination(), []byte("SR"), "S 1 ", false},
		"a server's error":         {Postgres.WithDestination(), []byte("E\x00\x00\x00\x08SNO\x00"), "ErrorResponse 9 ", false},
	} {
		if o := run(t, c.talk, c.in, nil); o.heard != c.heard || o.asked != c.asked {
			t.Errorf("%s: heard %q, asked %v", name, o.heard, o.asked)
		}
	}
}

// plainAnswer is an ErrorResponse as a server sends it: type, length, fields, end.
var plainAnswer = func() []byte {
	fields := "SFATAL\x00VFATAL\x00C28000\x00Mthis connection must be encrypted with TLS\x00" +
		"HSet sslmode=verify-full, and sslcert and sslkey if a client certificate is asked for.\x00\x00"
	return append(append([]byte{'E'}, 0, 0, 0, byte(4+len(fields))), fields...)
}()

func TestPostgresServers(t *testing.T) {
	request := string(message(8, codeSSL))
	for name, c := range map[string]struct {
		in     string
		then   Then
		reason reason.Code
	}{
		"nothing":      {"", More, ""},
		"yes":          {"S", TLS, ""},
		"yes and more": {"SN", End, reason.UpstreamInjected},
		"no":           {"N", End, reason.UpstreamNotUpgraded},
		"an error":     {"E\x00\x00\x00\x08SNO\x00", End, reason.UpstreamNotUpgraded},
		"mail":         {"220 ready\r\n", End, reason.UpstreamNotUpgraded},
	} {
		if o := run(t, Postgres.WithDestination(), []byte(c.in), nil); o.then != c.then || o.reason != c.reason || o.said != request {
			t.Errorf("%s: then %d, %s, says %q", name, o.then, o.reason, o.said)
		}
	}
}

// The words of a protocol are read as they are written, and no others.
func TestWords(t *testing.T) {
	for _, p := range []Protocol{None, Postgres} {
		for _, word := range []string{p.String(), p.Word()} {
			if got, ok := Parse(word); !ok || got != p {
				t.Errorf("%q is %s, %v", word, got, ok)
			}
		}
		if (p.WithClient() == nil) != (p == None) || (p.WithDestination() == nil) != (p == None) || (p.ALPN() == "") != (p == None) {
			t.Errorf("%s: has not both sides and an ALPN, or is None and has", p)
		}
	}
	if _, ok := Parse("Postgres"); ok {
		t.Error("a word in other letters is known")
	}
}

// endless says something of which nothing comes: as a line that does not end, or as messages
// without an end.
type endless struct{ takes bool }

func (endless) begin() Step            { return Step{} }
func (endless) malformed() reason.Code { return reason.UpgradeMalformed }
func (endless) injected() reason.Code  { return reason.UpgradeInjected }
func (e endless) next(said []byte) Step {
	if e.takes {
		return Step{Took: 1}
	}
	return Step{}
}

// Whatever a dialogue makes of it, a peer is heard for so many bytes and messages.
func TestBounds(t *testing.T) {
	for _, d := range []endless{{false}, {true}} {
		o := run(t, &Talk{d: d}, bytes.Repeat([]byte{'x'}, 10*MaxSaid), []byte{1})
		if o.then != End || o.reason != reason.UpgradeMalformed || o.given > 2*MaxSaid || o.steps > 2*MaxSaid {
			t.Errorf("%+v: %+v", d, o)
		}
	}
}

// FuzzTalk: in whatever pieces the bytes come, a dialogue ends in an answer or an error, in
// steps that its length bounds, and takes nothing that it was not given. It comes to the
// same in all pieces, unless something was said before an answer that had to be waited for.
func FuzzTalk(f *testing.F) {
	ssl, gss := message(8, codeSSL), message(8, codeGSS)
	for _, in := range [][]byte{ssl, slices.Concat(gss, ssl), message(8, 3<<16), message(16, codeCancel), {22, 3, 1}, []byte("S"), []byte("SS"), []byte("N"), []byte("EHLO x\r\n")} {
		f.Add(true, in, []byte{1, 1, 1})
		f.Add(false, in, []byte{8})
	}
	f.Fuzz(func(t *testing.T, client bool, in, pieces []byte) {
		begin := Postgres.WithDestination
		if client {
			begin = Postgres.WithClient
		}
		given := slices.Clone(in)
		some := run(t, begin(), in, pieces)
		ones := run(t, begin(), in, bytes.Repeat([]byte{1}, len(in)))
		if !bytes.Equal(given, in) {
			t.Fatal("changes what it is given")
		}
		for _, o := range []outcome{some, ones} {
			if o.steps > 2*len(in)+2 {
				t.Fatalf("%d steps for %d bytes", o.steps, len(in))
			}
			if (o.then == End) != (o.reason != "") {
				t.Fatalf("%+v", o)
			}
			if o.then == TLS && o.left > 0 {
				t.Fatalf("%d bytes are left for TLS: %+v", o.left, o)
			}
		}
		injected := some.reason == reason.UpgradeInjected || some.reason == reason.UpstreamInjected
		if some.then != ones.then || some.reason != ones.reason || some.said != ones.said {
			if !injected {
				t.Fatalf("in pieces %+v, byte by byte %+v", some, ones)
			}
			if ones.said == some.said && ones.then != TLS {
				t.Fatalf("there was nothing to be waited for: in pieces %+v, byte by byte %+v", some, ones)
			}
		}
	})
}
