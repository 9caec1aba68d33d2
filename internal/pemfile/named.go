package pemfile

import (
	"fmt"
	"os"
	"strings"
)

// Named inserts file names into the commands, in backquotes, of an error. FILE becomes
// the file's name; NEWFILE and NEWKEY become names beside it that do not exist, so that a
// command typed as shown overwrites nothing. All names are quoted for a POSIX shell.
func Named(err error, file string) error {
	return NamedBeside(err, file, func(name string) bool {
		_, err := os.Lstat(name)
		return err == nil
	})
}

// NamedBeside is Named where taken says which names there are.
func NamedBeside(err error, file string, taken func(name string) bool) error {
	if err == nil {
		return nil
	}
	if strings.HasPrefix(file, "-") {
		file = "./" + file // so that it is not read as an option
	}
	parts := strings.Split(err.Error(), "`")
	for i := 1; i < len(parts)-1; i += 2 { // between quotes
		parts[i] = strings.NewReplacer("NEWKEY", shellWord(unused(file+".key", taken)), "NEWFILE", shellWord(unused(file+".new", taken)), "FILE", shellWord(file)).Replace(parts[i])
	}
	return &namedError{strings.Join(parts, "`"), err}
}

// unused is the name, if necessary with a number appended, such that no file has it.
func unused(name string, taken func(string) bool) string {
	free := name
	for n := 2; n < 1000; n++ {
		if !taken(free) {
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

// Error is the text with the names in the commands.
func (e *namedError) Error() string { return e.text }

// Unwrap is the original error.
func (e *namedError) Unwrap() error { return e.err }

// shellWord quotes a word for a POSIX shell if necessary.
func shellWord(s string) string {
	if strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+:@%,") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
