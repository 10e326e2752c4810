package models

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"freshet"
)

// clustered makes vectors that lie in clusters of uneven sizes, as those of items do.
func clustered(r *rand.Rand, n, d, clusters int) [][]float32 {
	centres := randomVectors(r, clusters, d)
	out := make([][]float32, n)
	for i := range out {
		c := int(float64(clusters) * r.Float64() * r.Float64())
		out[i] = make([]float32, d)
		for j := range out[i] {
			out[i][j] = centres[c*d+j] + .4*float32(r.NormFloat64())
		}
	}
	return out
}

// largeIndex is the tiny bundle's index with n more items. It is divided into cells when limit is below their number.
func largeIndex(t *testing.T, n, limit int, recall float64) *Index {
	t.Helper()
	b := openTiny(t)
	x := openIndex(t, b, IndexConfig{Recommendable: All, RewriteAfter: -1, ExactUpTo: limit, Recall: recall})
	for i, v := range clustered(rand.New(rand.NewPCG(3, 3)), n, b.Dim(), 20) {
		if err := x.Upsert(fmt.Sprintf("n%d", i), v, float32(i%7)/10); err != nil {
			t.Fatal(err)
		}
	}
	if err := x.Settle(context.Background()); err != nil {
		t.Fatal(err)
	}
	return x
}

func searchAll(t *testing.T, x *Index, queries []float32, n int) freshet.Hits {
	t.Helper()
	h, err := x.Search(context.Background(), queries, n)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// Looking into every cell is the exact search, whatever was hidden, changed or added meanwhile.
func TestAllCellsTogetherAreTheWholeCatalogue(t *testing.T) {
	exact, divided := largeIndex(t, 1500, -1, 0), largeIndex(t, 1500, 100, .99)
	c := divided.current.Load().generation.cells
	if c.centres == nil || exact.current.Load().generation.cells.centres != nil {
		t.Fatal("1,500 rows: want cells where the limit is 100, and none without a limit")
	}
	r := rand.New(rand.NewPCG(4, 4))
	queries := randomVectors(r, 40, exact.bundle.Dim())
	agreeOn := func(when string) {
		t.Helper()
		divided.current.Load().generation.cells.probes.Store(int32(c.len()))
		for _, n := range []int{1, 10, 100, 2000} {
			want, got := searchAll(t, exact, queries, n), searchAll(t, divided, queries, n)
			if !slices.Equal(want.Items, got.Items) {
				t.Fatalf("%s: the %d best differ", when, n)
			}
		}
	}
	agreeOn("at first")
	for _, x := range []*Index{exact, divided} {
		for i := range 300 {
			x.SetRecommendable(fmt.Sprintf("n%d", 3*i), false)
			x.Remove(fmt.Sprintf("n%d", 3*i+1))
		}
		if err := x.Upsert("n2", queries[:x.bundle.Dim()], 5); err != nil {
			t.Fatal(err)
		}
	}
	agreeOn("with items hidden, removed and changed")
	for _, x := range []*Index{exact, divided} {
		if err := x.Settle(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	c = divided.current.Load().generation.cells
	agreeOn("after a rewrite")
}

func TestCellsFindTheShareThatIsAskedFor(t *testing.T) {
	const n, k = 6000, 100
	exact, divided := largeIndex(t, n, -1, 0), largeIndex(t, n, 100, .95)
	r := rand.New(rand.NewPCG(5, 5))
	queries := slices.Concat(clustered(r, 200, exact.bundle.Dim(), 20)...)
	for d := exact.bundle.Dim(); len(divided.samples.list) < sampleSize; { // the queries it calibrates with are those it is asked
		at := r.IntN(len(queries)/d) * d
		searchAll(t, divided, queries[at:at+d], k)
	}
	divided.recalibrate()
	want, got := searchAll(t, exact, queries, k), searchAll(t, divided, queries, k)
	hits := 0
	for i := range len(want.Items) / k {
		for _, id := range want.Items[i*k : (i+1)*k] {
			if slices.Contains(got.Items[i*k:(i+1)*k], id) {
				hits++
			}
		}
	}
	recall := float64(hits) / float64(len(want.Items))
	c := divided.current.Load().generation.cells
	if recall < .93 || int(c.probes.Load()) == c.len() {
		t.Errorf("recall %.3f looking into %d of %d cells, want about .95 and fewer than all", recall, c.probes.Load(), c.len())
	}
}

// Whether a list is made for one event alone or within a replay of thousands, its scores have the same bits.
func TestScoresDoNotDependOnTheCompanyOfAQuery(t *testing.T) {
	for name, x := range map[string]*Index{"whole": largeIndex(t, 1500, -1, 0), "cells": largeIndex(t, 1500, 100, .9)} {
		d, n := x.bundle.Dim(), 100
		queries := randomVectors(rand.New(rand.NewPCG(6, 6)), 40, d)
		for _, b := range []int{2, 3, 7, 33, 40} {
			together := searchAll(t, x, queries[:b*d], n)
			for i := range b {
				alone := searchAll(t, x, queries[i*d:(i+1)*d], n)
				if !slices.Equal(alone.Items, together.Items[i*n:(i+1)*n]) || differentBits(alone.Scores, together.Scores[i*n:(i+1)*n]) >= 0 {
					t.Fatalf("%s: query %d of %d has other items or scores than alone", name, i, b)
				}
			}
		}
	}
}

// What is found grows with the cells that are looked into, and whatever number is asked for is one that there is.
func TestLookIntoSetsHowManyCells(t *testing.T) {
	x := largeIndex(t, 1500, 100, .99)
	_, all := x.Cells()
	for asked, want := range map[int]int{-1: 1, 1: 1, 3: 3, all: all, all + 7: all} {
		x.LookInto(asked)
		if got, _ := x.Cells(); got != want {
			t.Errorf("asked for %d of %d cells: %d", asked, all, got)
		}
	}
	whole := largeIndex(t, 1500, -1, 0)
	if whole.LookInto(3); whole.current.Load().generation.cells.centres != nil {
		t.Error("cells where there are none")
	}
}
