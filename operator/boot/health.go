package boot

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// serveHealth serves /healthz, which says that the program runs, and /readyz, which
// says whether it serves all that a machine may need.
func (p *pod) serveHealth(ctx context.Context) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		ready, message := p.status()
		if !ready {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		fmt.Fprintln(w, message)
	})
	return serve(ctx, p.HealthAddress, "--health-address", mux, p.Logger)
}

// serveMetrics serves /metrics.
func (p *pod) serveMetrics(ctx context.Context) error {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(p.metrics.registry, promhttp.HandlerOpts{ErrorLog: slog.NewLogLogger(p.Logger.Handler(), slog.LevelWarn)}))
	return serve(ctx, p.MetricsAddress, "--metrics-address", mux, p.Logger)
}

// serve serves until ctx ends. What it serves is open to the network, so it is
// bounded.
func serve(ctx context.Context, address, flag string, handler http.Handler, logger *slog.Logger) error {
	if address == Off || address == "" {
		return nil
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("cannot listen on %s %s: %w; choose another address, or 0 for none", flag, address, err)
	}
	s := &http.Server{
		Handler: handler, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second,
		IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(logger.Handler(), slog.LevelDebug),
	}
	stop := context.AfterFunc(ctx, func() { _ = s.Close() })
	defer stop()
	if err := s.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("the server on %s ended: %w", address, err)
	}
	return nil
}

// ruleOf is the rule of a refusal's text, for counting.
func ruleOf(message string) string {
	if rule, _, ok := strings.Cut(message, ":"); ok && rules[rule] {
		return rule
	}
	return "Other"
}
