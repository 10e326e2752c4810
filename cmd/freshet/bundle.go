package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"freshet/models"
)

func newBundleCommand(g *globals) *cobra.Command {
	cmd := &cobra.Command{Use: "bundle", Short: "Look into a model bundle, or put it to the test"}
	var asJSON bool
	cmd.PersistentFlags().BoolVar(&asJSON, "json", false, "print one JSON object")
	cmd.AddCommand(
		&cobra.Command{Use: "inspect DIR", Short: "Open a bundle (hashes, shapes and parity are checked) and say what it is", Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				return withBundle(g, args[0], func(b *models.Bundle) error {
					if asJSON {
						return printJSON(cmd.OutOrStdout(), b.Manifest())
					}
					return printBundle(cmd.OutOrStdout(), b)
				})
			}},
		&cobra.Command{Use: "verify DIR", Short: "Check that a step's bits do not depend on batch size, order or threads", Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				return withBundle(g, args[0], func(b *models.Bundle) error {
					v, err := b.Verify(cmd.Context())
					if err != nil {
						return err
					}
					if asJSON {
						return printJSON(cmd.OutOrStdout(), v)
					}
					_, err = fmt.Fprintln(cmd.OutOrStdout(), v)
					return err
				})
			}},
	)
	return cmd
}

func withBundle(g *globals, dir string, do func(*models.Bundle) error) error {
	cfg, _, err := g.load()
	if err != nil {
		return err
	}
	rt, err := models.NewRuntime(models.Config{Library: cfg.Model.Library, Device: cfg.Model.Device, Threads: cfg.Model.Threads, FallBack: cfg.Model.FallBack}, zap.NewNop())
	if err != nil {
		return err
	}
	defer rt.Close()
	b, err := models.OpenBundle(rt, dir)
	if err != nil {
		return err
	}
	defer b.Close()
	return do(b)
}

func printBundle(w io.Writer, b *models.Bundle) error {
	m := b.Manifest()
	_, err := fmt.Fprintf(w, "%s (%s)\n  %d items in %d rows of %d numbers, state %d bytes, window %d\n  event types %v, tasks %v\n  fingerprint %s\n",
		b.ID(), m.Architecture, m.Items-1, m.Capacity, m.Dim, 4*m.State.Size, m.MaxHistory, m.EventTypes[1:], m.Tasks, m.Fingerprint)
	return err
}
