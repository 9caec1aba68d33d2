package soak

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/sslgate/sslgate/internal/lab"
)

// inLab finds the binary, makes a lab and a site in dir, and takes them down behind do. Where
// dir is "" it is a temporary one with the prefix.
func (r *run) inLab(binary, dir, engine, prefix string, wait time.Duration, do func() error) (err error) {
	if r.opt.Binary, err = filepath.Abs(binary); err == nil {
		_, err = os.Stat(r.opt.Binary)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUsage, err)
	}
	if dir == "" {
		if dir, err = os.MkdirTemp("", prefix); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	} else if err := emptyDir(dir); err != nil {
		return fmt.Errorf("%w: %w", ErrUsage, err)
	}
	l, err := lab.New(lab.Options{GRO: true, Servers: cutServer})
	if errors.Is(err, lab.ErrHelp) {
		return fmt.Errorf("%w: %s", ErrUsage, lab.Help(err))
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Remove()) }()
	if r.site, err = newSite(l, dir, engine, r.book, wait); err != nil {
		return err
	}
	if r.opt.Local {
		if err := r.site.makeLocal(); err != nil {
			return err
		}
	}
	return do()
}

// emptyDir makes a directory or takes an empty one: records of another run would be taken for
// those of this run.
func emptyDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	all, err := os.ReadDir(dir)
	if err == nil && len(all) > 0 {
		err = fmt.Errorf("%s is not empty", dir)
	}
	return err
}
