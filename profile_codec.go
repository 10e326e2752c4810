package freshet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
)

// A profile as bytes. All integers are varints unless said otherwise.
//
//	0       format version (1)
//	1..8    rev, big-endian, so that a script compares two revisions as strings
//	9..12   CRC-32C of everything else, big-endian
//	13      flags
//	14..21  fingerprint, little-endian
//	...     erased_at, checkpoint time, state, checkpoint
//	...     sources, positions, type names, common prefix of the window's item ids, window, recent, purchases, dismissals
//
// The bytes 1..12 are the profile's version: what compare-and-set compares. A window entry of an 8-digit item takes 20 bytes.
const (
	codecVersion  = 1
	versionOffset = 1
	versionBytes  = 12
	headerBytes   = versionOffset + versionBytes
	maxTypes      = 31  // distinct event types in one window: 5 bits
	maxDecoded    = 256 // entries, sources, strings: no valid profile has more of one kind
	maxState      = 1 << 16
)

const (
	flagHalf = 1 << iota
	flagMixed
	flagState
	flagCheckpoint
	flagsKnown = 1<<iota - 1
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// ErrCorrupt is returned (wrapped) for bytes that are no profile: damaged, cut short, or of a format this build does not know.
var ErrCorrupt = errors.New("corrupt profile")

// Version identifies the stored bytes that an update was computed from. The empty string means that nothing was stored.
type Version string

// VersionOf reads the version of encoded bytes; "" for none.
func VersionOf(b []byte) Version {
	if len(b) < headerBytes {
		return ""
	}
	return Version(b[versionOffset:headerBytes])
}

// Rev is the revision a version stands for; 0 for none.
func (v Version) Rev() uint64 {
	if len(v) < 8 {
		return 0
	}
	return binary.BigEndian.Uint64([]byte(v[:8]))
}

// AppendBinary appends the profile's bytes. The plan must be carried out first: what is owed is not stored.
func (p *Profile) AppendBinary(dst []byte) ([]byte, error) {
	if len(p.leaving) > 0 || (p.covered != len(p.Window) && p.State != nil) {
		return dst, fmt.Errorf("encode profile: %d steps are still owed", len(p.leaving)+len(p.Window)-p.covered)
	}
	start := len(dst)
	dst = append(dst, codecVersion)
	dst = binary.BigEndian.AppendUint64(dst, p.Rev)
	dst = append(dst, 0, 0, 0, 0)
	dst = append(dst, p.flags())
	dst = binary.LittleEndian.AppendUint64(dst, p.Fingerprint)
	dst = binary.AppendVarint(dst, p.ErasedAt)
	dst = binary.AppendVarint(dst, p.CheckpointTime)
	dst = binary.AppendUvarint(dst, uint64(max(len(p.State), len(p.Checkpoint))))
	dst = appendState(dst, p.State, p.Half)
	dst = appendState(dst, p.Checkpoint, p.Half)
	sources := p.sources()
	dst = appendSources(dst, sources)
	dst = append(dst, byte(len(p.Positions)))
	for _, at := range p.Positions {
		dst = append(dst, byte(indexOf(sources, at.Source)))
		dst = binary.AppendVarint(dst, at.Offset)
	}
	dst, err := p.appendWindow(dst, sources)
	if err != nil {
		return dst[:start], err
	}
	dst = binary.AppendUvarint(dst, uint64(len(p.Recent)))
	for _, h := range p.Recent {
		dst = binary.LittleEndian.AppendUint64(dst, h)
	}
	dst = appendDated(dst, p.Owned)
	dst = appendDated(dst, p.Dismissed)
	binary.BigEndian.PutUint32(dst[start+9:], checksum(dst[start:]))
	return dst, nil
}

// checksum covers all bytes but its own four.
func checksum(b []byte) uint32 {
	return crc32.Update(crc32.Checksum(b[:9], castagnoli), castagnoli, b[headerBytes:])
}

func (p *Profile) flags() byte {
	var f byte
	if p.Half {
		f |= flagHalf
	}
	if p.Mixed {
		f |= flagMixed
	}
	if p.State != nil {
		f |= flagState
	}
	if p.Checkpoint != nil {
		f |= flagCheckpoint
	}
	return f
}

func appendState(dst []byte, s []float32, half bool) []byte {
	for _, v := range s {
		if half {
			dst = binary.LittleEndian.AppendUint16(dst, HalfBits(v))
		} else {
			dst = binary.LittleEndian.AppendUint32(dst, math.Float32bits(v))
		}
	}
	return dst
}

// sources lists every source that positions or entries refer to, in order of first use.
func (p *Profile) sources() []Source {
	list := make([]Source, 0, MaxPositions)
	for i := range p.Positions {
		if indexOf(list, p.Positions[i].Source) < 0 {
			list = append(list, p.Positions[i].Source)
		}
	}
	for i := range p.Window {
		if indexOf(list, p.Window[i].Position.Source) < 0 {
			list = append(list, p.Window[i].Position.Source)
		}
	}
	return list
}

func indexOf[T comparable](list []T, x T) int {
	for i := range list {
		if list[i] == x {
			return i
		}
	}
	return -1
}

func appendSources(dst []byte, list []Source) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(list)))
	for _, s := range list {
		dst = appendString(dst, s.Topic)
		dst = binary.AppendVarint(dst, int64(s.Incarnation))
		dst = binary.AppendVarint(dst, int64(s.Partition))
	}
	return dst
}

func appendString(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

func appendDated(dst []byte, list []Dated) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(list)))
	for _, d := range list {
		dst = appendString(dst, d.ItemID)
		dst = binary.AppendVarint(dst, d.Time)
	}
	return dst
}

// An entry's head byte: 5 bits of type, 2 of vector kind, 1 "the same event as the entry before".
const (
	entryTypeBits  = 5
	entryKindShift = entryTypeBits
	entrySameEvent = 1 << 7
)

// appendWindow writes the entries, each as the difference to the one before.
func (p *Profile) appendWindow(dst []byte, sources []Source) ([]byte, error) {
	types := make([]string, 0, 4)
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
	var last Entry
	for i := range p.Window {
		e := &p.Window[i]
		head := byte(indexOf(types, e.Type)) | byte(e.Vector)<<entryKindShift
		same := i > 0 && e.Event == last.Event && e.Time == last.Time && e.Position == last.Position && e.Index == last.Index+1
		if same {
			head |= entrySameEvent
		}
		dst = append(dst, head)
		dst = appendItemID(dst, e.ItemID[len(prefix):])
		if !same {
			dst = binary.AppendVarint(dst, e.Time-last.Time)
			if len(sources) > 1 {
				dst = append(dst, byte(indexOf(sources, e.Position.Source)))
			}
			dst = appendPlace(dst, e.Position.Offset-last.Position.Offset, e.Index)
			dst = binary.LittleEndian.AppendUint64(dst, e.Event)
		}
		last = *e
	}
	return dst, nil
}

// appendPlace writes the offset's difference with one bit that says whether a place within a multi-item event follows.
func appendPlace(dst []byte, offset int64, index uint8) []byte {
	if index == 0 {
		return binary.AppendVarint(dst, offset<<1)
	}
	return append(binary.AppendVarint(dst, offset<<1|1), index)
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

// What stands before an item id without its prefix: its length, or idDigits + the number of digits where it is a number that
// fits 63 bits (shops number their items: 8 digits take 4 bytes).
const (
	idDigits  = MaxItemID
	maxDigits = 18
)

func appendItemID(dst []byte, id string) []byte {
	if n, ok := digits(id); ok {
		return binary.AppendUvarint(append(dst, byte(idDigits+len(id))), n)
	}
	return append(append(dst, byte(len(id))), id...)
}

func digits(id string) (uint64, bool) {
	if len(id) < 3 || len(id) > maxDigits {
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

// DecodeProfile reads what AppendBinary wrote. A failure wraps ErrCorrupt and says where the bytes stop making sense.
func DecodeProfile(user string, b []byte) (*Profile, error) {
	switch {
	case len(b) < headerBytes+1:
		return nil, fmt.Errorf("%w: %d bytes, shorter than a header", ErrCorrupt, len(b))
	case b[0] != codecVersion:
		return nil, fmt.Errorf("%w: format version %d, this build reads %d", ErrCorrupt, b[0], codecVersion)
	case binary.BigEndian.Uint32(b[9:]) != checksum(b):
		return nil, fmt.Errorf("%w: checksum %08x, stored %08x", ErrCorrupt, checksum(b), binary.BigEndian.Uint32(b[9:]))
	case b[headerBytes]&^flagsKnown != 0:
		return nil, fmt.Errorf("%w: unknown flags %08b", ErrCorrupt, b[headerBytes])
	}
	flags := b[headerBytes]
	p := &Profile{UserID: user, Rev: binary.BigEndian.Uint64(b[1:]), Half: flags&flagHalf != 0, Mixed: flags&flagMixed != 0}
	r := &reader{b: b[headerBytes+1:]}
	p.Fingerprint = r.uint64()
	p.ErasedAt = r.varint()
	p.CheckpointTime = r.varint()
	p.readStates(r, flags)
	sources := p.readPositions(r)
	p.readWindow(r, sources)
	for n := r.count(maxDecoded); n > 0 && r.err == nil; n-- {
		p.Recent = append(p.Recent, r.uint64())
	}
	p.Owned = r.dated()
	p.Dismissed = r.dated()
	if r.err == nil && len(r.b) > 0 {
		r.fail("%d bytes too many", len(r.b))
	}
	if r.err != nil {
		return nil, r.err
	}
	p.covered = len(p.Window)
	return p, nil
}

func (p *Profile) readStates(r *reader, flags byte) {
	n := r.count(maxState)
	if flags&flagState != 0 {
		p.State = r.state(n, p.Half)
	}
	if flags&flagCheckpoint != 0 {
		p.Checkpoint = r.state(n, p.Half)
	}
}

func (p *Profile) readPositions(r *reader) []Source {
	var sources []Source
	for n := r.count(maxDecoded); n > 0 && r.err == nil; n-- {
		sources = append(sources, Source{Topic: r.string(), Incarnation: int32(r.varint()), Partition: int32(r.varint())})
	}
	for n := int(r.byte()); n > 0 && r.err == nil; n-- {
		p.Positions = append(p.Positions, Position{Source: r.source(sources, r.byte()), Offset: r.varint()})
	}
	return sources
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
	p.Window = make([]Entry, n)
	// All ids share one string: a profile is decoded for every event of a user who is not held in memory.
	ids, ends := make([]byte, 0, n*(len(prefix)+12)), make([]int, n)
	var last Entry
	for i := range p.Window {
		ids = r.entry(&p.Window[i], &last, types, sources, append(ids, prefix...))
		if r.err != nil {
			p.Window = nil
			return
		}
		last, ends[i] = p.Window[i], len(ids)
	}
	all, start := string(ids), 0
	for i, end := range ends {
		p.Window[i].ItemID, start = all[start:end], end
	}
}

// reader walks over bytes and keeps the first thing that was wrong with them.
type reader struct {
	b   []byte
	err error
}

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: %s", ErrCorrupt, fmt.Sprintf(format, args...))
	}
	r.b = nil
}

func (r *reader) take(n int) []byte {
	if n < 0 || n > len(r.b) {
		r.fail("cut short: %d bytes wanted, %d left", n, len(r.b))
		return nil
	}
	head := r.b[:n]
	r.b = r.b[n:]
	return head
}

func (r *reader) byte() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) uint64() uint64 {
	if b := r.take(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.fail("bad integer")
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) varint() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.fail("bad integer")
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) count(most int) int {
	n := r.uvarint()
	if n > uint64(most) {
		r.fail("count %d, at most %d", n, most)
		return 0
	}
	return int(n)
}

func (r *reader) string() string { return string(r.take(r.count(MaxUserID))) }

func (r *reader) state(n int, half bool) []float32 {
	size := 4
	if half {
		size = 2
	}
	raw := r.take(n * size)
	if raw == nil && n > 0 {
		return nil
	}
	s := make([]float32, n)
	for i := range s {
		if half {
			s[i] = HalfFloat(binary.LittleEndian.Uint16(raw[2*i:]))
		} else {
			s[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
		}
	}
	return s
}

func (r *reader) source(list []Source, at byte) Source {
	if int(at) >= len(list) {
		r.fail("source %d of %d", at, len(list))
		return Source{}
	}
	return list[at]
}

// entry reads one entry but for its item id, which it appends to ids.
func (r *reader) entry(e, last *Entry, types []string, sources []Source, ids []byte) []byte {
	head := r.byte()
	kind := VectorKind(head >> entryKindShift & 3)
	t := int(head & (1<<entryTypeBits - 1))
	if r.err == nil && (t >= len(types) || kind > Unknown) {
		r.fail("entry head %08b with %d types", head, len(types))
	}
	if r.err != nil {
		return ids
	}
	e.Type, e.Vector = types[t], kind
	ids = r.itemID(ids)
	if head&entrySameEvent != 0 {
		e.Time, e.Position, e.Event, e.Index = last.Time, last.Position, last.Event, last.Index+1
		return ids
	}
	e.Time = last.Time + r.varint()
	at := byte(0)
	if len(sources) != 1 {
		at = r.byte()
	}
	e.Position.Source = r.source(sources, at)
	place := r.varint()
	e.Position.Offset = last.Position.Offset + place>>1
	if place&1 != 0 {
		e.Index = r.byte()
	}
	e.Event = r.uint64()
	return ids
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
	v := r.uvarint()
	var digits [maxDigits]byte
	for i := n - 1; i >= 0; i-- {
		digits[i] = byte('0' + v%10)
		v /= 10
	}
	if v != 0 {
		r.fail("item id of more than the %d digits that were said", n)
	}
	return append(ids, digits[:n]...)
}

func (r *reader) dated() []Dated {
	var list []Dated
	for n := r.count(maxDecoded); n > 0 && r.err == nil; n-- {
		list = append(list, Dated{ItemID: r.string(), Time: r.varint()})
	}
	return list
}
