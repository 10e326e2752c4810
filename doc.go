// Package freshet holds the plain data of a streaming recommender and its laws: what an event is and when it is refused, how a
// user's profile takes an event in, how a profile becomes bytes, what a recommendation record looks like.
//
// One sentence describes the whole program: a partition of events is folded, in order, into user profiles; each changed profile
// yields one fresh top-K list per surface; the list goes to Redis and to a topic.
//
// The law that everything stands on is in profile.go: a profile is a checkpoint, a window and a state, and
//
//	state = fold(checkpoint, window)
//
// bit for bit. [Profile.Apply] keeps the window in event-time order and says through [Profile.Plan] which steps of the sequence
// model bring the state up to date; whoever owns a model runs them (internal/recommend does).
//
// This package imports the standard library only and knows neither Kafka nor Redis nor ONNX.
package freshet
