package fileset

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/sslgate/sslgate/internal/readfile"
)

// Places of this host that are no paths. What they have is read with Disk, as files are.
const (
	// placeEnv and the name of an environment variable of this process.
	placeEnv = "env:"
	// placeCredential and the name of a credential that systemd hands to the unit: a file in
	// $CREDENTIALS_DIRECTORY (systemd.exec(5), LoadCredential=).
	placeCredential = "credential:"
	// placeFile and a path, for one that begins like another place.
	placeFile = "file:"
)

// CredentialsVariable is the environment variable that systemd sets for units with credentials.
const CredentialsVariable = "CREDENTIALS_DIRECTORY"

var (
	// ErrUnset says that there is no such environment variable, or that it is empty.
	ErrUnset = errors.New("the environment variable is not set")
	// ErrNoCredentials says that systemd hands over none.
	ErrNoCredentials = errors.New("there are no credentials of systemd ($" + CredentialsVariable + " is not set): the unit needs LoadCredential= or LoadCredentialEncrypted= (systemd.exec(5)), and whoever runs a command by hand sets the variable")
	// ErrCredentialName says that a credential cannot have that name.
	ErrCredentialName = errors.New("no name of a credential: it is one of a file, without a directory")
)

// Place is the path of what a configuration in directory dir names: a path, which may have
// "file:" before it, relative to dir; "env:NAME" and "credential:NAME" are places of their own.
func Place(dir, name string) string {
	if IsPlace(name) {
		return name
	}
	name = strings.TrimPrefix(name, placeFile)
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(dir, name)
}

// IsPlace says whether a path is an environment variable or a credential.
func IsPlace(path string) bool {
	return strings.HasPrefix(path, placeEnv) || strings.HasPrefix(path, placeCredential)
}

// credential is the path of a credential's file.
func credential(name string) (string, error) {
	dir := os.Getenv(CredentialsVariable)
	switch {
	case dir == "":
		return "", ErrNoCredentials
	case name == "" || name == "." || name == ".." || strings.ContainsRune(name, filepath.Separator):
		return "", ErrCredentialName
	}
	return filepath.Join(dir, name), nil
}

// readPlace is Disk.Read for what is no path.
func readPlace(ctx context.Context, path string, limit int64, room readfile.Room) (File, error) {
	if name, ok := strings.CutPrefix(path, placeCredential); ok {
		at, err := credential(name)
		if err != nil {
			return File{}, fmt.Errorf("%s: %w", path, err)
		}
		return Disk{}.Read(ctx, at, limit, room)
	}
	text := os.Getenv(strings.TrimPrefix(path, placeEnv))
	if text == "" {
		return File{}, fmt.Errorf("%s: %w", path, ErrUnset)
	}
	return Bytes{path: []byte(text)}.Read(ctx, path, limit, room)
}

// stampPlace is Disk.Stamp for what is no path.
func stampPlace(path string) (string, error) {
	if name, ok := strings.CutPrefix(path, placeCredential); ok {
		at, err := credential(name)
		if err != nil {
			return "", fmt.Errorf("%s: %w", path, err)
		}
		return Disk{}.Stamp(at)
	}
	text := os.Getenv(strings.TrimPrefix(path, placeEnv))
	if text == "" {
		return "", fmt.Errorf("%s: %w", path, ErrUnset)
	}
	return stampOfText([]byte(text)), nil
}
