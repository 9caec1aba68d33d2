package spiffe

import (
	"fmt"
	"path/filepath"
	"strings"
)

// Socket is the path of an agent's socket, which is written as unix:///PATH or as a path alone. False:
// it is none of this host.
func Socket(written string) (path string, ok bool) {
	path = written
	for _, prefix := range []string{"unix://", "unix:"} {
		if rest, cut := strings.CutPrefix(written, prefix); cut {
			path = rest
			break
		}
	}
	return path, filepath.IsAbs(path) && filepath.Clean(path) == path
}

// Use is what somebody uses of an agent. The zero value uses none.
type Use struct {
	Socket string // the path
	Agent  *Agent // nil until it is known
}

// Failing is why the agent does not answer; nil where it does, or there is none.
func (u *Use) Failing() error {
	if u.Agent == nil {
		return nil
	}
	_, _, err := u.Agent.Now()
	return err
}

// Stamp changes with each answer.
func (u *Use) Stamp() string {
	if u.Agent == nil {
		return ""
	}
	_, changes, _ := u.Agent.Now()
	return fmt.Sprint(changes)
}

// Answer is the last good one; nil if there is none.
func (u *Use) Answer() *Answer {
	if u.Agent == nil {
		return nil
	}
	last, _, _ := u.Agent.Now()
	return last
}
