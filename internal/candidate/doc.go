// Package candidate is where recommendations come from: one source per file. A source proposes items for a user, scores items
// that others proposed, and may name the item of the user's history behind a proposal. The engine (internal/recommend) declares
// what it needs of a source; cmd/freshet lists the sources that exist, and a surface's weights say which of them take part.
//
// # Scores
//
// Scores of one source are comparable with each other and log-like: the engine fuses sources by a weighted sum, so a difference of
// 1 must mean about the same in each. A sequence model's logit is such a score, and so is the logarithm of a count.
//
// # The sources
//
//	sequence.go   Sequence: the items whose vectors answer the query of one of the model's tasks
//	popular.go    Popular: what many users did lately, halved every half-life of event time
//
// A source that learns from the stream (Popular) has Learn, which hears of saved events only, once each. It keeps what it learnt
// in memory: after a restart it begins anew.
//
// How a source is added is told in CONTRIBUTING.md.
package candidate
