package bench

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/sslgate/sslgate/internal/lab/attack"
)

// The roles in which this program starts itself inside the namespaces.
const (
	RolePin       = "role-pin"
	RoleLoad      = "role-load"
	RoleOrigin    = "role-origin"
	RoleReference = "role-reference"
	RoleFlood     = "role-flood"
)

// Role runs one of the roles but RolePin; job is its task in JSON. It returns
// when the task is done or in ends.
func Role(role, job string, in io.Reader, out io.Writer) error {
	switch role {
	case RoleLoad:
		return decode(job, in, out, runLoad)
	case RoleOrigin:
		return decode(job, in, out, serveOrigin)
	case RoleReference:
		return decode(job, in, out, serveReference)
	case RoleAssault:
		return attack.Main(job, in, out)
	case RoleFlood:
		return decode(job, in, out, runFlood)
	}
	return fmt.Errorf("unknown role %q", role)
}

func decode[T any](text string, in io.Reader, out io.Writer, run func(T, io.Reader, io.Writer) error) error {
	var job T
	if err := json.Unmarshal([]byte(text), &job); err != nil {
		return fmt.Errorf("task: %w", err)
	}
	return run(job, in, out)
}
