// Package demo is what a person sees while freshet shows itself: set-up with progress, then a screen that is redrawn a few times
// a second with the numbers that matter and one shopper's list before and after each of his clicks.
//
// It knows neither Kafka nor Redis nor the engine. Whoever runs the demo feeds it:
//
//	view := demo.Open(os.Stdout, asJSON)     // live screen, plain lines when stdout is no terminal, or JSON only
//	defer view.Close()
//	view.Step(demo.Step{Name: "encode titles and descriptions", Done: 640, Total: 1990})
//
//	tally := demo.NewTally(time.Now)         // the numbers; methods are safe for concurrent use
//	story := demo.NewStory(userID, items)    // the followed shopper
//	story.Happened(event)                    // when his event is produced
//	tally.Listed(userID, freshness)          // for every list written
//	story.Listed(recommendation, freshness)  // for every list of the followed shopper
//
//	every 200 ms: view.Show(tally.Frame(story))
//	at the end:   view.Finish(tally.Result(badPlanted))
//
// A [Tally] turns what happened into a [Frame]; a [View] turns frames into characters and keeps no clock of its own, so that
// screens can be tested as text.
package demo
