// Package featurestore keeps what freshet knows in Redis: a profile and its lists per user and lane, the catalogue, counts, the
// table of lanes, and the sentinels that tell whether Redis forgot something. It is the only package that speaks to Redis.
//
// # Saving
//
// A user's profile and every list computed from it are written by one call of scripts/save.lua, which compares the stored
// profile's version (rev and checksum, bytes 1 to 12 of its encoding) with the version that the update was computed from. All keys
// of a user share a hash tag, so the call is atomic on one server and on a Redis Cluster alike. Two workers that both believe to
// own a user cannot undo each other's work: the second is told [freshet.Newer], reads again and applies what is missing. A store
// that lost data is noticed by the same comparison: [freshet.Lost].
//
// The client never repeats a save by itself on a single server. On a Cluster it may (a redirection, a node that went away); a save
// that had got through is then answered Newer, and the reload shows that nothing is missing.
//
// # Servers that forget
//
// Between a restart of Redis and the first refused save, a user who was not in memory could be read from a past that skips some of
// his events, and the gap would never close, since his next position covers it. [Sentinels] closes that door: once armed, no
// connection to another process, or to other data, carries a load or save until the caller has rewound and said Accept.
//
// [Memory] is the twin without a server, for evaluation and tests; storetest holds the contract of both.
package featurestore
