package main

import (
	"time"

	"freshet/internal/candidate"
	"freshet/internal/recommend"
	"freshet/models"
)

// popularHalfLife is how fast popularity forgets, in event time.
const popularHalfLife = 7 * 24 * time.Hour

// sourcesOf lists what surfaces may name: sequence for the model's first task, sequence-<task> for the others, popular.
func sourcesOf(bundle *models.Bundle, index *models.Index, popular *candidate.Popular) []recommend.Source {
	var out []recommend.Source
	for i, task := range bundle.Tasks() {
		name := "sequence"
		if i > 0 {
			name += "-" + task
		}
		out = append(out, candidate.NewSequence(name, i, index))
	}
	return append(out, popular)
}
