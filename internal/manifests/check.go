package manifests

import "github.com/rhizome-dev/rhizome/internal/inventory"

// Check reads a directory and judges the rules between its objects as well. A
// field that the schema refuses is not found a second time by a rule between
// objects that says the same.
func Check(dir string) (Result, error) {
	r, err := Read(dir)
	if err != nil {
		return r, err
	}
	r.Judge()
	return r, nil
}

// Judge adds the findings of the rules between objects.
func (r *Result) Judge() {
	type place struct {
		file  string
		line  int
		field string
	}
	refused := map[place]bool{}
	for _, f := range r.Findings {
		if f.Severity == inventory.Error && f.Field != "" {
			refused[place{f.File, f.Line, f.Field}] = true
		}
	}
	for _, f := range inventory.Check(r.Inventory) {
		if !refused[place{f.File, f.Line, f.Field}] {
			r.Findings = append(r.Findings, f)
		}
	}
	inventory.Sort(r.Findings)
}
