// Package models runs trained models: it turns events into states and queries, and queries into items.
//
// # The idea
//
// A recommender that reads a user's whole history at every event gets slower as people use it. The models here are recurrences:
// what they know of a user is a state of fixed size, and an event moves it on,
//
//	(state, item, event type, seconds since the event before) -> (state', one query vector for each task)
//
// The items a user is likely to want next are those whose vectors have the largest product with the query. So serving an event is
// two calls, whatever the length of the history:
//
//	b.Advance(ctx, steps)                  // all users of a micro-batch by one event each
//	hits, err := x.Search(ctx, queries, n) // the n best items of the catalogue for each of them
//
// # A bundle
//
// The trainer (models/training, Python) writes a folder, a bundle; docs/bundle.md says what each file holds. OpenBundle reads names,
// widths and shapes from it, so a new architecture needs no Go. It believes nothing: every file is held to its SHA-256, every graph
// to the shapes of the manifest, every number to being finite, and the trainer's own sequences are replayed step by step and held to
// the vectors of its full forward pass. What does not fit is refused with the file and the field; a bundle that is open goes on
// serving.
//
// The first 8 bytes of a bundle's fingerprint stamp the states that it computed: states of another bundle mean nothing to it.
//
// # The same bits
//
// freshet promises that a stored state equals the fold of the stored window, bit for bit, and repairs by folding again. So a row's
// result must not depend on who shared the batch. Matrix kernels do not promise that: opening a bundle compares batches of many
// sizes, in order and shuffled, and pads them where the kernels differ (padding.go); Verify compares again, with two threads too.
// For the same reason texts are encoded, and item vectors computed from them, one in a run on a CPU. CUDA computes within the
// tolerance of the parity sequences, without TF32; profiles note when more than one kind of device touched them.
//
// # Items
//
// An item has one of three vectors. Items that training saw have a row of the bundle's matrix (freshet.Trained). Items that the
// catalogue learned of since have what the bundle's tower makes of their text (freshet.Tower):
//
//	texts, err := encoder.Encode(ctx, []string{item.Text()})
//	vectors, err := b.ItemVectors(ctx, texts)
//	err = x.Upsert(item.ItemID, vectors[0], 0)
//	x.SetRecommendable(item.ItemID, item.Recommendable(now))
//
// Anything else is the unknown item, row 0 (freshet.Unknown). Index.Vector answers which of the three an event is folded with.
//
// An Index is exact and live. A search reads one snapshot, takes no lock, and waits for no writer: a matrix inside an ONNX session
// scores nearly everything, and what came since that session was opened is scored beside it until the matrix has been rewritten
// and swapped in the background.
//
// # Devices and threads
//
// A Runtime is the ONNX Runtime library and the device it found: device auto runs on CUDA where a probe graph computes there, else
// on the CPU, and logs which in one line. Sessions have one thread by default and never spin: concurrent callers give the
// parallelism, and a thread that waits busily would take a core from them. One thread in each of two goroutines needs less processor
// time for a step than two threads in one.
//
// # Where things are
//
//	runtime.go session.go       the library, devices, tensors over Go slices; the only file that knows onnxruntime_go is session.go
//	manifest.go bundle.go       opening and judging a bundle
//	graph.go                    what freshet reads and rewrites of an ONNX file
//	stepper.go padding.go       Advance, and which batches have the same bits
//	parity.go verify.go         the trainer's sequences; `freshet bundle verify`
//	index.go generation.go      the live index and its matrix
//	search.go table.go          what readers run: top-K, lookup by id
//	text.go normalise.go        text to token ids to vectors; the only file that knows sugarme/tokenizer is text.go
//	tower.go                    text vectors to item vectors
package models
