package freshet

// LiveLane is the name of the lane that every deployment begins with.
const LiveLane = "live"

// Lane is one row of the table of lanes: what its workers must agree on.
type Lane struct {
	Name        string  `json:"-"`
	Fingerprint string  `json:"fingerprint"`        // of the bundle
	Bundle      string  `json:"bundle,omitempty"`   // folder that workers find it in; empty = their model.bundle
	Settings    string  `json:"settings,omitempty"` // configuration of its own, as YAML, over the worker's
	Group       string  `json:"group,omitempty"`    // consumer group; empty = after the lane's name
	Share       float64 `json:"share"`              // of the users, 0..1, as the owners say it
	CV          uint64  `json:"cv"`                 // table version at which it last came to own users; 0 = it never did
	Since       uint64  `json:"since,omitempty"`    // table version at which it was added
	Seed        string  `json:"seed,omitempty"`     // lane whose profiles it begins with; empty = it reads them from the log
	Rate        int     `json:"rate,omitempty"`     // events per second and worker while it catches up; 0 = what live traffic leaves
	Caught      bool    `json:"caught,omitempty"`   // it has caught up
	Dropping    bool    `json:"dropping,omitempty"` // its keys are being deleted; no worker runs it
}

// LaneTable is freshet:lanes as it was read. Version counts its changes; 0 = there is none.
type LaneTable struct {
	Version uint64
	Live    string // the lane of everybody who was not given to another; it alone writes what is not one user's
	Lanes   map[string]Lane
	Owners  []LaneOwner // which lane owns which users: runs of LaneSlots slots, in order
	Sweep   uint64      // users who changed owner at this version or later may still have their former owner's list; 0 = none
}

// LaneSlots is how finely users are shared out: a hundredth of a percent.
const LaneSlots = 10_000

// LaneOwner is a run of slots with one owner.
type LaneOwner struct {
	Slots int    `json:"n"`
	Lane  string `json:"lane"`
	CV    uint64 `json:"cv"`            // table version at which the lane came to own them
	Was   string `json:"was,omitempty"` // their owner before
}

// LaneSlot is the slot of a user: a stable hash, independent of the log's partitions.
func LaneSlot(user string) int {
	h := HashID(user) // FNV-1a; its bits are mixed once more (MurmurHash3's finaliser), since short ids differ in few of them
	h = (h ^ h>>33) * 0xff51afd7ed558ccd
	h = (h ^ h>>33) * 0xc4ceb9fe1a85ec53
	return int((h ^ h>>33) % LaneSlots)
}

// OwnerOf gives the run that a user belongs to.
func (t *LaneTable) OwnerOf(user string) LaneOwner {
	if len(t.Owners) == 0 {
		return LaneOwner{Slots: LaneSlots, Lane: t.Live, CV: max(t.Lanes[t.Live].CV, 1)}
	}
	slot := LaneSlot(user)
	for _, o := range t.Owners {
		if slot -= o.Slots; slot < 0 {
			return o
		}
	}
	return t.Owners[len(t.Owners)-1]
}

// Place says where a lane's lists of a user go, at one version of the table.
func (t *LaneTable) Place(lane, user string) (place Place, cv uint64) {
	switch o := t.OwnerOf(user); {
	case o.Lane != lane:
		return PlaceOwn, 0
	case len(t.Lanes) > 1: // somebody may take over: what this lane wrote must not be lost
		return PlaceBoth, o.CV
	default:
		return PlacePublic, o.CV
	}
}

// Clone copies the table.
func (t *LaneTable) Clone() *LaneTable {
	out := *t
	out.Lanes = make(map[string]Lane, len(t.Lanes))
	for name, l := range t.Lanes {
		out.Lanes[name] = l
	}
	out.Owners = append([]LaneOwner(nil), t.Owners...)
	return &out
}

// Place says where lists are stored.
type Place uint8

// The places. The zero value leaves it to the store's configuration.
const (
	PlaceConfigured Place = iota
	PlacePublic           // the public keys, that frontends read
	PlaceOwn              // the lane's own
	PlaceBoth             // both, with the same bytes; a read takes the public one
)

// Record is one list to be stored.
type Record struct {
	Surface string
	Value   []byte // nil deletes the stored list
}

// Update is what one user's batch changed, to be saved as one: the profile, and every list computed from it.
type Update struct {
	UserID  string
	Base    Version // of the bytes that it was computed from; "" = nothing was stored
	Profile []byte
	Records []Record
	Place   Place  // of the records
	CV      uint64 // of the owning lane, with a Place that is public; decides between deletions
}

// SaveResult says what a store made of an update.
type SaveResult uint8

// The results. Only Saved and Outranked change the store.
const (
	Saved     SaveResult = iota + 1
	Newer                // the store holds a later revision: load again, apply what it does not cover, save again
	Lost                 // the store holds less than the update was computed from: it lost data
	Retry                // the store did not answer or refused for a passing reason; what it holds now is unknown
	Outranked            // saved, but a public record of a higher (cv, rev) stands: the user has another owner, who publishes
)

func (r SaveResult) String() string {
	return [...]string{Saved: "saved", Newer: "newer", Lost: "lost", Retry: "retry", Outranked: "outranked"}[r]
}
