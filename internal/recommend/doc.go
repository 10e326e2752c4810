// Package recommend is the middle of freshet: events in, finished lists out. It knows neither Kafka nor Redis nor ONNX; what it
// needs of them it declares here as small interfaces over root types.
//
// [Engine.Handle] is the only entrance and reads as the story of a batch: load the profiles, apply the events, fold the model
// over what changed (in rounds, so that a batch of users is one run of the model), propose and rank, save profile and lists as
// one compare-and-set per user, and hand the lists back for publication. Applying an event twice changes nothing; an event that
// was applied before gives back the list that is stored.
package recommend
