package demo

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/sslgate/sslgate/internal/lab/testenv"
)

// The walk of docs/lab.md with two gateways, short.
func TestTwoLabWalk(t *testing.T) {
	testenv.TUN(t)
	unshare, curl := testenv.Tool(t, "unshare"), testenv.Tool(t, "curl")
	const script = `
		mount -t tmpfs tmpfs /run
		cd "$3"
		"$1" lab up --two --dir L > up.txt
		"$1" lab serve --dir L > serve.txt & serve=$!
		"$1" lab exec gateway "$1" run -c L/near.yaml 2> near.txt & near=$!
		"$1" lab exec gateway2 "$1" run -c L/far.yaml 2> far.txt & far=$!
		for _ in $(seq 100); do grep -q ready near.txt && grep -q ready far.txt && grep -q shop serve.txt && break; sleep 0.1; done
		get() { "$1" lab exec client "$2" -sS --max-time 5 "$3" 2>&1 || true; }
		get "$1" "$2" http://10.77.2.10/
		get "$1" "$2" 'http://[fd77:2::a]/'
		kill $far; wait $far
		get "$1" "$2" http://10.77.2.10/
		kill $near; wait $near
		kill $serve; wait $serve
		"$1" lab down
	`
	out, err := exec.Command(unshare, "-m", "sh", "-euc", script, "sh", build(t), curl, t.TempDir()).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	text := string(out)
	for _, want := range []string{
		"origin shop.demo.test, asked by 10.77.2.1: GET / HTTP/1.1",
		"origin shop.demo.test, asked by fd77:2::1: GET / HTTP/1.1",
		"curl: (", // while the second is down: nothing
		"removed sslgate-client, sslgate-gateway, sslgate-between, sslgate-gateway2, sslgate-server",
	} {
		_, after, found := strings.Cut(text, want)
		if !found {
			t.Fatalf("%q is missing, or not in its place; from there on:\n%s\nall of it:\n%s", want, text, out)
		}
		text = after
	}
}

// The walk of docs/lab.md, short: up, a client through the gateway, down. It
// has a /run of its own, so that a lab that is up stays as it is.
func TestLabWalk(t *testing.T) {
	testenv.TUN(t)
	unshare, curl := testenv.Tool(t, "unshare"), testenv.Tool(t, "curl")
	const script = `
		mount -t tmpfs tmpfs /run
		cd "$3"
		"$1" lab up --dir L > up.txt
		if "$1" lab up --dir M 2> again.txt; then echo "a second lab came up"; fi
		cat again.txt; ls M 2>/dev/null || echo "and left nothing"
		"$1" lab exec client sh -c 'exit 7' || echo "exit code $?"
		"$1" lab serve --dir L > serve.txt & serve=$!
		"$1" lab exec gateway "$1" run -c L/sslgate.yaml 2> log.txt & gateway=$!
		for _ in $(seq 100); do grep -q ready log.txt && grep -q bypass serve.txt && break; sleep 0.1; done
		get() { s=$1; c=$2; shift 2; "$s" lab exec client "$c" -sS --max-time 5 --resolve pay.demo.test:443:10.77.2.10 --cacert L/gateway-ca.pem "$@" https://pay.demo.test/ 2>&1 || true; }
		get "$1" "$2" --cert L/client.pem --key L/client.key
		get "$1" "$2"
		kill $gateway; wait $gateway
		get "$1" "$2" --cert L/client.pem --key L/client.key
		kill $serve; wait $serve
		"$1" lab down
		"$1" lab down
		ls /run/netns
		"$1" lab exec client true || true
	`
	out, err := exec.Command(unshare, "-m", "sh", "-euc", script, "sh", build(t), curl, t.TempDir()).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	text := string(out)
	for _, want := range []string{
		"a lab is up already", "and left nothing", "exit code 7",
		"origin pay.demo.test, asked by 10.77.2.1: GET / HTTP/1.1",
		"certificate required",
		"curl: (", // after the stop: nothing
		"removed sslgate-client, sslgate-gateway, sslgate-server",
		"no lab is up", "type `sslgate lab up` first",
	} {
		_, after, found := strings.Cut(text, want)
		if !found {
			t.Fatalf("%q is missing, or not in its place; from there on:\n%s\nall of it:\n%s", want, text, out)
		}
		text = after
	}
	if strings.Count(string(out), "origin pay.demo.test") != 1 {
		t.Errorf("an answer too many:\n%s", out)
	}
}
