// Package feedback joins what users were shown with what they did next, into training examples.
//
// An impression (an event that only observes) opens an exposure: the items of one list, before one user. A behaviour within the window
// (30 minutes of event time) after an item was shown is an outcome of that item. Once nothing more can come, the exposure is closed and
// becomes one example on a topic. All of it is a fold of the log, user by user, in order of offsets; State is its memory and lives in
// the store, so that restarts and other workers go on where this one stopped:
//
//   - An event at or below the stored position of its partition is skipped: a redelivery changes nothing.
//   - A behaviour joins one exposure: that of its rec_id if the item was shown there, else the one that showed the item last. A pair of
//     item and event_id counts once in an exposure.
//   - An exposure takes in what the log received until its deadline: the log's time of its last impression, the window, and some grace
//     for late records. Which worker closes it, and how long after, makes no difference to what is in it.
//   - Examples are published before the state is saved: a crash in between publishes the same example again, under the same id.
//     Readers keep one of each id (Collect does).
//
// The join reads the events topic as a consumer group of its own: a list never waits for it, and it may fall behind alone.
package feedback
