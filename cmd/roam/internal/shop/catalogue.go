package shop

import "slices"

// A Product is for sale. Its texts are English; german.go has the others.
type Product struct {
	ID    string
	Name  string
	Note  string // under the name
	Story string // on its own page
	Unit  string
	Cents int    // the price, in euro cents
	Art   string // which drawing of templates/art.html
	Tone  string // and in which colours
}

var catalogue = []Product{
	{"green-tea", "Green tea", "Sencha, first flush", "Steamed within hours of the harvest, then rolled and dried. Bright, grassy, a little sweet. Seventy degrees and a minute are enough.", "100 g tin", 890, "tin", "green"},
	{"black-tea", "Black tea", "Assam, strong and malty", "The tea for early trains. Takes milk, takes sugar, takes being forgotten for a while.", "100 g tin", 750, "tin", "amber"},
	{"oolong", "Oolong", "Half way, and lingering", "Between green and black, and longer on the tongue than both. The same leaves serve four times.", "100 g tin", 1180, "tin", "copper"},
	{"mint-tea", "Mint tea", "Spearmint and gunpowder green", "As it is poured from high up in the evening. Good hot, better cold.", "80 g tin", 590, "tin", "mint"},
	{"espresso", "Espresso", "Dark chocolate, roasted nut", "A slow, dark roast of two beans for small cups and long talks.", "250 g bag", 940, "bag", "espresso"},
	{"filter-coffee", "Filter coffee", "Light roast, apricot, honey", "Washed, high grown, roasted light. Bloom it, pour it, and take it with you.", "250 g bag", 1020, "bag", "sand"},
	{"teapot", "Teapot", "Stoneware, 0.8 litres", "Thrown by hand and glazed in sea green. It pours without a drip, which is rarer than it sounds.", "one piece", 4200, "teapot", "sea"},
	{"travel-mug", "Travel mug", "Keeps warm wherever you roam", "Steel, doubly walled, with a lid that closes. It belongs to nobody but you, and fits in every train.", "one piece", 2400, "mug", "dusk"},
}

// Products returns the ids of what is for sale.
func Products() (ids []string) {
	for _, p := range catalogue {
		ids = append(ids, p.ID)
	}
	return ids
}

func findProduct(id string) (Product, bool) {
	i := slices.IndexFunc(catalogue, func(p Product) bool { return p.ID == id })
	if i < 0 {
		return Product{}, false
	}
	return catalogue[i], true
}

// productNamed is findProduct for pages: a cart or an old order may name what
// is no longer for sale.
func productNamed(id string) Product {
	p, ok := findProduct(id)
	if !ok {
		return Product{ID: id, Name: id, Art: "tin", Tone: "sand"}
	}
	return p
}
