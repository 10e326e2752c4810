package main

import (
	"github.com/spf13/pflag"

	"freshet/internal/plot"
)

func plotFlag(f *pflag.FlagSet, name *string) {
	f.StringVar(name, "plot", "", "draw the result to this .png or .svg file")
}

// checkPlot refuses a file that cannot be drawn to, before anything is measured; "" = nothing is drawn.
func checkPlot(name string) error {
	if name == "" {
		return nil
	}
	return plot.Check(name)
}
