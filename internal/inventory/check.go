package inventory

// Check judges the rules between objects, and those of single objects that no
// schema can state. Values that the schema refuses are passed over: they are
// reported by whoever validates the schema. The findings are sorted.
func Check(inv Inventory) []Finding { return nil }
