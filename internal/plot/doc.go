// Package plot draws the results of measurements to a PNG or SVG file: a [Figure] is a title and some panels side by side, a [Panel] is
// lines with their intervals, dots with whiskers, or bars, on linear or logarithmic axes. It knows nothing of what is measured; cmd/freshet says
// that.
package plot
