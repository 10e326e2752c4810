// Package shop generates a shop: a catalogue of about 2,000 items in two domains, and the shoppers who walk through it.
//
// Nothing in it is recorded from anybody. The catalogue is composed from word lists (words.go) by a small grammar (catalogue.go),
// so that titles are unique and read like a shop's. A shopper (shopper.go) has an interest, "ski touring" say, that he pursues
// kind by kind: boots, then bindings, then a guidebook. He compares a few items of a kind, puts one into the cart, thinks better
// of it, buys it and what goes with it, and after a while another interest takes over. Kinds are shared between interests (the
// hiker, the runner and the stargazer all buy a head torch), and every shopper has a price level that he keeps to: what comes next
// follows from the whole history, not only from the last item. That is what a sequence model has to find.
//
// Everything is a function of two seeds. The catalogue depends on [Config.CatalogueSeed] alone, so that a model trained on one
// history serves any stream of the same shop; shoppers and their events depend on the seed given to [New].
//
// [Shop.Next] gives clean events in global time order. [Feed] makes the stream dirty, as streams are: duplicates, late events and
// records that no consumer should accept, each with the reason why.
package shop
