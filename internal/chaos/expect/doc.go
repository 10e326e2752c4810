// Package expect says what freshet must hold after it has read a log, whatever happened to it meanwhile. It is written from
// docs/contracts.md and docs/state.md, takes one event after the other, keeps everything in memory and knows neither faults nor
// batches. It imports the standard library only and shares no line with what it judges; a test keeps that law.
//
// The way through it: Decode judges a record, Log.Take applies its event to its user, Log.Finish folds every user's steps with a
// Model and gives the Expectation that a verdict is taken from.
package expect
