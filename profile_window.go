package freshet

import (
	"encoding/binary"
	"fmt"
	"math/bits"
)

// The window as bytes: most of a profile that is not state, so it is written by columns, each in the shorter of two forms.
//
//	type names, common prefix of the item ids, number of entries, form
//	item ids   packed: digits, width, then every id as a number of width bits (shops number their items)
//	           plain:  per id its length and bytes, or idDigits + its digits and the number
//	places     packed: widths, time and offset of the first entry, then type, time and offset as differences of so many bits
//	           plain:  per entry a head byte, the time's difference, the source, the offset's difference, the place in the event
//	event ids  8 bytes each, but for an entry that continues the event before
//
// Fifty entries of 8-digit ids, hours and thousands of offsets apart, take about 18 bytes each.
const (
	formPackedIDs = 1 << iota
	formPackedPlaces
	formsKnown = 1<<iota - 1
)

// A plain entry's head byte: 5 bits of type, 2 of vector kind, 1 "the same event as the entry before".
const (
	maxTypes       = 31
	entryTypeBits  = 5
	entryKindShift = entryTypeBits
	entrySameEvent = 1 << 7
)

// What stands before a plain item id: its length, or idDigits + its number of digits.
const (
	idDigits  = MaxItemID
	maxDigits = 18
)

// continues tells whether an entry is the next item of the event before it, so that only its item needs to be written.
func (e *Entry) continues(last *Entry) bool {
	return e.Event == last.Event && e.Time == last.Time && e.Position == last.Position && e.Index == last.Index+1
}

func (p *Profile) appendWindow(dst []byte, sources []Source) ([]byte, error) {
	var types []string
	for i := range p.Window {
		if indexOf(types, p.Window[i].Type) < 0 {
			types = append(types, p.Window[i].Type)
		}
	}
	if len(types) > maxTypes {
		return dst, fmt.Errorf("encode profile: %d event types in one window, at most %d", len(types), maxTypes)
	}
	dst = binary.AppendUvarint(dst, uint64(len(types)))
	for _, t := range types {
		dst = appendString(dst, t)
	}
	prefix := commonPrefix(p.Window)
	dst = appendString(dst, prefix)
	dst = binary.AppendUvarint(dst, uint64(len(p.Window)))
	if len(p.Window) == 0 {
		return dst, nil
	}
	form := len(dst)
	dst = append(dst, 0)
	if packed, ok := appendPackedIDs(dst, p.Window, len(prefix)); ok {
		dst, packed[form] = packed, packed[form]|formPackedIDs
	} else {
		for i := range p.Window {
			dst = appendItemID(dst, p.Window[i].ItemID[len(prefix):])
		}
	}
	if packed, ok := appendPackedPlaces(dst, p.Window, types, len(sources)); ok {
		dst, packed[form] = packed, packed[form]|formPackedPlaces
	} else {
		dst = appendPlaces(dst, p.Window, types, sources)
	}
	var last Entry
	for i := range p.Window {
		e := &p.Window[i]
		if i == 0 || !e.continues(&last) {
			dst = binary.LittleEndian.AppendUint64(dst, e.Event)
		}
		last = *e
	}
	return dst, nil
}

func commonPrefix(window []Entry) string {
	if len(window) == 0 {
		return ""
	}
	prefix := window[0].ItemID
	for i := 1; i < len(window) && prefix != ""; i++ {
		n := 0
		for n < len(prefix) && n < len(window[i].ItemID) && prefix[n] == window[i].ItemID[n] {
			n++
		}
		prefix = prefix[:n]
	}
	return prefix
}

// appendPackedIDs writes the ids as numbers of equal width, if all are digits of one length; what they share stands in the prefix.
func appendPackedIDs(dst []byte, window []Entry, prefix int) ([]byte, bool) {
	length, most := len(window[0].ItemID)-prefix, uint64(0)
	if length == 0 || length > maxDigits {
		return nil, false
	}
	for i := range window {
		n, ok := digits(window[i].ItemID[prefix:])
		if !ok || len(window[i].ItemID)-prefix != length {
			return nil, false
		}
		most = max(most, n)
	}
	width := bits.Len64(most)
	w := bitWriter{dst: append(dst, byte(length), byte(width))}
	for i := range window {
		n, _ := digits(window[i].ItemID[prefix:])
		w.put(n, width)
	}
	return w.end(), true
}

// appendItemID writes one id: a number where it is one of three digits or more, else its bytes.
func appendItemID(dst []byte, id string) []byte {
	if n, ok := digits(id); ok && len(id) >= 3 {
		return binary.AppendUvarint(append(dst, byte(idDigits+len(id))), n)
	}
	return append(append(dst, byte(len(id))), id...)
}

func digits(id string) (uint64, bool) {
	if len(id) == 0 || len(id) > maxDigits {
		return 0, false
	}
	n := uint64(0)
	for i := 0; i < len(id); i++ {
		if id[i] < '0' || id[i] > '9' {
			return 0, false
		}
		n = n*10 + uint64(id[i]-'0')
	}
	return n, true
}

// appendPackedPlaces writes types, times and offsets in columns of bits: for events of one item each, of one source, in order, with
// vectors that training knew, unless one long gap makes all entries pay for its width.
func appendPackedPlaces(dst []byte, window []Entry, types []string, sources int) ([]byte, bool) {
	if sources != 1 {
		return nil, false
	}
	var times, offsets uint64
	plain := 0
	for i := range window {
		e := &window[i]
		if e.Index != 0 || e.Vector != Trained {
			return nil, false
		}
		if i == 0 {
			continue
		}
		t, o := e.Time-window[i-1].Time, e.Position.Offset-window[i-1].Position.Offset
		if t < 0 || o < 0 || e.continues(&window[i-1]) {
			return nil, false
		}
		times, offsets = max(times, uint64(t)), max(offsets, uint64(o))
		plain += 1 + (bits.Len64(uint64(t))+7)/7 + (bits.Len64(uint64(o))+8)/7
	}
	typeWidth, timeWidth, offsetWidth := bits.Len(uint(len(types)-1)), bits.Len64(times), bits.Len64(offsets)
	if (typeWidth+timeWidth+offsetWidth)*(len(window)-1)/8 > plain {
		return nil, false
	}
	dst = append(dst, byte(timeWidth), byte(offsetWidth))
	dst = binary.AppendVarint(dst, window[0].Time)
	dst = binary.AppendVarint(dst, window[0].Position.Offset)
	w := bitWriter{dst: dst}
	for i := range window {
		w.put(uint64(indexOf(types, window[i].Type)), typeWidth)
		if i > 0 {
			w.put(uint64(window[i].Time-window[i-1].Time), timeWidth)
			w.put(uint64(window[i].Position.Offset-window[i-1].Position.Offset), offsetWidth)
		}
	}
	return w.end(), true
}

// appendPlaces writes what an entry is beside its item and event id, each as the difference to the one before.
func appendPlaces(dst []byte, window []Entry, types []string, sources []Source) []byte {
	var last Entry
	for i := range window {
		e := &window[i]
		head := byte(indexOf(types, e.Type)) | byte(e.Vector)<<entryKindShift
		if i > 0 && e.continues(&last) {
			dst = append(dst, head|entrySameEvent)
			last = *e
			continue
		}
		dst = append(dst, head)
		dst = binary.AppendVarint(dst, e.Time-last.Time)
		if len(sources) > 1 {
			dst = append(dst, byte(indexOf(sources, e.Position.Source)))
		}
		// One bit of the offset says whether a place within a multi-item event follows.
		if at := (e.Position.Offset - last.Position.Offset) << 1; e.Index == 0 {
			dst = binary.AppendVarint(dst, at)
		} else {
			dst = append(binary.AppendVarint(dst, at|1), e.Index)
		}
		last = *e
	}
	return dst
}

func (p *Profile) readWindow(r *reader, sources []Source) {
	var types []string
	for n := r.count(maxTypes); n > 0 && r.err == nil; n-- {
		types = append(types, r.string())
	}
	prefix := r.string()
	n := r.count(maxDecoded)
	if n == 0 || r.err != nil {
		return
	}
	form := r.byte()
	if form&^formsKnown != 0 || len(types) == 0 || len(sources) == 0 {
		r.fail("window of form %08b with %d types and %d sources", form, len(types), len(sources))
		return
	}
	window := make([]Entry, n)
	r.itemIDs(window, prefix, form&formPackedIDs != 0)
	if form&formPackedPlaces != 0 {
		r.packedPlaces(window, types, sources)
	} else {
		r.places(window, types, sources)
	}
	for i := range window {
		if i > 0 && window[i].Event == continued {
			window[i].Event = window[i-1].Event
		} else {
			window[i].Event = r.uint64()
		}
	}
	if r.err == nil {
		p.Window = window
	}
}

// continued marks, while a window is read, an entry whose event is that of the entry before.
const continued = 1

// itemIDs reads the ids. All share one string: a profile is decoded for every event of a user who is not held in memory.
func (r *reader) itemIDs(window []Entry, prefix string, packed bool) {
	ids, ends := make([]byte, 0, len(window)*(len(prefix)+12)), make([]int, len(window))
	length, width := 0, 0
	var b bitReader
	if packed {
		length, width = int(r.byte()), int(r.byte())
		if length == 0 || length > maxDigits || width > 63 {
			r.fail("ids of %d digits in %d bits", length, width)
			return
		}
		b = bitReader{b: r.take((len(window)*width + 7) / 8)}
	}
	for i := range window {
		ids = append(ids, prefix...)
		if packed {
			ids = r.digits(ids, b.get(width), length)
		} else {
			ids = r.itemID(ids)
		}
		if r.err != nil {
			return
		}
		ends[i] = len(ids)
	}
	all, start := string(ids), 0
	for i, end := range ends {
		window[i].ItemID, start = all[start:end], end
	}
}

func (r *reader) itemID(ids []byte) []byte {
	n := int(r.byte())
	if n <= MaxItemID {
		return append(ids, r.take(n)...)
	}
	if n -= idDigits; n > maxDigits {
		r.fail("item id of %d digits", n)
		return ids
	}
	return r.digits(ids, r.uvarint(), n)
}

func (r *reader) digits(ids []byte, v uint64, n int) []byte {
	var d [maxDigits]byte
	for i := n - 1; i >= 0; i-- {
		d[i] = byte('0' + v%10)
		v /= 10
	}
	if v != 0 {
		r.fail("item id of more than the %d digits that were said", n)
	}
	return append(ids, d[:n]...)
}

func (r *reader) packedPlaces(window []Entry, types []string, sources []Source) {
	typeWidth, timeWidth, offsetWidth := bits.Len(uint(len(types)-1)), int(r.byte()), int(r.byte())
	if timeWidth > 63 || offsetWidth > 63 {
		r.fail("times of %d bits, offsets of %d", timeWidth, offsetWidth)
		return
	}
	at, offset := r.varint(), r.varint()
	b := bitReader{b: r.take((len(window)*typeWidth + (len(window)-1)*(timeWidth+offsetWidth) + 7) / 8)}
	if r.err != nil {
		return
	}
	for i := range window {
		t := b.get(typeWidth)
		if i > 0 {
			at += int64(b.get(timeWidth))
			offset += int64(b.get(offsetWidth))
		}
		if t >= uint64(len(types)) {
			r.fail("type %d of %d", t, len(types))
			return
		}
		window[i].Type, window[i].Time, window[i].Position = types[t], at, Position{Source: sources[0], Offset: offset}
	}
}

func (r *reader) places(window []Entry, types []string, sources []Source) {
	var last Entry
	for i := range window {
		e := &window[i]
		head := r.byte()
		kind := VectorKind(head >> entryKindShift & 3)
		t := int(head & (1<<entryTypeBits - 1))
		if r.err == nil && (t >= len(types) || kind > Unknown || i == 0 && head&entrySameEvent != 0) {
			r.fail("entry head %08b with %d types", head, len(types))
		}
		if r.err != nil {
			return
		}
		e.Type, e.Vector = types[t], kind
		if head&entrySameEvent != 0 {
			e.Time, e.Position, e.Event, e.Index = last.Time, last.Position, continued, last.Index+1
			last = *e
			continue
		}
		e.Time = last.Time + r.varint()
		at := byte(0)
		if len(sources) > 1 {
			at = r.byte()
		}
		e.Position.Source = r.source(sources, at)
		place := r.varint()
		e.Position.Offset = last.Position.Offset + place>>1
		if place&1 != 0 {
			e.Index = r.byte()
		}
		last = *e
	}
}

// bitWriter appends numbers of any width, lowest bit first.
type bitWriter struct {
	dst []byte
	acc uint64
	n   int // bits waiting in acc, below 8
}

func (w *bitWriter) put(v uint64, width int) {
	for width > 0 {
		take := min(width, 56)
		w.acc |= (v & (1<<take - 1)) << w.n
		w.n += take
		for ; w.n >= 8; w.n -= 8 {
			w.dst = append(w.dst, byte(w.acc))
			w.acc >>= 8
		}
		v >>= take
		width -= take
	}
}

func (w *bitWriter) end() []byte {
	if w.n > 0 {
		w.dst = append(w.dst, byte(w.acc))
	}
	return w.dst
}

// bitReader reads what a bitWriter wrote. Past the end it reads zeros: the caller took as many bytes as it needs.
type bitReader struct {
	b   []byte
	acc uint64
	n   int
}

func (r *bitReader) get(width int) (v uint64) {
	for got := 0; got < width; {
		if r.n == 0 {
			if len(r.b) > 0 {
				r.acc, r.b = uint64(r.b[0]), r.b[1:]
			}
			r.n = 8
		}
		take := min(width-got, r.n)
		v |= (r.acc & (1<<take - 1)) << got
		r.acc >>= take
		r.n -= take
		got += take
	}
	return v
}
