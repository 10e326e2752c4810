package telemetry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Check answers whether one part of the process is well; nil = yes.
type Check struct {
	Name  string
	Probe func(ctx context.Context) error
	// Liveness marks a check whose failure a restart would mend; the others only keep traffic away.
	Liveness bool
	// Degrades marks a check whose failure makes the process worse, not dead and not absent: both endpoints say "degraded", and
	// neither fails for it.
	Degrades bool
}

// Server is the operators' listener: /metrics, /healthz (liveness), /readyz (everything), /debug/pprof.
type Server struct {
	listener net.Listener
	http     *http.Server
}

// Listen opens the listener; the address is host:port, port 0 picks a free one. checks is asked at every request.
func Listen(addr string, m *Metrics, checks func() []Check) (*Server, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen on http.listen %s: %w", addr, err)
	}
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(m, promhttp.HandlerOpts{}))
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, r *http.Request) { answer(w, r, checks(), true) })
	mux.HandleFunc("/readyz", func(w http.ResponseWriter, r *http.Request) { answer(w, r, checks(), false) })
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return &Server{listener: l, http: &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}}, nil
}

// Addr is where the server listens.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// Run serves until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { s.http.Close() })
	defer stop()
	if err := s.http.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve metrics: %w", err)
	}
	return nil
}

func answer(w http.ResponseWriter, r *http.Request, checks []Check, livenessOnly bool) {
	ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
	defer cancel()
	code, status, out := http.StatusOK, "ok", map[string]string{}
	for _, c := range checks {
		if livenessOnly && !c.Liveness && !c.Degrades {
			continue
		}
		out[c.Name] = "ok"
		err := c.Probe(ctx)
		switch {
		case err == nil:
		case c.Degrades:
			out[c.Name] = err.Error()
			if code == http.StatusOK {
				status = "degraded"
			}
		default:
			code, status, out[c.Name] = http.StatusServiceUnavailable, "failed", err.Error()
		}
	}
	out["status"] = status
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	json.NewEncoder(w).Encode(out) //nolint:errcheck // the client is gone; there is nobody to tell
}
