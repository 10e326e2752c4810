package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"freshet/internal/telemetry"
)

func newServeCommand(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "serve",
		Short: "Run the worker: consume events, keep profiles, write lists",
		Long: "Runs until it is told to stop (SIGINT, SIGTERM); it then finishes the batch in hand and commits. More workers of the same\n" +
			"group share the partitions. Nothing is lost by killing it. A server that is away at the start is waited for.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, log, err := g.load()
			if err != nil {
				return err
			}
			return serve(cmd.Context(), cfg, log)
		},
	}
}

func serve(ctx context.Context, cfg Config, log *zap.Logger) error {
	s := &start{}
	w := newWorker(cfg, telemetry.NewMetrics(), log)
	w.held = s.held
	log.Info("worker starts", zap.String("version", version))
	running, inner := errgroup.WithContext(ctx)
	if cfg.HTTP.Listen != "" {
		// Before anything is opened: a server that is away holds the start up, and health has to say so.
		srv, err := telemetry.Listen(cfg.HTTP.Listen, w.metrics, s.checks)
		if err != nil {
			return err
		}
		log.Info("metrics and health", zap.String("url", "http://"+srv.Addr()))
		running.Go(func() error { return srv.Run(inner) })
	}
	running.Go(func() error {
		err := w.openAll(inner)
		if err == nil {
			s.opened.Store(w)
			err = w.Run(inner)
		}
		if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
			err = nil // told to stop while it was starting
		}
		return err
	})
	err := running.Wait()
	if closeErr := w.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		log.Info("worker stopped")
	}
	return err
}

// start is what health knows of a worker before and after it is open.
type start struct {
	opened atomic.Pointer[worker]
	reason atomic.Pointer[error] // why it is not open yet
}

func (s *start) held(err error) { s.reason.Store(&err) }

func (s *start) checks() []telemetry.Check {
	if w := s.opened.Load(); w != nil {
		return w.checks()
	}
	return []telemetry.Check{{Name: "start", Probe: func(context.Context) error {
		if err := s.reason.Load(); err != nil {
			return fmt.Errorf("the worker is starting and waits: %w", *err)
		}
		return errors.New("the worker is starting")
	}}}
}

// printJSON writes one object on one line, for machines.
func printJSON(w io.Writer, v any) error { return json.NewEncoder(w).Encode(v) }
