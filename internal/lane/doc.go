// Package lane holds the rules of the table of lanes: how a lane is added, given users, promoted and dropped. It changes a table
// in memory and nothing else; whoever calls it stores the outcome by compare-and-set.
//
// Users are shared out by slots of a stable hash. A change of shares moves the fewest slots that make the change: a lane that
// grows takes from the live lane, one that shrinks gives back to it, and nobody else moves. Each lane begins at a place of its own on
// the ring of slots, so that one experiment does not always meet the same users. A slot remembers its former owner, and since which
// version of the table it has the present one: that version is the cv of its users' public records.
package lane
