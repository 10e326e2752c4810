package main

import (
	"context"
	"encoding/json"
	"io"

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
			"group share the partitions. Nothing is lost by killing it.",
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
	metrics := telemetry.NewMetrics()
	w, err := openWorker(ctx, cfg, metrics, log)
	if err != nil {
		return err
	}
	log.Info("worker starts", zap.String("version", version))
	running, ctx := errgroup.WithContext(ctx)
	if cfg.HTTP.Listen != "" {
		srv, err := telemetry.Listen(cfg.HTTP.Listen, metrics, w.checks())
		if err != nil {
			return err
		}
		log.Info("metrics and health", zap.String("url", "http://"+srv.Addr()))
		running.Go(func() error { return srv.Run(ctx) })
	}
	running.Go(func() error { return w.Run(ctx) })
	err = running.Wait()
	if closeErr := w.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		log.Info("worker stopped")
	}
	return err
}

// printJSON writes one object on one line, for machines.
func printJSON(w io.Writer, v any) error { return json.NewEncoder(w).Encode(v) }
