// Package candidate is where recommendations come from: one source per file. A source proposes items for a user, scores items
// that others proposed, and may name the item of the user's history behind a proposal. Scores are log-like, so that the engine
// can fuse sources by a weighted sum; how a new source is added is told in CONTRIBUTING.md.
package candidate
