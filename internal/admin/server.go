package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"go.uber.org/zap"
)

// Server answers on the admin socket.
type Server struct {
	path string
	ln   net.Listener
	http *http.Server
	log  *zap.Logger
}

// Listen opens the socket, mode 0600, and makes its directory (0755) where it
// is missing. A socket that a crash has left is replaced, one that somebody
// answers on is not.
func Listen(path string, b Backend, log *zap.Logger) (*Server, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("admin socket: %w", err)
	}
	if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
		_ = c.Close()
		return nil, fmt.Errorf("admin socket %s is taken by a running gateway: set admin.socket to another path", path)
	}
	// It is made under another name, so that there is no instant in which it
	// stands at its place with a wider mode.
	made := fmt.Sprintf("%s.%d", path, os.Getpid())
	_ = os.Remove(made) // of an earlier process with our number
	ln, err := (&net.ListenConfig{}).Listen(context.Background(), "unix", made)
	if err != nil {
		return nil, fmt.Errorf("admin socket: %w", err)
	}
	ln.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := errors.Join(os.Chmod(made, 0o600), os.Rename(made, path)); err != nil {
		_ = ln.Close()
		_ = os.Remove(made)
		return nil, fmt.Errorf("admin socket: %w", err)
	}
	s := &Server{path: path, ln: ln, log: log}
	s.http = &http.Server{
		Handler: routes(b),
		// The caller is local and ours; the bounds are against one that hangs.
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      time.Minute,
		MaxHeaderBytes:    16 << 10,
	}
	return s, nil
}

// Run serves until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = s.http.Close() })
	defer stop()
	err := s.http.Serve(s.ln)
	if st, statErr := os.Stat(s.path); statErr == nil && st.Mode()&os.ModeSocket != 0 {
		_ = os.Remove(s.path) // it may be gone already
	}
	if ctx.Err() != nil || errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	// Without its door the gateway still does its work.
	s.log.Error("admin socket failed", zap.Error(err))
	return nil
}

func routes(b Backend) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, b.Status()) })
	mux.HandleFunc("POST /v1/reload", func(w http.ResponseWriter, _ *http.Request) {
		res, err := b.Reload()
		code := http.StatusOK
		if err != nil {
			code = http.StatusConflict
		}
		answer(w, code, res)
	})
	mux.HandleFunc("GET /v1/flows", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, b.Flows()) })
	mux.HandleFunc("POST /v1/flows/{id}/end", func(w http.ResponseWriter, r *http.Request) {
		if err := b.EndFlow(r.PathValue("id")); err != nil {
			answer(w, http.StatusNotFound, map[string]string{"error": err.Error()})
			return
		}
		answer(w, http.StatusOK, map[string]string{"ended": r.PathValue("id")})
	})
	return mux
}

func answer(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(v) // a caller that has gone hears nothing
}
