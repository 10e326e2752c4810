//go:build !linux

package main

// runLast does nothing where threads have no priorities of their own.
func runLast() {}
