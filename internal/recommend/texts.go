package recommend

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"freshet"
)

// Texts turn reasons into short sentences. A text belongs to a source and may offer several wordings, "|" between them: the first
// whose {names} are all known is taken.
type Texts struct {
	wordings map[string][]string
	verbs    map[string]string
}

// textNames are what a text may speak of: the item of the history and what the user did with it, and fields of the recommended item.
var textNames = []string{"because", "did", "title", "domain", "brand", "category"}

// DefaultTexts are the wordings of the sources there are.
func DefaultTexts() map[string]string {
	return map[string]string{
		"sequence": "because you {did} {because}|from what you did lately",
		"covisit":  "often chosen after {because}|often chosen after what you saw",
		"content":  "similar to {because}|similar to what you saw",
		"popular":  "popular in {domain}|popular now",
		"trending": "trending in {domain}|trending now",
		"new":      "new in {domain}|new",
		"owned":    "you bought it before",
		"recent":   "you {did} it lately",
		"pinned":   "our choice",
	}
}

// DefaultVerbs say in the past tense what a type of event is; a type without one is "met".
func DefaultVerbs() map[string]string {
	return map[string]string{"view": "viewed", "click": "clicked", "cart": "put in your cart", "purchase": "bought", "like": "liked", "play": "played", "rating": "rated"}
}

// NewTexts checks wordings by source and verbs by event type.
func NewTexts(texts, verbs map[string]string) (*Texts, error) {
	t := &Texts{wordings: map[string][]string{}, verbs: verbs}
	for _, source := range slices.Sorted(maps.Keys(texts)) {
		for _, wording := range strings.Split(texts[source], "|") {
			for rest := wording; ; {
				_, after, found := strings.Cut(rest, "{")
				if !found {
					break
				}
				name, end, closed := strings.Cut(after, "}")
				if !closed || !slices.Contains(textNames, name) {
					return nil, fmt.Errorf("reasons.texts.%s: %q in %q is not one of {%s}", source, "{"+name, wording, strings.Join(textNames, "}, {"))
				}
				rest = end
			}
			t.wordings[source] = append(t.wordings[source], wording)
		}
	}
	return t, nil
}

// Text words one reason; "" = no text fits. did is the type of what the user did with the item of his history, titled because; item is
// the recommended one, nil when the catalogue does not know it. A source without a text has that of the part of its name before "-".
func (t *Texts) Text(source, because, did string, item *freshet.Item) string {
	wordings, ok := t.wordings[source]
	if !ok {
		family, _, _ := strings.Cut(source, "-")
		wordings = t.wordings[family]
	}
	known := map[string]string{"because": because}
	if because != "" {
		if known["did"] = t.verbs[did]; known["did"] == "" {
			known["did"] = "met"
		}
	}
	if item != nil {
		known["title"], known["domain"], known["brand"] = item.Title, item.Domain, item.Brand
		if len(item.Categories) > 0 {
			known["category"] = item.Categories[0]
		}
	}
	for _, w := range wordings {
		if text, ok := fillText(w, known); ok {
			return text
		}
	}
	return ""
}

func fillText(wording string, known map[string]string) (string, bool) {
	var b strings.Builder
	for {
		before, after, found := strings.Cut(wording, "{")
		b.WriteString(before)
		if !found {
			return b.String(), true
		}
		name, rest, _ := strings.Cut(after, "}")
		if known[name] == "" {
			return "", false
		}
		b.WriteString(known[name])
		wording = rest
	}
}
