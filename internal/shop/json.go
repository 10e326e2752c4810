package shop

import (
	"strconv"
	"time"

	"freshet"
)

// AppendEvent appends the event as producers write it (docs/contracts.md): item_id for one item without quantity, items otherwise.
func AppendEvent(b []byte, e *freshet.Event) []byte {
	b = appendText(append(b, '{'), `"event_id":`, e.ID)
	b = appendText(b, `,"type":`, e.Type)
	b = appendText(b, `,"user_id":`, e.UserID)
	if len(e.Items) == 1 && e.Items[0].Quantity == 0 {
		b = appendText(b, `,"item_id":`, e.Items[0].ItemID)
	} else {
		b = appendItems(b, e.Items)
	}
	b = appendText(b, `,"timestamp":`, time.UnixMilli(e.Time).UTC().Format("2006-01-02T15:04:05.000Z"))
	b = appendText(b, `,"session_id":`, e.SessionID)
	b = appendText(b, `,"surface":`, e.Surface)
	if e.Value != nil {
		b = append(b, `,"value":`...)
		b = strconv.AppendFloat(b, *e.Value, 'f', 2, 64)
	}
	if e.Context != nil {
		b = append(append(b, `,"context":`...), e.Context...)
	}
	return append(b, '}')
}

func appendItems(b []byte, items []freshet.EventItem) []byte {
	b = append(b, `,"items":[`...)
	for i := range items {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendText(append(b, '{'), `"item_id":`, items[i].ItemID)
		if items[i].Quantity > 0 {
			b = strconv.AppendFloat(append(b, `,"quantity":`...), items[i].Quantity, 'f', -1, 64)
			b = strconv.AppendFloat(append(b, `,"price":`...), items[i].Price, 'f', 2, 64)
		}
		b = append(b, '}')
	}
	return append(b, ']')
}

func appendText(b []byte, name, value string) []byte {
	return freshet.AppendJSONString(append(b, name...), value)
}
