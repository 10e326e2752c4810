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
//	covisit.go    Covisit: what usually stood near what the user met, counted from the stream; covisit_ballot.go counts the votes of one
//	              subject, covisit_sync.go shares the counts between workers
//	content.go    Content: what is like the latest items by its vector
//	popular.go    Popular: what many users did lately, halved every half-life of event time
//	trending.go   Trending: what is met more often than it used to be
//	newitems.go   New: items that hardly anybody has met, for exploration places, ranked by what their first users did; newitems_sync.go
//	              shares that between workers
//	owned.go      Owned: what the user has bought, for "buy again"
//	recent.go     Recent: what the user met lately, where repeats are wanted
//
// A source that learns from the stream (Covisit, Popular, Trending, New) has Learn, which hears of saved events only, once each. Popular,
// Covisit and New leave what they learnt in the store; Trending begins anew. Lists of Sequence, Content, Owned and
// Recent are a pure function of profile and catalogue; those of the others depend on what everybody did.
//
// How a source is added is told in CONTRIBUTING.md.
package candidate
