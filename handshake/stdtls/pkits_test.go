package stdtls

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/lab/handshaketest"
	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/reason"
)

// pkitsCase is one path of the NIST Public Key Interoperability Test Suite, as
// the Go distribution has it (public domain).
type pkitsCase struct {
	Name                                                                        string
	CertPath                                                                    []string // from the trust anchor to the end entity
	ShouldValidate                                                              bool
	InitialPolicySet                                                            []string
	InitialExplicitPolicy, InitialPolicyMappingInhibit, InitialAnyPolicyInhibit bool
}

// pkitsNoCRL are paths that fail for a CRL alone, and sections of such. The
// distribution has the certificates and not the lists; internal/revocation
// tests lists of the same kinds.
var pkitsNoCRL = []string{
	"4.4.", "4.14.", "4.15.", "4.5.2 ", "4.5.5 ", "4.5.7 ", "4.7.4 ", "4.7.5 ",
}

// pkitsDisagree are the paths that the suite calls valid and we refuse, each
// with its reason. There is none the other way round.
var pkitsDisagree = map[string]struct {
	code reason.Code
	why  string
}{
	"4.1.4 Valid DSA Signatures Test4":                                {reason.WeakKey, "a DSA key: TLS has no use for one since RFC 8446, and crypto/tls takes none"},
	"4.1.5 Valid DSA Parameter Inheritance Test5":                     {reason.BadCertificate, "DSA: crypto/x509 does not read a key without its parameters"},
	"4.3.3 Valid Name Chaining Whitespace Test3":                      {reason.UnknownCA, namesByOctets},
	"4.3.4 Valid Name Chaining Whitespace Test4":                      {reason.UnknownCA, namesByOctets},
	"4.3.5 Valid Name Chaining Capitalization Test5":                  {reason.UnknownCA, namesByOctets},
	"4.3.10 Valid Rollover from PrintableString to UTF8String Test10": {reason.UnknownCA, namesByOctets},
	"4.3.11 Valid UTF8String Case Insensitive Match Test11":           {reason.UnknownCA, namesByOctets},
	"4.6.15 Valid Self-Issued pathLenConstraint Test15":               {reason.NotACA, selfIssued},
	"4.6.17 Valid Self-Issued pathLenConstraint Test17":               {reason.NotACA, selfIssued},
	"4.13.1 Valid DN nameConstraints Test1":                           {reason.UnknownCritical, dnConstraints},
	"4.13.4 Valid DN nameConstraints Test4":                           {reason.UnknownCritical, dnConstraints},
	"4.13.5 Valid DN nameConstraints Test5":                           {reason.UnknownCritical, dnConstraints},
	"4.13.6 Valid DN nameConstraints Test6":                           {reason.UnknownCritical, dnConstraints},
	"4.13.11 Valid DN nameConstraints Test11":                         {reason.UnknownCritical, dnConstraints},
	"4.13.14 Valid DN nameConstraints Test14":                         {reason.UnknownCritical, dnConstraints},
	"4.13.18 Valid DN nameConstraints Test18":                         {reason.UnknownCritical, dnConstraints},
	"4.13.19 Valid Self-Issued DN nameConstraints Test19":             {reason.UnknownCritical, dnConstraints},
	"4.13.27 Valid DN and RFC822 nameConstraints Test27":              {reason.UnknownCritical, dnConstraints},
	"4.13.25 Valid RFC822 nameConstraints Test25":                     {reason.NameConstraint, excludedBelow},
	"4.13.36 Valid URI nameConstraints Test36":                        {reason.NameConstraint, excludedBelow},
	"4.14.4 Valid distributionPoint Test4":                            {reason.BadCertificate, relativePoint},
	"4.14.5 Valid distributionPoint Test5":                            {reason.BadCertificate, relativePoint},
	"4.14.29 Valid cRLIssuer Test29":                                  {reason.BadCertificate, relativePoint},
}

const (
	namesByOctets = "names are compared octet by octet, as CAs write them; RFC 5280, section 7.1, also folds case, blanks and string types"
	selfIssued    = "a self-issued intermediate counts for the path length, as in crypto/x509; RFC 5280, section 6.1.4 (l), leaves it out"
	dnConstraints = "constraints on directory names are not read, so a CA that has critical ones is not used"
	excludedBelow = "what is excluded is excluded with all hosts below it; RFC 5280, section 4.2.1.10, means the one host"
	relativePoint = "a distribution point relative to its issuer's name (or malformed in crypto/x509's eyes) is not read"
)

func pkits(t *testing.T) (cases []pkitsCase, certs func(names []string) [][]byte) {
	t.Helper()
	root, err := exec.Command(testenv.Tool(t, "go"), "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(strings.TrimSpace(string(root)), "src", "crypto", "x509", "testdata", "nist-pkits")
	text, err := os.ReadFile(filepath.Join(dir, "vectors.json"))
	if err != nil {
		testenv.Missing(t, "needs the test data of the Go distribution: %v", err)
		return nil, nil
	}
	if err := json.Unmarshal(text, &cases); err != nil {
		t.Fatal(err)
	}
	return cases, func(names []string) [][]byte {
		var all [][]byte
		for _, name := range names {
			der, err := os.ReadFile(filepath.Join(dir, "certs", name))
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, der)
		}
		return all
	}
}

// skipped says why a path says nothing about the engine, "" if it does.
func (c *pkitsCase) skipped() string {
	if c.InitialExplicitPolicy || c.InitialPolicyMappingInhibit || c.InitialAnyPolicyInhibit || !slices.Equal(c.InitialPolicySet, []string{"anyPolicy"}) {
		return "needs certificate policies to begin with: the engine begins with any; a rule asks with allow.policies"
	}
	if !c.ShouldValidate && slices.ContainsFunc(pkitsNoCRL, func(p string) bool { return strings.HasPrefix(c.Name, p) }) {
		return "fails for its CRL alone"
	}
	return ""
}

// Every path of NIST's suite is shown to the real engine by somebody who does
// not have its key, for nobody has: a path that is accepted comes as far as
// the missing proof, one that is not is refused before that.
func TestNISTPKITS(t *testing.T) {
	cases, certs := pkits(t)
	thief := testpki.Must(testpki.NewKey(testpki.RSA2048))
	at := func() time.Time { return time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC) } // they end in 2030
	count := map[string]int{}
	used := map[string]bool{}
	for _, c := range cases {
		if c.skipped() != "" {
			count["skipped"]++
			continue
		}
		path := certs(c.CertPath)
		anchor, err := x509.ParseCertificate(path[0])
		if err != nil {
			t.Fatal(err)
		}
		shown := slices.Clone(path[1:])
		slices.Reverse(shown)
		client := tls.Certificate{Certificate: shown, PrivateKey: thief}
		for _, version := range bothVersions {
			t.Run(c.Name+"/"+handshake.VersionName(version), func(t *testing.T) {
				p := handshaketest.ServerParams(func(p *handshake.ServerParams) {
					p.Now, p.Authorities = at, []*handshake.Authority{{Name: "nist", Roots: []*x509.Certificate{anchor}}}
				})
				o, _, err := withGo(t, p, clientConfig(version, client))
				if o.err == nil || err == nil {
					t.Fatalf("a thief is let through: %v", err)
				}
				accepted := o.err.Reason == reason.NoPossession
				no, disagree := pkitsDisagree[c.Name]
				used[c.Name] = true
				switch {
				case disagree && (accepted || o.err.Reason != no.code):
					t.Errorf("%v; listed as %s: %s", o.err, no.code, no.why)
				case disagree:
					count["disagree"]++
				case accepted != c.ShouldValidate:
					t.Errorf("accepted %v, NIST says %v: %v", accepted, c.ShouldValidate, o.err)
				case accepted:
					count["accepted"]++
				default:
					count["refused"]++
				}
				if !accepted && (o.err.Step != handshake.StepClientVerified || o.l.AlertSent() == handshake.AlertNone) {
					t.Errorf("refused at %s with alert %s: %v", o.err.Step, o.l.AlertSent(), o.err)
				}
			})
		}
	}
	for name := range pkitsDisagree {
		if !used[name] {
			t.Errorf("%s is listed and was not run", name)
		}
	}
	if count["accepted"] < 100 || count["refused"] < 100 {
		t.Errorf("only %v", count)
	}
	t.Logf("handshakes in both versions: %v", count)
}
