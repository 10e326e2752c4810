package freshet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"slices"
)

// A profile as bytes. All integers are varints unless said otherwise.
//
//	0       format version (1)
//	1..8    rev, big-endian, so that a script compares two revisions as strings
//	9..12   CRC-32C of everything else, big-endian
//	13      flags
//	14..21  fingerprint, little-endian
//	...     erased_at, checkpoint time, state, checkpoint
//	...     sources, positions, window (profile_window.go), recent, purchases, dismissals, alias (if its flag is set)
//
// The bytes 1..12 are the profile's version: what compare-and-set compares.
const (
	codecVersion  = 1
	versionOffset = 1
	versionBytes  = 12
	headerBytes   = versionOffset + versionBytes
	maxDecoded    = 256 // entries, sources, strings: no valid profile has more of one kind
	maxState      = 1 << 16
)

const (
	flagHalf = 1 << iota
	flagMixed
	flagState
	flagCheckpoint
	flagAlias
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
	if p.Alias != "" {
		dst = appendString(dst, p.Alias)
	}
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
	if p.Alias != "" {
		f |= flagAlias
	}
	return f
}

func appendState(dst []byte, s []float32, half bool) []byte {
	size := 4
	if half {
		size = 2
	}
	at := len(dst)
	dst = slices.Grow(dst, size*len(s))[:at+size*len(s)]
	to := dst[at:]
	for i, v := range s {
		if half {
			binary.LittleEndian.PutUint16(to[2*i:], HalfBits(v))
		} else {
			binary.LittleEndian.PutUint32(to[4*i:], math.Float32bits(v))
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
	if flags&flagAlias != 0 {
		if p.Alias = r.string(); p.Alias == "" {
			r.fail("an empty alias")
		}
	}
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

func (r *reader) dated() []Dated {
	var list []Dated
	for n := r.count(maxDecoded); n > 0 && r.err == nil; n-- {
		list = append(list, Dated{ItemID: r.string(), Time: r.varint()})
	}
	return list
}
