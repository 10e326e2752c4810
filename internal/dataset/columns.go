package dataset

import "strings"

// The names under which files keep what an event or an item is made of, the first ones preferred. The trainer
// (models/training/data.py) reads the same names, so that a bundle and its evaluation see the same events.
var (
	userNames      = []string{"user_id", "user", "userid", "sessionid", "session_id", "session", "visitorid", "uid"}
	itemNames      = []string{"item_id", "item", "itemid", "movie_id", "movieid", "product_id", "aid", "iid", "asin"}
	timeNames      = []string{"timestamp", "time", "ts", "date", "datetime"}
	typeNames      = []string{"type", "event", "event_type", "action"}
	valueNames     = []string{"value", "rating", "score"}
	eventIDNames   = []string{"event_id", "eventid"}
	sessionNames   = []string{"session_id", "sessionid", "session"}
	surfaceNames   = []string{"surface"}
	recIDNames     = []string{"rec_id"}
	targetNames    = []string{"target_event_id"}
	mergeNames     = []string{"merge_into"}
	titleNames     = []string{"title", "movie_title", "name", "product_name", "product_title", "item_title"}
	textNames      = []string{"description", "text"}
	categoryNames  = []string{"categories", "category", "genres", "genre", "class", "tags"}
	brandNames     = []string{"brand", "manufacturer"}
	domainNames    = []string{"domain"}
	priceNames     = []string{"price"}
	currencyNames  = []string{"currency"}
	availableNames = []string{"available"}
	publishedNames = []string{"published_at"}
	expiresNames   = []string{"expires_at"}
)

// typeAliases are names of event types that public files use, and the names that freshet has for them.
var typeAliases = map[string]string{
	"clicks": "click", "carts": "cart", "orders": "purchase", "order": "purchase", "buy": "purchase", "addtocart": "cart",
	"add_to_cart": "cart", "transaction": "purchase", "pv": "view", "fav": "like",
}

// find gives the index of the first wanted name among names, upper and lower case alike; -1 = none.
func find(names, wanted []string) int {
	for _, w := range wanted {
		for i, n := range names {
			if strings.EqualFold(n, w) {
				return i
			}
		}
	}
	return -1
}
