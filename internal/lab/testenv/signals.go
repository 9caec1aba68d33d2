package testenv

import (
	"os"
	"os/signal"
	"testing"
)

// Signals sets these signals to their default action in the programs that the test starts,
// until the test ends. A program inherits an ignored signal as ignored: nohup ignores SIGHUP,
// and a shell's "command &" ignores SIGINT and SIGQUIT. A shell cannot even trap such a
// signal (POSIX, section 2.12). A signal with a handler has its default action after
// execve(2).
func Signals(t testing.TB, sigs ...os.Signal) {
	t.Helper()
	ignored := make(chan os.Signal, 1)
	signal.Notify(ignored, sigs...)
	t.Cleanup(func() { signal.Stop(ignored) })
}
