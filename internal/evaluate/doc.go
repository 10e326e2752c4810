// Package evaluate measures recommendations on what users really did next.
//
// Two protocols, both over the full catalogue and both through the code that serves:
//
//   - Leave-one-out ([Log.LeaveOneOut]): the last event of every user is hidden, the rest is the history, and the hidden item is
//     ranked among all items the user has not had. It is what most papers report.
//   - Prequential ([Prequential], after Vinagre et al., arXiv 1504.08175): all events in global time order; each one is first
//     ranked in the list that stands for its user at that moment and then revealed. It is what a stream experiences.
//
// A [Log] holds the events in compact form. Whatever computes lists from a history is a [Scorer] (scores for every item, for
// exact ranks) or a [Handler] (the serving engine: events in, published lists out). Beside them run baselines that no learned
// model may be proud of losing to: [Popularity], [Counts] (decayed transition counts) and [TextKNN].
//
// Two rules keep the figures honest. The rank of the true item counts every candidate that scores higher or equal, so that a
// model that scores everything alike ranks it last. And ties in time are never broken: the order in which events were read
// stands, and every report names it.
package evaluate
