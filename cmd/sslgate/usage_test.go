package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/sslgate/sslgate/internal/config"
	"github.com/sslgate/sslgate/internal/lab/testenv"
)

// all are the words of every command, hidden ones too.
func allCommands(t *testing.T) [][]string {
	t.Helper()
	var all [][]string
	walk(newRootCmd(nil, &bytes.Buffer{}, &bytes.Buffer{}), func(c *cobra.Command) {
		all = append(all, strings.Fields(c.CommandPath())[1:])
	})
	if len(all) < 25 {
		t.Fatalf("only %d commands", len(all))
	}
	return all
}

// Every command's help is there by --help, -h and `help`, the same, in 80 columns.
func TestHelpOfEveryCommand(t *testing.T) {
	for _, words := range allCommands(t) {
		code, out, errs := called(append(words, "--help")...)
		if code != 0 || errs != "" || !strings.Contains(out, "\nUsage:\n  sslgate") {
			t.Errorf("%v: %d %q\n%s", words, code, errs, out)
		}
		for _, l := range strings.Split(out, "\n") {
			if n := len([]rune(l)); n > helpWidth || strings.Contains(l, "\t") {
				t.Errorf("%v: %d columns: %q", words, n, l)
			}
		}
		if _, short, _ := called(append(words, "-h")...); short != out {
			t.Errorf("%v: -h says something else", words)
		}
		if code, help, errs := called(append([]string{"help"}, words...)...); code != 0 || help != out || errs != "" {
			t.Errorf("help %v: %d %q\n%s", words, code, errs, help)
		}
	}
}

// Whatever is wrong with a command line ends with 2, says what was typed, what may
// have been meant and where to read on, in words of ours.
func TestWrongUsage(t *testing.T) {
	for _, words := range allCommands(t) {
		code, out, errs := called(append(words, "--nosuch")...)
		if code != 2 || out != "" || !strings.HasPrefix(errs, "sslgate: unknown flag --nosuch\n`sslgate") {
			t.Errorf("%v --nosuch: %d %q %q", words, code, out, errs)
		}
	}
	raw := regexp.MustCompile(`unknown (command|shorthand)|arg\(s\)|required flag|flag needs|invalid argument|strconv|Did you mean this|Run '|flags in the group`)
	for line, want := range map[string]string{
		"chek":                      `did you mean "check"?`,
		"statsu --json":             `did you mean "status"?`,
		"xyzzy":                     `sslgate has no command "xyzzy"`,
		"help nosuch":               `sslgate has no command "nosuch"`,
		"help chek":                 `did you mean "check"?`,
		"help pki isue":             `did you mean "issue"?`,
		"help check more":           `sslgate check has no command "more"`,
		"pki isue":                  `sslgate pki has no command "isue" (did you mean "issue"?)`,
		"lab dwon":                  `did you mean "down"?`,
		"flows edn 5f1c-3":          `did you mean "end"?`,
		"-x":                        "unknown flag -x",
		"check -q x":                "unknown flag -q",
		"check -cq x":               "x",
		"check --jsn x":             `did you mean "--json"?`,
		"check -json x":             `did you mean "--json"?`,
		"check a b":                 `"b" is one argument too many: sslgate check [FILE]`,
		"check a -c b":              "two configurations",
		"check -c":                  "--config wants a value, FILE",
		"check --config=":           "-c names no file",
		"check --json=7 x":          `--json is true or false, not "7"`,
		"run -c":                    "--config wants a value, FILE",
		"run a b":                   "one argument too many",
		"status now":                `"now" is one argument too many: sslgate status`,
		"reload --pid x":            `--pid wants a whole number, not "x"`,
		"flows --limit 1e3":         `--limit wants a whole number, not "1e3"`,
		"recent --since 5":          `--since wants a duration such as`,
		"flows end":                 "something is missing: sslgate flows end ID...",
		"probe":                     "something is missing: sslgate probe HOST:PORT",
		"probe a:1 b:2":             `"b:2" is one argument too many`,
		"probe --timeout never a:1": "--timeout wants a duration",
		"test":                      "something is missing: sslgate test FILE_test.yaml...",
		"lab exec":                  "something is missing",
		"lab exec client":           "something is missing",
		"pki show":                  "something is missing: sslgate pki show FILE...",
		"pki issue --days many x":   "--days wants a whole number",
		"completion":                "something is missing: sslgate completion SHELL",
		"completion bsh":            `did you mean "bash"?`,
		"explain -c x --flow 1":     "--flow needs --audit",
		"explain -c x --audit 1":    "--audit needs --flow",
		"explain -c x --flow 1 --audit 2 --sni a": "--flow and --sni cannot be given together",
		"reason certificat_expired":               "certificate_expired",
		"profiles modrn":                          "modern",
		"version 2":                               "one argument too many",
		"version --jsn":                           `did you mean "--json"?`,
		"\x1b[31m":                                `"\x1b[31m"`,
	} {
		code, out, errs := called(strings.Split(line, " ")...)
		if code != 2 || out != "" || !strings.HasPrefix(errs, "sslgate: ") || !strings.Contains(errs, want) || raw.MatchString(errs) || strings.Contains(errs, "\x1b") {
			t.Errorf("%q: %d, %q, %q", line, code, out, errs)
		}
	}
}

func TestVersion(t *testing.T) {
	_, want, _ := called("version")
	for _, args := range [][]string{{"--version"}, {"-v"}} {
		if code, out, errs := called(args...); code != 0 || out != want || errs != "" || !strings.HasPrefix(out, "sslgate ") {
			t.Errorf("%v: %d %q %q", args, code, out, errs)
		}
	}
	code, out, _ := called("version", "--json")
	var v map[string]string
	if err := json.Unmarshal([]byte(out), &v); code != 0 || err != nil || v["version"] == "" || v["go"] == "" || v["os"] != "linux" || v["arch"] == "" || !strings.Contains(want, v["version"]) {
		t.Errorf("%d %v %q", code, err, out)
	}
}

// The configuration is that of the argument or of the flag, wherever they stand, and
// where there is none that of the package.
func TestWhichConfiguration(t *testing.T) {
	file := writeCheck(t, checkConfig)
	for _, args := range [][]string{{file}, {"-c", file}, {"-c" + file}, {"--config=" + file}, {file, "--json"}, {"--json", file}, {"--", file}} {
		if out, errs, code := runCheck(t, args...); code != 0 || errs != "" {
			t.Errorf("%v: %d %q %q", args, code, out, errs)
		}
	}
	if _, err := os.Stat(config.DefaultFile); err == nil {
		t.Skip("this host has a configuration")
	}
	for _, c := range []string{"check", "run", "guard", "release", "explain"} {
		if code, _, errs := called(c); code != 2 || !strings.Contains(errs, "There is no /etc/sslgate/sslgate.yaml") {
			t.Errorf("%s: %d %q", c, code, errs)
		}
	}
	testenv.Root(t)
	unshare := testenv.Tool(t, "unshare")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Symlink(self, filepath.Join(dir, "sslgate")); err != nil {
		t.Fatal(err)
	}
	// /etc of this process alone; its name makes the test program sslgate.
	cmd := exec.Command(unshare, "--mount", "sh", "-euc", `
		mount -t tmpfs tmpfs /etc
		cp -r "$1" /etc/sslgate
		export TESTSCRIPT_COMMAND=sslgate
		"$2" check
		"$2" explain --from 10.1.0.7 --to 10.20.0.9:443 || echo "explain $?"
		"$2" check "$1/none.yaml" || echo "other $?"
		`, "sh", filepath.Dir(file), filepath.Join(dir, "sslgate"))
	out, err := cmd.CombinedOutput()
	for _, want := range []string{"/etc/sslgate/sslgate.yaml: ok (1 rule", "explain 1", "none.yaml: 1 error", "other 2"} {
		if err != nil || !strings.Contains(string(out), want) {
			t.Errorf("no %q: %v\n%s", want, err, out)
		}
	}
}
