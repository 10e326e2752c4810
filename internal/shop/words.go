package shop

// The word lists. A row is one kind of product; '|' separates alternatives. The order of theme paths and of brands is part of the
// catalogue: changing it changes every item, and the bundle that was trained on them has to be trained again.

// kind is one sort of product: everything that titles, descriptions and prices of its items are composed from.
type kind struct {
	slug     string
	category string // two levels, outermost first
	low      float64
	high     float64
	nouns    string // last part of a title
	traits   string // words before the noun
	points   string // sentences of the description
}

var outdoorKinds = []kind{
	{"hiking-boots", "Footwear|Hiking boots", 89, 289, "Hiking Boot|Trekking Boot|Mid Boot", "Leather|Waterproof|Wide-Fit|Lightweight|Women's|All-Leather", "A rand all the way round keeps scree off the upper.|The lugs bite in mud and let go of it again.|Resoleable, and worth it.|Cushioned at the heel for long descents with a pack."},
	{"hiking-socks", "Footwear|Socks", 9, 29, "Hiking Sock|Crew Sock|Liner Sock", "Merino|Cushioned|Midweight|Two-Pack|Seamless|Knee-High", "Flat seams where boots rub.|Merino on the inside, hard-wearing yarn at heel and toe.|Dries overnight on a tent line."},
	{"daypacks", "Packs|Daypacks", 39, 159, "20 L Daypack|24 L Daypack|28 L Daypack|30 L Daypack", "Ventilated|Roll-Top|Rain-Covered|Back-Length-Adjustable|Slim|Panel-Loading", "A mesh back keeps air between you and the load.|Pockets where your hands already are.|Takes a bladder, poles and a wet jacket."},
	{"trekking-poles", "Hiking gear|Trekking poles", 29, 169, "Trekking Poles|Folding Poles|Walking Poles", "Carbon|Aluminium|Cork-Grip|Three-Section|Anti-Shock|Flick-Lock", "Folds to the length of a forearm.|Cork grips take the shape of your hand.|Saves the knees on the way down."},
	{"rain-jackets", "Clothing|Rain jackets", 79, 399, "Rain Jacket|Shell Jacket|Rain Shell", "Three-Layer|Packable|Women's|Stretch|Pit-Zip|Hooded", "Taped seams and a hood that turns with your head.|Packs into its own pocket.|Breathes on the climb, shuts out the squall at the col."},
	{"trekking-packs", "Packs|Trekking packs", 119, 379, "50 L Trekking Pack|60 L Trekking Pack|65 L Trekking Pack|45 L Pack", "Framed|Ultralight|Load-Lifting|Adjustable|Women's|Top-Loading", "Carries twenty kilos as if it were twelve.|A hip belt that does its work.|The lid comes off for the last day to the summit."},
	{"light-tents", "Tents|Lightweight tents", 199, 799, "1-Person Tent|2-Person Tent|Tunnel Tent 2|Trekking-Pole Tent", "Freestanding|Silnylon|Three-Season|Double-Wall|Storm-Proof|Semi-Free", "Up in four minutes, also in the dark.|Room to sit and wait for the weather.|Pitches inner and fly at once, so the inside stays dry."},
	{"sleeping-bags", "Sleeping|Sleeping bags", 79, 449, "Sleeping Bag 0 °C|Sleeping Bag -5 °C|Quilt 3 °C|Sleeping Bag 5 °C", "Down|Synthetic|Wide|Long|Hooded|Ultralight", "Baffles that keep the down where it belongs.|A collar that closes without fighting back.|Warm when wet, and quick to dry."},
	{"sleeping-mats", "Sleeping|Sleeping mats", 29, 219, "Sleeping Mat|Air Mat|Self-Inflating Mat|Foam Mat", "Insulated|Ultralight|Wide|Quiet|Four-Season|Short", "Ten breaths and it is full.|Quiet enough for light sleepers next to you.|Warm on snow, small in the pack."},
	{"canister-stoves", "Camp kitchen|Stoves", 29, 189, "Canister Stove|Gas Stove|Remote Canister Stove|Stove System", "Piezo|Titanium|Folding|Wind-Proof|Simmering|Compact", "Boils a litre before the tea bag is found.|Simmers, which most small stoves do not.|Stable on stones and tussocks."},
	{"water-filters", "Camp kitchen|Water treatment", 24, 129, "Water Filter|Squeeze Filter|Gravity Filter|Purifier Bottle", "Hollow-Fibre|Fast-Flow|Backflushing|One-Litre|Carbon-Core|Pocket", "Clear water from any tarn.|Backflush it in the field, no tools.|Weighs less than the litre you need not carry."},
	{"alpine-boots", "Footwear|Mountaineering boots", 219, 569, "Mountaineering Boot|Alpine Boot|Ice Boot", "Crampon-Ready|Insulated|Gaitered|Stiff-Soled|Double|Leather", "Takes automatic crampons.|Stiff where you stand on an edge, soft where you walk.|Warm at four thousand metres before sunrise."},
	{"crampons", "Climbing|Crampons", 89, 249, "Crampons|12-Point Crampons|10-Point Crampons", "Steel|Automatic|Strap-On|Hybrid|Aluminium|Monopoint", "Fits in the dark with gloves on.|Anti-balling plates as standard.|Front points that can be sharpened many times."},
	{"ice-axes", "Climbing|Ice axes", 79, 299, "Ice Axe 55 cm|Ice Axe 60 cm|Ice Tool|Touring Axe", "Forged|Curved|Light|Technical|Hot-Forged|Steel-Headed", "A head that sits well in the hand.|Bites in névé and holds in hard ice.|Plunges straight, brakes fast."},
	{"harnesses", "Climbing|Harnesses", 39, 159, "Climbing Harness|Alpine Harness|Sport Harness", "Four-Loop|Padded|Packable|Women's|Fast-Buckle|Adjustable-Leg", "Comfortable at the hanging belay.|Gear loops that stand open.|Steps in over boots and skis."},
	{"ropes", "Climbing|Ropes", 99, 279, "Single Rope 60 m|Single Rope 70 m|Half Rope 60 m|Glacier Rope 30 m", "Dry-Treated|9.5 mm|9.8 mm|Bicolour|8.2 mm|Soft-Catch", "Handles well from the first pitch.|A middle mark that stays.|Sheds water and keeps its suppleness."},
	{"helmets", "Climbing|Helmets", 49, 139, "Climbing Helmet|Mountain Helmet", "Foam|Hybrid|Ventilated|Ultralight|Hard-Shell|Low-Profile", "Forgotten once it is on.|Head torch clips that hold.|Protects at the sides and at the back as well."},
	{"down-jackets", "Clothing|Down jackets", 119, 549, "Down Jacket|Belay Jacket|Down Hoody|Puffer Vest", "800-Fill|Packable|Hydrophobic|Women's|Box-Wall|Baffled", "Goes over everything at the belay.|Lofts again after a week in the pack.|Traceable down, eight hundred fill."},
	{"climbing-shoes", "Climbing|Climbing shoes", 59, 179, "Climbing Shoe|Slipper|Bouldering Shoe|All-Day Climbing Shoe", "Velcro|Lace-Up|Downturned|Flat|Soft|Vegan", "Sensitive on smears, sure on edges.|Stiff enough for long multi-pitch days.|A heel that hooks and stays on."},
	{"quickdraws", "Climbing|Quickdraws", 15, 139, "Quickdraw Set of 6|Quickdraw 12 cm|Quickdraw Set of 10|Alpine Draw 60 cm", "Wiregate|Keylock|Wide-Sling|Light|Solid-Gate|Hybrid", "Clips with a click you can hear.|Keylock nose, so nothing snags.|Wide slings to grab in an emergency."},
	{"chalk-bags", "Climbing|Chalk", 9, 39, "Chalk Bag|Chalk Bucket|Liquid Chalk 250 ml|Chalk Block Set", "Fleece-Lined|Zip-Pocket|Recycled|Magnetic|Stiff-Rim|Fine-Grain", "Opens wide and shuts tight.|A pocket for the key and a plaster.|No cloud, no caking."},
	{"crash-pads", "Climbing|Crash pads", 119, 349, "Crash Pad|Bouldering Mat|Sit-Start Pad", "Folding|Taco|Triple-Foam|Compact|Large|Hinge-Free", "Carries like a pack and lands like a mattress.|Closed-cell top, open-cell heart.|Covers the gaps between boulders."},
	{"training-boards", "Climbing|Training", 19, 189, "Hangboard|Pinch Block|Campus Rungs|Portable Hangboard", "Beech|Wooden|Resin|Doorway|Skin-Friendly|Progressive", "Edges from 35 down to 8 millimetres.|Kind to the skin, hard on excuses.|Hangs in any doorway."},
	{"touring-skis", "Ski touring|Skis", 329, 849, "Touring Ski 84|Touring Ski 90|Touring Ski 96|Freetouring Ski 102", "Paulownia|Carbon|Rockered|Light|All-Snow|Early-Rise", "Light on the way up and calm on the way down.|Holds on refrozen slopes at nine in the morning.|Forgiving in breakable crust."},
	{"touring-boots", "Ski touring|Ski boots", 299, 699, "Touring Boot|Ski Touring Boot 120|Two-Buckle Touring Boot", "Carbon-Cuff|Heat-Mouldable|Walk-Mode|Stiff|Light|Wide-Last", "Sixty degrees of cuff to walk with.|One lever from walking to skiing.|A liner that moulds to difficult feet."},
	{"climbing-skins", "Ski touring|Skins", 79, 199, "Climbing Skins|Race Skins|Trim-to-Fit Skins", "Mohair|Mixed|Glueless|Nylon|Fast-Glide|Cold-Proof", "Glides far with every step.|Sticks after the fourth transition of the day.|Comes with a tip and tail to fit any ski."},
	{"avalanche-kit", "Ski touring|Avalanche safety", 39, 429, "Avalanche Transceiver|Probe 240|Snow Shovel|Rescue Set", "Three-Antenna|Digital|Compact|Steel-Cable|D-Handle|Group-Check", "Marks several burials clearly.|Assembles with one pull.|To be practised with before it is needed."},
	{"goggles", "Ski touring|Goggles", 39, 189, "Ski Goggles|Touring Goggles|Glacier Glasses", "Photochromic|Double-Lens|Magnetic|Anti-Fog|Over-Glasses|Category-4", "Clear in flat light.|Does not fog on the way up.|Fits under any helmet."},
	{"trail-shoes", "Footwear|Trail running shoes", 79, 199, "Trail Running Shoe|Fell Shoe|Ultra Shoe", "Grippy|Rock-Plate|Wide-Toe|Women's|Cushioned|Fast-Draining", "Studs for bog and wet limestone.|Cushioned for the second half of an ultra.|Drains within a dozen strides."},
	{"running-vests", "Running|Running vests", 49, 159, "Running Vest 5 L|Running Vest 8 L|Race Vest 12 L", "Bounce-Free|Stretch|Women's|Breathable|Race|Six-Pocket", "Moves with you and not against you.|Flasks in front, jacket behind, gel at the side.|Meets the kit list of most mountain races."},
	{"soft-flasks", "Running|Hydration", 9, 59, "Soft Flask 500 ml|Soft Flask 250 ml|Hydration Bladder 1.5 L|Handheld Flask", "High-Flow|Bite-Valve|Insulated|Wide-Mouth|Twin-Pack|Filter-Cap", "Shrinks as you drink, so nothing sloshes.|A valve that does not drip.|Free of plasticisers and of the taste of them."},
	{"running-shorts", "Running|Shorts and tights", 29, 99, "Running Short|Split Short|Half Tight|Running Tight", "Lined|Two-in-One|Women's|Back-Pocket|5-Inch|Windproof", "A belt of pockets that keeps a phone still.|No seam where seams chafe.|Dries while you run."},
	{"head-torches", "Lighting|Head torches", 25, 199, "Head Torch 300|Head Torch 600|Head Torch 900|Head Torch 450", "Rechargeable|Red-Light|Reactive|Lightweight|Waterproof|Hybrid-Battery", "A red mode that spares the night vision.|Reads the way ahead and dims by itself.|Locks, so that it does not burn in the pack."},
	{"gps-watches", "Electronics|GPS watches", 149, 799, "GPS Watch|Outdoor Watch|Multisport Watch", "Solar|Mapping|Titanium|Small-Case|Dual-Band|Long-Run", "Follows a track through fog.|Two weeks between charges.|Dual-band reception in narrow valleys."},
	{"frame-bags", "Bikepacking|Bags", 39, 189, "Frame Bag|Saddle Pack 14 L|Handlebar Roll|Top-Tube Bag", "Waterproof|Welded|Expandable|Roll-Closing|Half-Frame|Rattle-Free", "Welded, not sewn: dry inside after a day of rain.|Does not sway when you stand up.|Fits frames from small to extra large."},
	{"bike-lights", "Bikepacking|Lights", 19, 149, "Bike Light Set|Front Light 70 Lux|Dynamo Light|Rear Light", "Rechargeable|Road-Legal|Waterproof|Brake-Sensing|Wide-Beam|USB-C", "A beam with a sharp upper edge.|Runs all night in the low mode.|Stays put on gravel."},
	{"bike-tools", "Bikepacking|Tools", 9, 89, "Multi-Tool 15|Mini Pump|Tubeless Repair Kit|Chain Tool", "Pocket|Forged|CO2|Ratchet|Twenty-Function|High-Pressure", "Everything that ever saved a tour.|Long enough to reach, short enough to carry.|Plugs a hole before the sealant gives up."},
	{"bivy-bags", "Tents|Bivy bags", 39, 299, "Bivy Bag|Hooped Bivy|Emergency Bivy", "Breathable|Two-Layer|Mesh-Hooded|Long|Ultralight|Reflective", "A night under the stars and a plan for rain.|Breathable enough for down.|Small as a fist."},
	{"family-tents", "Tents|Family tents", 249, 1199, "4-Person Tent|5-Person Tent|6-Person Tent|Air Tent 5", "Blackout|Standing-Height|Two-Bedroom|Tunnel|Canopy|Polycotton", "Bedrooms that stay dark until breakfast.|Stands up to a windy headland.|A porch where muddy boots can live."},
	{"camp-chairs", "Camp furniture|Chairs", 19, 149, "Camp Chair|Folding Chair|Low Chair|Rocking Chair", "High-Back|Ultralight|Padded|Cup-Holder|Beech-Frame|Two-Seat", "Sits deep and gets up easily.|Packs into a bag the size of a bottle.|Feet that do not sink into the sand."},
	{"camp-tables", "Camp furniture|Tables", 29, 189, "Camp Table|Roll-Top Table|Side Table|Kitchen Stand", "Bamboo|Aluminium|Folding|Height-Adjustable|Four-Seat|Slatted", "Level on uneven ground.|Takes a hot pan.|Rolls up into its own sleeve."},
	{"lanterns", "Lighting|Lanterns", 15, 119, "Camp Lantern|Table Lantern|String Lights 10 m|Gas Lantern", "Dimmable|Rechargeable|Warm-White|Collapsible|Solar|Hanging", "Warm light that does not call every moth.|Charges a phone if it must.|Hangs, stands and folds flat."},
	{"cool-boxes", "Camp kitchen|Cool boxes", 29, 549, "Cool Box 25 L|Cool Box 40 L|Cool Bag 20 L|Compressor Cooler 35 L", "Hard-Shell|Four-Day|Wheeled|12-Volt|Soft-Sided|Rotomoulded", "Ice for four days in summer.|Strong enough to sit on.|Quiet beside the bed."},
	{"air-beds", "Sleeping|Air beds", 29, 199, "Air Bed Double|Air Bed Single|Camp Cot|Folding Bed", "Flocked|Raised|Built-In-Pump|Insulated|Steel-Frame|Kids'", "Inflated before the kettle sings.|Off the cold ground.|Holds its air until the holiday ends."},
	{"cook-sets", "Camp kitchen|Pots and pans", 19, 159, "Cook Set|Pot 1.3 L|Frying Pan 24 cm|Kettle 0.9 L", "Titanium|Non-Stick|Nesting|Hard-Anodised|Cast-Iron|Two-Person", "Everything nests, stove included.|Pancakes without regret.|Heats evenly on a small flame."},
	{"camp-tableware", "Camp kitchen|Tableware", 6, 49, "Enamel Mug|Spork Set|Bowl Set|Plate Set of 4", "Titanium|Enamelled|Folding|Insulated|Bamboo|Speckled", "For tea, soup and the odd toothbrush.|Long handle, clean fingers.|Chips with dignity."},
	{"coffee-makers", "Camp kitchen|Coffee", 14, 149, "Camp Coffee Maker|Hand Grinder|Pour-Over Cone|Percolator", "Stainless|Collapsible|One-Cup|Conical-Burr|French-Press|Silicone", "The smell that wakes the whole site.|Fits inside most pots.|A proper grind, from fine to coarse."},
	{"trail-meals", "Camp kitchen|Trail food", 5, 16, "Trail Meal|Breakfast Pouch|Dinner Pouch|Double Portion", "Vegan Chilli|Mushroom Risotto|Lentil Dal|Beef Stew|Berry Granola|Potato Leek", "Add boiling water and wait eight minutes.|Six hundred kilocalories, no palm oil.|Tastes of food."},
	{"kayaks", "Paddling|Boats", 249, 1299, "Inflatable Kayak|Packraft|Touring Kayak|Canoe 15 ft", "Drop-Stitch|Two-Seat|Self-Bailing|Solo|Whitewater|Folding", "From pack to water in ten minutes.|Tracks straight on open lakes.|Tough enough for shallow, stony rivers."},
	{"paddles", "Paddling|Paddles", 39, 329, "Kayak Paddle 220|Touring Paddle 230|Canoe Paddle|Four-Piece Paddle", "Carbon|Fibreglass|Ash|Adjustable|Low-Angle|Bent-Shaft", "A clean catch and no flutter.|Comes apart for the train.|Warm wood in cold hands."},
	{"dry-bags", "Paddling|Dry bags", 9, 129, "Dry Bag 10 L|Dry Bag 20 L|Dry Pack 35 L|Phone Case", "Roll-Top|Heavy-Duty|See-Through|Valved|Three-Pack|Ultralight", "Three rolls, one click, dry.|See what is in it before you empty it.|Straps to carry it over the portage."},
	{"buoyancy-aids", "Paddling|Buoyancy aids", 49, 189, "Buoyancy Aid|Touring PFD|Kids' Life Vest", "Side-Entry|High-Back|Pocketed|Low-Profile|Whistle-Clipped|Women's", "Room for the shoulders to work.|A high back clears the seat.|Reflective where searchers look."},
	{"wetsuits", "Water|Wetsuits", 89, 429, "Swim Wetsuit|Paddling Wetsuit|Thermal Wetsuit|Shorty", "Limestone|Women's|Back-Zip|Flexible|5/3 mm|Sleeveless", "Thin at the shoulders, thick at the core.|On in two minutes, off in one.|Keeps you in the lake until October."},
	{"fly-rods", "Fishing|Rods", 89, 599, "Fly Rod 9' #5|Fly Rod 10' #7|Tenkara Rod|Travel Rod", "Four-Piece|Fast-Action|Medium|Carbon|Small-Stream|Six-Piece", "Loads with a short line.|Four pieces that fit in a rucksack.|Sensitive enough to feel a nymph tick over stones."},
	{"reels", "Fishing|Reels", 49, 399, "Fly Reel #5/6|Fly Reel #7/8|Spinning Reel 2500", "Large-Arbor|Disc-Drag|Machined|Click-Pawl|Sealed|Cassette", "A drag that starts without a jerk.|Sings when a fish runs.|Sealed against sand and salt."},
	{"waders", "Fishing|Waders", 99, 499, "Chest Waders|Waist Waders|Wading Boot", "Breathable|Stocking-Foot|Felt-Soled|Reinforced|Studded|Neoprene", "Dry to the chest and cool in July.|Knees that take a season on gravel.|Grips on weed and slime."},
	{"fly-boxes", "Fishing|Flies and boxes", 9, 79, "Fly Box|Dry Fly Selection|Nymph Selection|Streamer Selection", "Slotted|Barbless|Double-Sided|River-Tested|Waterproof|Magnetic", "Flies that have earned their place.|Silicone slots that hold the smallest hooks.|Floats when dropped."},
	{"swim-goggles", "Water|Swim goggles", 12, 59, "Swim Goggles|Open-Water Mask|Swim Cap", "Polarised|Wide-View|Mirrored|Silicone|Anti-Fog|Bright", "Sight the buoy without lifting your chin.|Seals without suction marks.|Seen from the boat."},
	{"tow-floats", "Water|Tow floats", 19, 69, "Tow Float|Tow Float Dry Bag 20 L|Swim Buoy", "High-Visibility|LED|Double-Chamber|Phone-Window|Whistle-Clipped|Recycled", "Makes you visible and keeps the keys dry.|No drag worth mentioning.|Two chambers, for certainty."},
	{"changing-robes", "Water|Changing robes", 49, 169, "Changing Robe|Towel Poncho|Swim Parka", "Fleece-Lined|Waterproof|Short-Sleeved|Long|Kids'|Recycled", "Undress inside it while the wind tries to help.|Warm within a minute.|Pockets for hands that no longer close."},
	{"fixed-knives", "Bushcraft|Knives", 19, 189, "Bushcraft Knife|Carving Knife|Fixed-Blade Knife|Spoon Knife", "Carbon-Steel|Birch-Handled|Full-Tang|Scandi-Grind|Stainless|Leather-Sheathed", "Takes an edge on a river stone.|Birch warms in the hand.|A spine that strikes sparks."},
	{"axes", "Bushcraft|Axes and saws", 29, 199, "Forest Axe|Hatchet|Folding Saw|Splitting Axe", "Hand-Forged|Hickory|Small|Swedish-Pattern|Pull-Cut|Double-Bevel", "Forged by one smith, marked by him.|Fells, limbs and makes kindling.|Cuts green wood like bread."},
	{"tarps", "Bushcraft|Tarps", 29, 219, "Tarp 3x3|Tarp 4x3|Hex Tarp|Wing Tarp", "Silnylon|Sixteen-Point|Camouflage|Cotton|Reflective-Line|Ultralight", "Sixteen points and a hundred ways to pitch it.|Keeps the fire and the rain apart.|Quiet in the wind."},
	{"fire-starters", "Bushcraft|Fire", 6, 99, "Fire Steel|Fatwood Bundle|Folding Fire Box|Tinder Tin", "Ferro|Wood-Handled|Stainless|Resin-Rich|Waterproof|Pocket", "Three thousand degrees with one stroke.|Burns when everything else is wet.|Leaves no scar on the ground."},
	{"hammocks", "Sleeping|Hammocks", 29, 249, "Hammock|Double Hammock|Hammock with Net|Underquilt", "Asymmetric|Parachute|Bug-Free|Insulated|Wide|Bridge", "Lie flat across the diagonal.|Hangs in two minutes with tree straps.|Nothing crawls in."},
	{"binoculars", "Optics|Binoculars", 79, 1199, "Binoculars 8x42|Binoculars 10x42|Binoculars 8x32|Compact 8x25", "Phase-Coated|Wide-Angle|ED-Glass|Waterproof|Close-Focus|Magnesium", "Bright in the last half hour of the day.|Focuses from two metres to the horizon.|Finds the warbler before it moves on."},
	{"spotting-scopes", "Optics|Spotting scopes", 199, 1499, "Spotting Scope 65|Spotting Scope 80|Travel Scope 50", "Angled|ED-Glass|Straight|Zoom|Light|Digiscoping", "Reads a ring at two hundred metres.|Angled for tall and short to share.|Sharp out to the edge at 60x."},
	{"tripods", "Optics|Tripods", 49, 449, "Tripod|Travel Tripod|Fluid Head|Table Tripod", "Carbon|Aluminium|Twist-Lock|Five-Section|Spiked|Low-Angle", "Stands still in a breeze.|Folds short enough for the side pocket.|Moves smoothly at high power."},
	{"field-jackets", "Clothing|Field jackets", 89, 379, "Field Jacket|Waxed Jacket|Softshell|Photographer's Vest", "Silent|Waxed-Cotton|Windproof|Many-Pocketed|Ventile|Olive", "Makes no noise that a bird would mind.|Pockets for a book, a scope and a sandwich.|Wears in for ten years."},
	{"telescopes", "Optics|Telescopes", 129, 1599, "Dobsonian 150|Dobsonian 200|Refractor 80|Travel Refractor 60", "Collapsible|Apochromatic|Tabletop|Go-To|Steel-Tube|Beginner's", "Saturn's rings on the first evening.|Set up while the eyes adapt.|Gathers light enough for faint galaxies."},
	{"snowshoes", "Snow|Snowshoes", 69, 299, "Snowshoes 22|Snowshoes 25|Snowshoes 30", "Heel-Lift|Steel-Framed|Women's|Traction-Rail|Backcountry|Kids'", "Heel lifts for the steep part.|Bites on traverses.|Straps that work at minus twenty."},
	{"gaiters", "Snow|Gaiters", 19, 89, "Gaiters|Snow Gaiters|Trail Gaiters", "Waterproof|Knee-High|Stretch|Breathable|Short|Reinforced", "No snow in the boots, no boots in the snow.|A strap that outlives the season.|Opens at the front, with gloves."},
	{"winter-bags", "Sleeping|Winter sleeping bags", 249, 899, "Sleeping Bag -15 °C|Sleeping Bag -25 °C|Expedition Bag", "Goose-Down|Box-Baffled|Overfilled|Water-Resistant|Wide|Hooded", "For nights when the stove fuel thickens.|A zip that runs in the cold.|Room for tomorrow's clothes at the feet."},
	{"vacuum-flasks", "Camp kitchen|Flasks", 14, 69, "Vacuum Flask 0.75 L|Vacuum Flask 1 L|Food Jar|Travel Mug", "Steel|Powder-Coated|Wide-Mouth|Leak-Proof|Slim|Two-Cup", "Tea at the summit, still too hot.|Two cups and no drips.|Survives the fall that its owner fears."},
	{"power-stations", "Electronics|Portable power", 39, 999, "Power Station 300 Wh|Power Station 600 Wh|Power Bank 20 Ah|Power Bank 10 Ah", "Lithium-Iron|Fast-Charging|Silent|Rugged|Solar-Ready|Slim", "Runs a cool box through the weekend.|Charges from sun, car or wall.|Silent at night."},
	{"solar-panels", "Electronics|Solar panels", 49, 449, "Solar Panel 28 W|Solar Panel 60 W|Solar Panel 120 W", "Folding|Monocrystalline|Kickstand|Flexible|Weatherproof|Suitcase", "Folds to the size of a road atlas.|Gives useful current under thin cloud.|Kickstands set the angle."},
	{"awnings", "Van life|Awnings", 69, 699, "Van Awning|Drive-Away Awning|Sun Sail|Rear Tent", "Inflatable|Magnetic|Universal|Quick-Pitch|Freestanding|Side-Walled", "A second room within ten minutes.|Stands alone when the van goes shopping.|Channel and figure-of-eight strip included."},
	{"foraging-baskets", "Foraging|Baskets and bags", 14, 79, "Foraging Basket|Mushroom Basket|Waxed Gathering Bag|Berry Picker", "Willow|Hand-Woven|Belt-Hung|Canvas|Long-Handled|Ash-Splint", "Lets spores fall where they should.|Woven from one winter's willow.|Hangs at the hip, both hands free."},
	{"wellies", "Footwear|Wellingtons", 35, 189, "Wellington Boot|Ankle Welly|Field Boot", "Natural-Rubber|Neoprene-Lined|Adjustable|Women's|Steel-Shank|Kids'", "Natural rubber that bends with the foot.|Warm lining for frosty mornings.|Room for thick socks and wide calves."},
	{"dog-packs", "Dog|Harnesses and packs", 25, 119, "Dog Harness|Dog Backpack|Running Harness|Canicross Belt", "Padded|Handle-Topped|Reflective|Saddlebag|No-Pull|Quick-Dry", "A handle to lift him over the stile.|Carries his own dinner.|Room to breathe and pull."},
	{"dog-leads", "Dog|Leads", 12, 59, "Hiking Lead|Bungee Lead|Long Line 10 m|Rope Lead", "Hands-Free|Climbing-Rope|Shock-Absorbing|Double-Handled|Biothane|Reflective", "Made from what holds climbers.|Stretches before your arm does.|Washes clean after every bog."},
	{"dog-coats", "Dog|Coats and boots", 19, 99, "Dog Coat|Dog Rain Jacket|Dog Boots Set of 4|Drying Coat", "Insulated|Reflective|Stretch|Quick-Dry|Fleece-Lined|Snow-Proof", "Dry dog, dry car.|Soles that stay on in snow.|Cut so that he can still scratch."},
}

// theme is one interest. Its path is the order in which most people who have it come to need things.
type theme struct {
	slug     string
	shelf    string // category of its books
	doing    string // "ski touring": the word for it in running text
	Doing    string // the same in titles
	path     string // kinds of the outdoor domain, in order
	places   string
	things   string // nouns that its stories are about
	nextDoor string // themes that people move on to
}

var themes = []theme{
	{"hiking", "Hiking", "hiking", "Hiking", "hiking-boots|hiking-socks|daypacks|rain-jackets|trekking-poles|vacuum-flasks", "the Bernina|Lofoten|the Dolomites|the Tatra|the Lake District|Madeira|the Pyrenees|the Harz", "Path|Pass|Valley|Ridge|Signpost|Hut", "backpacking|birds|snow|running"},
	{"backpacking", "Long-distance trails", "backpacking", "Backpacking", "trekking-packs|light-tents|sleeping-mats|sleeping-bags|canister-stoves|water-filters|head-torches", "the Nordkalott Trail|the GR20|Cape Wrath|the Via Alpina|Iceland's Laugavegur|the Carpathians|Corsica|Lapland", "Mile|Blister|Border|River|Pack|Horizon", "hiking|bikepacking|kitchen|alpine"},
	{"alpine", "Mountaineering", "mountaineering", "Mountaineering", "alpine-boots|crampons|ice-axes|harnesses|ropes|helmets|down-jackets", "Mont Blanc|the Monte Rosa|the Ortler|the Bernese Oberland|the Caucasus|the Cordillera Blanca|the Écrins|the Hohe Tauern", "Summit|Glacier|North Face|Rope|Bivouac|Cornice", "climbing|skitour|backpacking|snow"},
	{"climbing", "Rock climbing", "climbing", "Rock Climbing", "climbing-shoes|harnesses|chalk-bags|quickdraws|ropes|helmets", "the Frankenjura|Kalymnos|the Elbe Sandstone|Finale|Siurana|the Verdon|Arco|the Peak District", "Crux|Pitch|Wall|Belay|Crack|Line", "bouldering|alpine|hiking"},
	{"bouldering", "Bouldering", "bouldering", "Bouldering", "climbing-shoes|chalk-bags|crash-pads|training-boards|down-jackets", "Fontainebleau|Magic Wood|the Zillertal|Albarracín|Chironico|Rocklands|the Silvretta|Northumberland", "Problem|Sloper|Boulder|Sequence|Landing|Hold", "climbing|running|van"},
	{"skitour", "Ski touring", "ski touring", "Ski Touring", "touring-boots|touring-skis|climbing-skins|avalanche-kit|goggles|rain-jackets|vacuum-flasks", "the Silvretta|the Haute Route|Lyngen|the Allgäu Alps|the Stubai|Gran Paradiso|the Rhaetian Alps|Svalbard", "Powder Day|Couloir|Skin Track|Storm|Descent|Snowpack", "snow|alpine|running"},
	{"running", "Trail running", "trail running", "Trail Running", "trail-shoes|running-vests|soft-flasks|running-shorts|head-torches|gps-watches", "the Chiemgau|the Cairngorms|Chamonix|La Palma|the Jura|the Bob Graham Round|Gran Canaria|the Black Forest", "Stride|Finish Line|Climb|Second Wind|Night Mile|Fell", "hiking|skitour|swimming|dogs"},
	{"bikepacking", "Bikepacking", "bikepacking", "Bikepacking", "frame-bags|bike-lights|bike-tools|bivy-bags|canister-stoves|power-stations", "the Balkans|the Silk Road|Gravel Tuscany|the Torino-Nice Rally|Kyrgyzstan|the Danube|the Hebrides|the Baltic", "Wheel|Gravel Road|Tailwind|Saddle|Washboard|Chain", "backpacking|van|running"},
	{"family", "Family camping", "family camping", "Family Camping", "family-tents|air-beds|camp-chairs|camp-tables|lanterns|cool-boxes|camp-tableware", "the Baltic Coast|Lake Garda|Brittany|Denmark|the Ardennes|Istria|Cornwall|the Mecklenburg Lakes", "Campsite|Rainy Day|Tent|Holiday|Sandcastle|Campfire", "kitchen|van|paddling|dogs"},
	{"kitchen", "Outdoor cooking", "outdoor cooking", "Outdoor Cooking", "canister-stoves|cook-sets|camp-tableware|coffee-makers|trail-meals|cool-boxes", "the Alps|Scandinavia|the Atlantic Coast|the Balkans|the Mediterranean|Scotland|the Baltic|Provence", "Pot|Ember|Feast|Kettle|Breakfast|Pan", "family|foraging|bushcraft|backpacking"},
	{"paddling", "Canoe and kayak", "paddling", "Paddling", "kayaks|paddles|buoyancy-aids|dry-bags|wetsuits|tow-floats", "the Mecklenburg Lakes|Dalsland|the Loire|the Soča|the Stockholm Archipelago|the Wye|the Masuria|the Isle of Skye", "River|Portage|Current|Lake|Estuary|Paddle", "swimming|fishing|family"},
	{"fishing", "Fly fishing", "fly fishing", "Fly Fishing", "fly-rods|reels|waders|fly-boxes|field-jackets|vacuum-flasks", "the Traun|Swedish Lapland|the Test|Slovenia|Iceland|the Spey|Connemara|the Gmundner Ache", "Trout|Rise|Cast|Pool|Mayfly|Stream", "paddling|birds|bushcraft"},
	{"swimming", "Wild swimming", "wild swimming", "Wild Swimming", "swim-goggles|tow-floats|wetsuits|changing-robes|dry-bags", "the Upper Bavarian Lakes|Wales|the Hebrides|Lake Constance|Cornwall|the Finnish Lakes|the Walchensee|the Thames", "Cold Water|Lake|Tide|Length|Winter Swim|Shoreline", "paddling|running|foraging"},
	{"bushcraft", "Bushcraft", "bushcraft", "Bushcraft", "fixed-knives|fire-starters|axes|tarps|hammocks|cook-sets", "the Boreal Forest|Värmland|the Carpathians|the Spessart|the Scottish Highlands|Karelia|the Bavarian Forest|Dalarna", "Fire|Hearth|Birch|Camp|Axe|Forest", "foraging|kitchen|fishing|birds"},
	{"birds", "Birdwatching", "birdwatching", "Birdwatching", "binoculars|field-jackets|spotting-scopes|tripods|vacuum-flasks", "the Wadden Sea|Heligoland|the Camargue|Extremadura|the Neusiedler See|Falsterbo|the Danube Delta|Norfolk", "Feather|Migration|Heron|Dawn Chorus|Marsh|Kestrel", "stars|fishing|hiking|foraging"},
	{"stars", "Astronomy", "stargazing", "Stargazing", "telescopes|head-torches|tripods|camp-chairs|vacuum-flasks|power-stations", "the Westhavelland|La Palma|the Rhön|Exmoor|the Atacama|the Eifel|the Alps|the Canary Islands", "Night Sky|Comet|Constellation|Moon|Galaxy|Dark Hour", "birds|van|family"},
	{"snow", "Snowshoeing", "snowshoeing", "Snowshoeing", "snowshoes|gaiters|trekking-poles|winter-bags|down-jackets|vacuum-flasks", "the Engadine|the Vosges|Vorarlberg|the Bavarian Prealps|the Vercors|Finnmark|the Giant Mountains|the Chartreuse", "Snowfield|White Silence|Track|Cabin|Frost|Winter", "skitour|hiking|alpine"},
	{"van", "Van life", "van life", "Van Life", "awnings|cool-boxes|solar-panels|power-stations|camp-tables|coffee-makers", "Portugal|Norway|Sicily|the Wild Atlantic Way|Albania|the Peloponnese|Morocco|the Picos de Europa", "Road|Lay-By|Ferry|Sliding Door|Coast|Back Road", "family|bikepacking|swimming|stars"},
	{"foraging", "Foraging", "foraging", "Foraging", "foraging-baskets|fixed-knives|wellies|rain-jackets|field-jackets|trail-meals", "the Black Forest|Sussex|Brittany|the Vosges|Småland|the Waldviertel|the Ardennes|Galicia", "Mushroom|Hedgerow|Chanterelle|Nettle|Basket|Autumn Wood", "kitchen|bushcraft|swimming|birds"},
	{"dogs", "Hiking with dogs", "hiking with a dog", "Hiking with Dogs", "dog-packs|dog-leads|dog-coats|hiking-boots|daypacks|head-torches", "South Tyrol|the Yorkshire Dales|the Eifel|the Lüneburg Heath|Snowdonia|the Thuringian Forest|the Allgäu|Jutland", "Paw|Old Dog|Muddy Walk|Collar|Good Boy|Companion", "hiking|running|family"},
}

// genre is one sort of book; every theme has all three. Slots: {place} {thing} {Doing} {season} {num} {walk}.
type genre struct {
	slug     string
	category string
	low      float64
	high     float64
	titles   string
	points   string
}

var genres = []genre{
	{"guidebook", "Guidebooks", 14, 34,
		"{Doing} in {place}: {num} Routes for {season}|{place}: The {Doing} Guide|{num} Great Days of {Doing} in {place}|Around {place}: A {Doing} Companion|{place} in {season}: {num} Outings for {Doing}|The Quiet Side of {place}: {Doing} away from the Crowds|{place} by Train: {Doing} without a Car|{Doing} for Beginners: {num} Easy Outings in {place}",
		"With maps, times and where to turn back.|Checked on site over three seasons.|Every outing starts at a station or a bus stop.|Graded from gentle to bold, with GPS tracks."},
	{"handbook", "Handbooks", 16, 49,
		"The {Doing} Handbook: {what}|{Doing}: {what}|Better {Doing}: {what}|{Doing} from Scratch: {what}|{what}: Lessons in {Doing}|The Science of {Doing}: {what}|Safe {Doing}: {what}",
		"Explains what others only show.|Drawings instead of adjectives.|Written by people who teach it every week.|With checklists to copy and take along."},
	{"story", "Stories and memoirs", 9, 28,
		"The Last {thing}|A {thing} of One's Own|{thing} and {other}|What the {thing} Knew|The {thing} Diaries: {season} in {place}|Letters from {place}|The {thing}-Keeper's Daughter|{season} in {place}: A Memoir|Beyond the {thing}|Every {thing} Has a Name|The Year of the {thing}|A Short History of the {thing}",
		"A quiet book about leaving and coming back.|Funny, exact and without heroics.|Half travel, half family history.|Read it in a tent, if you can."},
}

var (
	seasons = "Spring|Summer|Autumn|Winter|All Seasons"
	lessons = "Planning a First Season|Weather, Maps and Judgement|Technique, Step by Step|Buying Less and Going Further|When Things Go Wrong|Training through the Year|With Children|Light and Cheap|The First Hundred Days|A Field Course|Care and Repair|Going Alone"
	// lines are product lines; a brand uses each for what belongs together, boots and the socks for them.
	lines = "Skarn|Tarn|Corrie|Fjell|Arête|Moraine|Brae|Vidda|Firn|Karst|Talus|Sérac|Machair|Heath|Lomma|Kvitfjell|Alder|Rowan|Juniper|Larch|Osprey|Plover|Curlew|Dipper|Merlin|Stoat|Ibex|Marten|Lynx|Otter|Gneiss|Basalt|Schist|Granite|Ochre|Slate|Cobalt|Umber|Ember|Cinder|Drift|Squall|Zephyr|Mistral|Föhn|Bora|Halo|Solstice|Equinox|Perigee|Lodestar|Meridian|Cairn|Waymark|Trig|Bealach|Nordlys|Tundra|Taiga|Steppe"
	// brands of the outdoor domain, cheapest third first.
	brands       = "Bracken & Co|Fieldway|Oddfell|Tramper|Nomadik|Kestrel Road|Hollowbrook|Weekender|Larkfell|Nordvik|Ostara|Tindra|Marlow Peak|Greyhound Mountain|Veltana|Sundmark|Haukland|Aiguille Works|Piz Cotra|Ravenscar|Stormklint|Ferra Alpina|Isbre|Kaldfjord"
	publishers   = "Contour Press|Lantern Lane|Blue Cairn Books|Wayside Editions|Nightjar House|Tidemark"
	firstNames   = "Ida|Jonas|Mara|Tomas|Elin|Arvid|Noor|Felix|Greta|Henrik|Lucia|Marek|Sofie|Paul|Ines|Oskar|Runa|Theo|Vera|Anton|Clara|Emil|Frida|Hanno|Johanna|Karim|Lena|Milan|Nele|Pia|Quentin|Rosa|Selma|Till|Una|Viktor|Wanda|Yusuf|Zora|Bruno"
	lastNames    = "Holm|Brandt|Okafor|Lindqvist|Moreau|Tanner|Vesely|Aasen|Kerr|Dubois|Falk|Hartwig|Ibsen|Jansen|Keller|Lund|Marsh|Novak|Oberhauser|Pryce|Quist|Rossi|Sand|Thorne|Ulrich|Vance|Weiss|Yilmaz|Zeller|Ashdown|Birkeland|Castell"
	colours      = "slate|moss|rust|ink|sand|plum|ochre|spruce|fog|ember"
	householdTip = "Spare parts for ten years.|Repairs are free for the first owner.|Made in small batches.|Ships without plastic.|Tested for two winters before it went on sale."
)
