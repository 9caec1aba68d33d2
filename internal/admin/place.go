package admin

import (
	"fmt"
	"os"
)

// While one process takes over from another, both have a socket in the same directory:
//
//	PATH.new   of the newer one, until it has the steering
//	PATH       of the one that has the steering
//	PATH.old   of the older one, while it drains
//
// Names are exchanged so that PATH is there at every moment. A process knows its own
// socket by the inode, whoever has renamed it.

// The endings of the names.
const (
	socketNew = ".new"
	socketOld = ".old"
)

// OldSocket is the path of the socket of a gateway that drains, if path is that of the one
// that has taken over from it.
func OldSocket(path string) string { return path + socketOld }

// ListenAside is ListenSocket beside a gateway that has the path. TakePlace moves the
// socket there.
func (s *Server) ListenAside(path string) error {
	if err := s.listenAt(path + socketNew); err != nil {
		return err
	}
	s.path = path
	return nil
}

// TakePlace puts this server's socket at its path. What is there gets the name of the
// older one.
func (s *Server) TakePlace() error {
	if s.path == "" || s.mine(s.path) {
		return nil
	}
	from := ""
	for _, name := range s.names() {
		if s.mine(name) {
			from = name
		}
	}
	if from == "" {
		return fmt.Errorf("admin socket %s: somebody has removed it", s.path)
	}
	if from != s.path+socketOld {
		_ = os.Remove(s.path + socketOld)
		_ = os.Link(s.path, s.path+socketOld) // without it the older one has no socket, and needs none
	}
	if err := os.Rename(from, s.path); err != nil {
		return fmt.Errorf("admin socket: %w", err)
	}
	return nil
}

// names are those that the socket may have.
func (s *Server) names() []string { return []string{s.path, s.path + socketNew, s.path + socketOld} }

// mine says whether the socket of that name is this server's.
func (s *Server) mine(name string) bool {
	now, err := os.Lstat(name)
	return err == nil && s.socket != nil && os.SameFile(now, s.socket)
}

// removeSocket removes this server's socket, and nobody else's.
func (s *Server) removeSocket() {
	if s.path == "" {
		return
	}
	for _, name := range s.names() {
		if s.mine(name) {
			_ = os.Remove(name)
		}
	}
}
