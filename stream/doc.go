// Package stream is Kafka: bytes become events, events are handed over partition by partition in offset order, what comes back
// is published, and only then, and late, is an offset committed. Nothing outside this package knows that it is Kafka.
//
// # The loop
//
// [Consumer] runs one serial loop per assigned partition (partition.go, top-down):
//
//	fetch -> decode (poison -> dead letters, acked) -> handle -> publish -> note as done -> commit, later
//
// There is no queue between the steps, so a slow store or broker is back-pressure by itself. A step that fails for a reason that
// passes is tried again in place, for ever, with a capped back-off; the other partitions go on. What a batch's own events are to
// blame for is found by bisecting and goes to the dead letters.
//
// # Why offsets are committed late
//
// A store that acknowledged a write may still lose it: Redis with appendfsync everysec forgets up to two seconds when its
// machine goes down. An offset is therefore committed only when its events were saved longer ago than LossWindow. What is read
// again after a restart was applied before and changes nothing; the handler says so by the positions in each profile.
//
// # Which list is published again
//
// A redelivered event may have been saved by an owner that died before publishing. The handler then returns the stored list
// marked as such, and the loop publishes it if it was computed from an event that this generation fetched: what lies before was
// published before its offset was committed.
//
// # Transactions
//
// Markers of transactional producers are passed over. kafka-go does not drop the records of an aborted transaction: they are read
// as if it had been committed, so producers of events should not rely on aborting.
//
// # The other parts
//
// [Decoder] reads events as plain JSON and CloudEvents; [Producer] writes lists, events and items with the partitioner of Kafka's
// Java client; [DeadLetters] keeps bad records byte for byte; [Follower] reads a whole compacted topic and stays with it; [Scan]
// reads a topic to its end once; [EnsureTopics] and [Inspect] serve set-up and diagnosis.
package stream
