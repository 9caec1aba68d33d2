package pemfile

import (
	"fmt"
	"os"
	"strings"
)

// Named puts names into the commands, in backquotes, of an error: the file's for
// FILE, and for NEWFILE and NEWKEY names beside it that no file has, so that a
// command that is typed as it stands overwrites nothing. All are quoted for a POSIX
// shell.
func Named(err error, file string) error {
	if err == nil {
		return nil
	}
	if strings.HasPrefix(file, "-") {
		file = "./" + file // no option
	}
	parts := strings.Split(err.Error(), "`")
	for i := 1; i < len(parts)-1; i += 2 { // between quotes
		parts[i] = strings.NewReplacer("NEWKEY", shellWord(unused(file+".key")), "NEWFILE", shellWord(unused(file+".new")), "FILE", shellWord(file)).Replace(parts[i])
	}
	return &namedError{strings.Join(parts, "`"), err}
}

// unused is the name, or the name with a number behind it, that no file has.
func unused(name string) string {
	free := name
	for n := 2; n < 1000; n++ {
		if _, err := os.Lstat(free); err != nil {
			return free
		}
		free = fmt.Sprintf("%s%d", name, n)
	}
	return free
}

type namedError struct {
	text string
	err  error
}

// Error has the commands with their names.
func (e *namedError) Error() string { return e.text }

// Unwrap is the error as it was.
func (e *namedError) Unwrap() error { return e.err }

// shellWord quotes a word for a POSIX shell, where it must be.
func shellWord(s string) string {
	if strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+:@%,") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
