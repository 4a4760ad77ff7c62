//go:build linux

package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"
)

// row is one figure of ours beside one of another's. More is better in both.
type row struct {
	what   string // with its unit
	ours   float64
	peer   string
	theirs float64
}

// note is a figure that has no peer.
type note struct{ what, value string }

// table is what a run found.
type table struct {
	rows  []row
	notes []note
}

// compare adds a row for each figure and peer, in the order of the subjects. prefix
// says what the figures belong to.
func (t *table) compare(prefix string, subjects []subject, found map[string]figures) {
	for _, what := range slices.Sorted(maps.Keys(found[ours])) {
		for _, s := range subjects {
			if _, measured := found[s.name][what]; s.name != ours && measured {
				t.rows = append(t.rows, row{prefix + what, found[ours][what], s.name, found[s.name][what]})
			}
		}
	}
}

func (t *table) note(what, value string) { t.notes = append(t.notes, note{what, value}) }

func (t *table) print(to io.Writer) error {
	out := tabwriter.NewWriter(to, 0, 8, 2, ' ', 0)
	if len(t.rows) > 0 {
		fmt.Fprintf(out, "\nmeasure\tours\tpeer\ttheirs\tours/peer\n")
	}
	for _, r := range t.rows {
		fmt.Fprintf(out, "%s\t%s\t%s\t%s\t%.2f\n", r.what, figure(r.ours), r.peer, figure(r.theirs), r.ours/r.theirs)
	}
	fmt.Fprintf(out, "\n")
	for _, n := range t.notes {
		fmt.Fprintf(out, "%s\t%s\n", n.what, n.value)
	}
	return out.Flush()
}

// figure has three digits that mean something.
func figure(f float64) string {
	switch {
	case f >= 100:
		return fmt.Sprintf("%.0f", f)
	case f >= 10:
		return fmt.Sprintf("%.1f", f)
	}
	return fmt.Sprintf("%.2f", f)
}
