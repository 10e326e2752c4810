// Package dataset turns files into streams of [freshet.Event] and [freshet.Item].
//
// People keep their history in many shapes: the public research sets each have their own, shops export csv or parquet. This
// package tells the shape by looking at the content, never at the name, and reads it as a stream, so that a file larger than
// memory can be imported. Plain, gzip and zstandard files are all read the same way.
//
//	r, err := dataset.OpenEvents("ratings.csv.zst", dataset.Options{})
//	for e, err := range r.All() { ... }
//
// What is known of events:
//
//	RecBole .inter         user_id:token  item_id:token  rating:float  timestamp:float     (typed header, tabs)
//	tables with a header   user,item,timestamp[,type][,value][,event_id]                   (csv, tsv, ; or |, parquet; many names)
//	JSON lines             freshet's own events, structured CloudEvents, flat objects with the columns above, OTTO sessions
//	MovieLens ratings      user::item::rating::unix seconds
//	sequences              user<TAB>item item ...  or  user item item ...                  (a user a line, no times)
//	histories              a csv with history_item_id and item_id                          (each user's longest history + next item)
//
// and of items: RecBole .item, tables with a header, JSON lines (freshet's items), one JSON object of id -> item, MovieLens
// movies.dat (id::Title (year)::Genre|Genre, latin-1) and lines of `id text`.
//
// A row that cannot be read is reported with file, line, field and reason, counted and left out; with Options.Strict it ends the
// reading. Files without times keep their order: see [EventReader.Order].
package dataset
