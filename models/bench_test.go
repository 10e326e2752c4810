package models

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"freshet"
)

// benchBundle is the bundle in FRESHET_BUNDLE, else the tiny one, whose figures say little: name a real one.
func benchBundle(b *testing.B) *Bundle {
	if dir := os.Getenv("FRESHET_BUNDLE"); dir != "" {
		return openBundle(b, dir)
	}
	return openTiny(b)
}

// BenchmarkAdvance steps a batch of users by one event, from one goroutine and from two at a time.
func BenchmarkAdvance(b *testing.B) {
	bundle := benchBundle(b)
	trial, err := bundle.trial()
	if err != nil {
		b.Fatal(err)
	}
	for _, goroutines := range []int{1, 2} {
		for _, users := range []int{1, 8, 64, 256} {
			b.Run(fmt.Sprintf("users=%d/goroutines=%d", users, goroutines), func(b *testing.B) {
				b.ReportAllocs()
				together(b, goroutines, func() func() error {
					steps := bundle.gather(trial, identity(users))
					return func() error { return bundle.Advance(context.Background(), steps) }
				})
				b.ReportMetric(float64(b.N*users*goroutines)/b.Elapsed().Seconds(), "steps/s")
			})
		}
	}
}

// BenchmarkSearch finds the 100 best items, from one goroutine and from two at a time.
func BenchmarkSearch(b *testing.B) {
	bundle := benchBundle(b)
	for _, items := range []int{3706, 100_000} {
		x := indexOf(b, bundle, items)
		for _, goroutines := range []int{1, 2} {
			for _, batch := range []int{1, 8, 64, 256} {
				b.Run(fmt.Sprintf("items=%d/batch=%d/goroutines=%d", items, batch, goroutines), func(b *testing.B) {
					b.ReportAllocs()
					together(b, goroutines, func() func() error {
						queries := randomVectors(rand.New(rand.NewPCG(8, 8)), batch, bundle.Dim())
						var h freshet.Hits
						return func() error { return x.SearchInto(context.Background(), queries, 100, &h) }
					})
					b.ReportMetric(float64(b.N*batch*goroutines)/b.Elapsed().Seconds(), "queries/s")
				})
			}
		}
	}
}

// BenchmarkSearchBeside is what items cost that are not in the matrix yet.
func BenchmarkSearchBeside(b *testing.B) {
	bundle := benchBundle(b)
	x := indexOf(b, bundle, 3706)
	queries := randomVectors(rand.New(rand.NewPCG(8, 8)), 64, bundle.Dim())
	for _, newest := range []int{0, 64, 256} {
		for i := len(x.current.Load().newest); i < newest; i++ {
			if err := x.Upsert(fmt.Sprint("newest", i), queries[:bundle.Dim()], 0); err != nil {
				b.Fatal(err)
			}
		}
		b.Run(fmt.Sprintf("newest=%d/batch=64", newest), func(b *testing.B) {
			var h freshet.Hits
			for b.Loop() {
				if err := x.SearchInto(context.Background(), queries, 100, &h); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkVector looks up the vector of an item, as every event does.
func BenchmarkVector(b *testing.B) {
	x := indexOf(b, benchBundle(b), 100_000)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		x.Vector(x.all[1+i%99_999].id)
	}
}

// BenchmarkText encodes catalogue-like texts of 8 to 48 tokens.
func BenchmarkText(b *testing.B) {
	var texts []string
	for _, g := range goldens(b) {
		if len(g.IDs) >= 8 && len(g.IDs) <= 48 {
			texts = append(texts, g.Text)
		}
	}
	for _, workers := range []int{1, 2} {
		for _, tokens := range []int{1, 512, 4096} {
			b.Run(fmt.Sprintf("workers=%d/batch_tokens=%d", workers, tokens), func(b *testing.B) {
				e := openEncoder(b, TextConfig{Workers: workers, BatchTokens: tokens})
				for b.Loop() {
					if _, err := e.Encode(context.Background(), texts); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*len(texts)), "us/text")
			})
		}
	}
}

// indexOf opens the bundle's items and adds made-up ones up to a number.
func indexOf(b *testing.B, bundle *Bundle, items int) *Index {
	x := openIndex(b, bundle, byHand)
	r := rand.New(rand.NewPCG(5, 5))
	for i := len(bundle.ids); i <= items; i++ {
		if err := x.Upsert(fmt.Sprint("made-up-", i), randomVectors(r, 1, bundle.Dim()), 0); err != nil {
			b.Fatal(err)
		}
	}
	if err := x.Settle(context.Background()); err != nil {
		b.Fatal(err)
	}
	return x
}

// together runs b.N rounds on each of some goroutines and reports the processor's time for each; make gives each its own work.
func together(b *testing.B, goroutines int, make func() func() error) {
	work := []func() error{}
	for range goroutines {
		work = append(work, make())
	}
	b.ResetTimer()
	before := cpuTime(b)
	var all sync.WaitGroup
	for _, f := range work {
		all.Go(func() {
			for range b.N {
				if err := f(); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	b.ReportMetric(float64((cpuTime(b)-before).Nanoseconds())/float64(b.N*goroutines), "cpu-ns/round")
}

// cpuTime is what the process used so far: it tells more than the clock where others share the cores.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
