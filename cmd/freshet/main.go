// Command freshet is a streaming recommender: one binary, one verb a job. `freshet --help` lists the verbs.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"freshet/internal/telemetry"
)

// version is set by the build.
var version = "dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := newRoot().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "freshet:", err)
		var code exitCode
		if errors.As(err, &code) {
			os.Exit(int(code))
		}
		os.Exit(1)
	}
}

// exitCode ends the program with that code where a verb's answer is "no" rather than a failure.
type exitCode int

func (c exitCode) Error() string { return fmt.Sprintf("exit %d", int(c)) }

// globals are the flags that every verb has.
type globals struct {
	config string
	sets   []string
}

// load reads the effective configuration and opens the logger.
func (g *globals) load() (Config, *zap.Logger, error) {
	path := g.config
	if path == "" {
		path = os.Getenv("FRESHET_CONFIG")
	}
	c, err := loadConfig(path, os.Environ(), g.sets)
	if err != nil {
		return c, nil, err
	}
	c.resolvePaths()
	log, err := telemetry.NewLogger(c.Log.Level, c.Log.Format, os.Stderr)
	return c, log, err
}

func newRoot() *cobra.Command {
	g := &globals{}
	root := &cobra.Command{
		Use:           "freshet",
		Short:         "A streaming recommender: events in, a fresh list per user out, milliseconds later",
		Version:       version,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.PersistentFlags().StringVar(&g.config, "config", "", "YAML file (default: $FRESHET_CONFIG, else the built-in defaults)")
	root.PersistentFlags().StringArrayVar(&g.sets, "set", nil, "set one key, e.g. --set kafka.brokers=10.0.0.1:9092 (repeatable)")
	root.AddCommand(newDemoCommand(g), newServeCommand(g), newImportCommand(g), newExportCommand(g), newUserCommand(g), newDLQCommand(g), newLanesCommand(g), newReplayCommand(g), newBundleCommand(g), newEvalCommand(g), newBenchCommand(g), newDoctorCommand(g), newConfigCommand(g))
	return root
}

func newConfigCommand(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "config",
		Short: "Print the effective configuration with what each value means",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, _, err := g.load()
			if err != nil {
				return err
			}
			text, err := printConfig(c)
			if err != nil {
				return err
			}
			fmt.Fprint(cmd.OutOrStdout(), text)
			return nil
		},
	}
}
