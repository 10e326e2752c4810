package stream

import "freshet"

// Record is one Kafka record as it lies in the log.
type Record struct {
	Key     []byte // nil = null
	Value   []byte // nil = null
	Headers []Header
	Time    int64 // Unix milliseconds; when written, 0 = now

	// Where a record that was read comes from.
	Topic     string
	Partition int32
	Offset    int64
}

// Header is one header of a record. Names may repeat.
type Header struct {
	Name  string
	Value []byte
}

// Header finds the value of the last header of that name.
func (r *Record) Header(name string) ([]byte, bool) {
	for i := len(r.Headers) - 1; i >= 0; i-- {
		if r.Headers[i].Name == name {
			return r.Headers[i].Value, true
		}
	}
	return nil, false
}

func (r *Record) bytes() int {
	n := len(r.Key) + len(r.Value)
	for _, h := range r.Headers {
		n += len(h.Name) + len(h.Value)
	}
	return n
}

func (r *Record) position(incarnation int32) freshet.Position {
	return freshet.Position{Source: freshet.Source{Topic: r.Topic, Incarnation: incarnation, Partition: r.Partition}, Offset: r.Offset}
}
