package freshet

import (
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Recommendation is one list for one user and surface: the record that Redis and the output topic carry, version 1.
type Recommendation struct {
	V          int                `json:"v"`
	CV         uint64             `json:"cv"`  // lane table's version at which this lane became the user's owner
	Rev        uint64             `json:"rev"` // profile revision the list was computed from; (cv, rev) orders records of a user
	RecID      string             `json:"rec_id"`
	UserID     string             `json:"user_id"`
	Surface    string             `json:"surface"`
	Lane       string             `json:"lane"`
	Model      string             `json:"model"`
	Arm        string             `json:"arm,omitempty"`        // which weights made the list, where a surface adapts: adapted or control
	Propensity float64            `json:"propensity,omitempty"` // with which probability that arm was drawn
	Items      []RecommendedItem  `json:"items"`
	Event      RecommendationFrom `json:"event"`
	ComputedAt string             `json:"computed_at"` // RFC 3339
}

// RecommendedItem is one place of a list.
type RecommendedItem struct {
	ItemID  string   `json:"item_id"`
	Score   float64  `json:"score"` // likelihood relative to the first place, which has 1
	Reasons []Reason `json:"reasons"`
	Text    string   `json:"text,omitempty"` // the first reason in words, where records carry them
	// Propensity is with which probability the item was drawn for this place, where places are drawn (exploration); 0 = it was not drawn.
	Propensity float64 `json:"propensity,omitempty"`
}

// Reason says how much of an item's score came from one source. The shares of an item sum to 1.
type Reason struct {
	Source  string  `json:"source"`
	Share   float64 `json:"share"`
	Because string  `json:"because,omitempty"` // the item of the user's history that led to it
}

// RecommendationFrom is the event that a list was computed after.
type RecommendationFrom struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Offset    int64  `json:"offset"`
	EventID   string `json:"event_id"`
	Timestamp string `json:"timestamp"`
}

// HomeSurface is the surface whose keys carry no surface name.
const HomeSurface = "home"

// RecID gives the deterministic id of a list: topic-partition-offset[-surface][-lane if not live][-cvN when re-published by a
// promotion; 0 = not].
func RecID(at Position, surface, lane string, promotedAt uint64) string {
	b := make([]byte, 0, 64)
	b = append(b, at.Topic...)
	b = append(b, '-')
	b = strconv.AppendInt(b, int64(at.Partition), 10)
	b = append(b, '-')
	b = strconv.AppendInt(b, at.Offset, 10)
	if surface != HomeSurface {
		b = append(append(b, '-'), surface...)
	}
	if lane != "live" {
		b = append(append(b, '-'), lane...)
	}
	if promotedAt > 0 {
		b = strconv.AppendUint(append(b, "-cv"...), promotedAt, 10)
	}
	return string(b)
}

// LaneOfRecID tells which lane made a list, given the topic of its event and its surface ("" = home); false = the id is none of ours.
func LaneOfRecID(id, topic, surface string) (lane string, ok bool) {
	rest, ok := strings.CutPrefix(id, topic+"-")
	if !ok {
		return "", false
	}
	for _, more := range []bool{true, false} { // partition, offset
		n := 0
		for n < len(rest) && rest[n] >= '0' && rest[n] <= '9' {
			n++
		}
		if n == 0 || more && (n == len(rest) || rest[n] != '-') {
			return "", false
		}
		if rest = rest[n:]; more {
			rest = rest[1:]
		}
	}
	if at := strings.LastIndex(rest, "-cv"); at >= 0 && at+3 < len(rest) && strings.Trim(rest[at+3:], "0123456789") == "" {
		rest = rest[:at]
	}
	if surface != "" && surface != HomeSurface {
		if rest, ok = strings.CutPrefix(rest, "-"+surface); !ok {
			return "", false
		}
	}
	switch {
	case rest == "":
		return LiveLane, true
	case rest[0] == '-' && len(rest) > 1:
		return rest[1:], true
	}
	return "", false
}

// Without takes items off the list and tells whether any stood there. The first of those that stay has the score 1 again. Nothing else
// changes: it is the same list, of the same (cv, rev) and rec_id, that says less.
func (r *Recommendation) Without(gone func(itemID string) bool) bool {
	kept := make([]RecommendedItem, 0, len(r.Items))
	for _, item := range r.Items {
		if !gone(item.ItemID) {
			kept = append(kept, item)
		}
	}
	if len(kept) == len(r.Items) {
		return false
	}
	if len(kept) > 0 && kept[0].Score > 0 {
		top := kept[0].Score
		for i := range kept {
			kept[i].Score /= top
		}
	}
	r.Items = kept
	return true
}

// AppendJSON appends the record's bytes without reflection. It starts with {"v":1,"cv":C,"rev":R, in that order: the save
// script reads these by prefix. Scores carry 3 significant digits, shares 2 decimals; Fit keeps a home record of 20 items below 3 KB.
func (r *Recommendation) AppendJSON(b []byte) []byte {
	b = append(b, `{"v":1,"cv":`...)
	b = strconv.AppendUint(b, r.CV, 10)
	b = append(b, `,"rev":`...)
	b = strconv.AppendUint(b, r.Rev, 10)
	b = appendField(b, `,"rec_id":`, r.RecID)
	b = appendField(b, `,"user_id":`, r.UserID)
	b = appendField(b, `,"surface":`, r.Surface)
	b = appendField(b, `,"lane":`, r.Lane)
	b = appendField(b, `,"model":`, r.Model)
	if r.Arm != "" {
		b = appendField(b, `,"arm":`, r.Arm)
		b = append(b, `,"propensity":`...)
		b = appendNumber(b, r.Propensity, 4)
	}
	b = append(b, `,"items":[`...)
	for i := range r.Items {
		if i > 0 {
			b = append(b, ',')
		}
		b = r.Items[i].appendJSON(b)
	}
	b = append(b, `],"event":{`...)
	b = appendField(b, `"topic":`, r.Event.Topic)
	b = append(b, `,"partition":`...)
	b = strconv.AppendInt(b, int64(r.Event.Partition), 10)
	b = append(b, `,"offset":`...)
	b = strconv.AppendInt(b, r.Event.Offset, 10)
	b = appendField(b, `,"event_id":`, r.Event.EventID)
	b = appendField(b, `,"timestamp":`, r.Event.Timestamp)
	b = append(b, '}')
	b = appendField(b, `,"computed_at":`, r.ComputedAt)
	return append(b, '}')
}

func (i *RecommendedItem) appendJSON(b []byte) []byte {
	b = appendField(b, `{"item_id":`, i.ItemID)
	b = append(b, `,"score":`...)
	b = appendNumber(b, i.Score, 3)
	if i.Propensity > 0 {
		b = append(b, `,"propensity":`...)
		b = appendNumber(b, i.Propensity, 4)
	}
	b = append(b, `,"reasons":[`...)
	for n, r := range i.Reasons {
		if n > 0 {
			b = append(b, ',')
		}
		b = appendField(b, `{"source":`, r.Source)
		b = append(b, `,"share":`...)
		b = appendHundredths(b, r.Share)
		if r.Because != "" {
			b = appendField(b, `,"because":`, r.Because)
		}
		b = append(b, '}')
	}
	b = append(b, ']')
	if i.Text != "" {
		b = appendField(b, `,"text":`, i.Text)
	}
	return append(b, '}')
}

// RecordBudget is how many bytes a record of so many items may have: 3 KB for 20.
func RecordBudget(items int) int { return 512 + 128*items }

// Fit leaves explanations out until the record keeps RecordBudget, from the last place upwards: first texts, then the items of the
// history, then all sources but the strongest, whose share becomes 1. Places and scores stay, so that a record of long ids may be larger.
func (r *Recommendation) Fit(b []byte) []byte {
	over := len(b) - RecordBudget(len(r.Items))
	if over <= 0 {
		return b
	}
	cuts := []func(i *RecommendedItem){
		func(i *RecommendedItem) { i.Text = "" },
		func(i *RecommendedItem) {
			for n := range i.Reasons {
				i.Reasons[n].Because = ""
			}
		},
		func(i *RecommendedItem) {
			if len(i.Reasons) > 1 {
				i.Reasons = i.Reasons[:1]
				i.Reasons[0].Share = 1
			}
		},
	}
	var was, is []byte
	for _, cut := range cuts {
		for n := len(r.Items) - 1; n >= 0 && over > 0; n-- {
			was = r.Items[n].appendJSON(was[:0])
			cut(&r.Items[n])
			is = r.Items[n].appendJSON(is[:0])
			over -= len(was) - len(is)
		}
	}
	return r.AppendJSON(b[:0])
}

// appendNumber writes a finite number with that many significant digits; JSON has no others.
func appendNumber(b []byte, v float64, digits int) []byte {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return append(b, '0')
	}
	return strconv.AppendFloat(b, v, 'g', digits, 64)
}

// appendHundredths writes a share between 0 and 1, to two decimals.
func appendHundredths(b []byte, v float64) []byte {
	n := int(math.Round(v * 100))
	switch {
	case n <= 0:
		return append(b, '0')
	case n >= 100:
		return append(b, '1')
	case n%10 == 0:
		return append(b, '0', '.', byte('0'+n/10))
	}
	return append(b, '0', '.', byte('0'+n/10), byte('0'+n%10))
}

func appendField(b []byte, name, value string) []byte {
	return AppendJSONString(append(b, name...), value)
}

// AppendJSONString appends a JSON string literal. Bytes that are not UTF-8 become U+FFFD.
func AppendJSONString(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' && c < utf8.RuneSelf {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			r, n := utf8.DecodeRuneInString(s[i:])
			if r != utf8.RuneError || n > 1 {
				i += n
				continue
			}
			b = append(append(b, s[start:i]...), "\ufffd"...)
			i++
			start = i
			continue
		}
		b = append(b, s[start:i]...)
		if c == '"' || c == '\\' {
			b = append(b, '\\', c)
		} else {
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
		i++
		start = i
	}
	return append(append(b, s[start:]...), '"')
}

// Publication is a list on its way out: the record's exact bytes, as Redis holds them.
type Publication struct {
	UserID  string
	Surface string
	Record  []byte   // nil publishes a null: the list is gone
	From    Position // the event it was computed after
	// Stored marks a record that an earlier attempt saved and that is published again on redelivery; the stream decides whether
	// that is still needed.
	Stored bool
}
