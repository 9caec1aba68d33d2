package main

import (
	"context"
	"strings"
	"testing"
)

func TestUsage(t *testing.T) {
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"-help"}, 0, "Usage: scripts/soak"},
		{[]string{"soon"}, 2, "is no time"},
		{[]string{"1m", "2m"}, 2, "one argument too many"},
		{[]string{"-sslgate", "/no/such/binary", "1m"}, 2, "no such file"},
		{[]string{"-inject", "x", "1m"}, 2, "no fault is called"},
		{[]string{"-frob"}, 2, "frob"},
		{[]string{"-upgrades", "0"}, 2, "0 hand-overs"},
		{[]string{"-upgrades", "-1"}, 2, "-1 hand-overs"},
		{[]string{"-upgrades", "5", "5"}, 2, "one argument too many"},
	} {
		var stderr strings.Builder
		if code := run(context.Background(), c.args, &strings.Builder{}, &stderr); code != c.code || !strings.Contains(stderr.String(), c.want) {
			t.Errorf("%v: exit %d, want %d; said %q", c.args, code, c.code, stderr.String())
		}
	}
}
