package boot

import (
	"fmt"
	"slices"
	"strings"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/inventory"
	"github.com/rhizome-dev/rhizome/internal/provision"
	"github.com/rhizome-dev/rhizome/pxe/media"
)

// wanted is what the machines that are no members need of us.
type wanted struct {
	// files, each once, those of machines that are named first first.
	files []media.Source
	// of holds the digests that each machine needs.
	of map[string][]string
	// problems says for each other machine why it is not known what it needs.
	problems map[string]string
	// sums are the releases whose checksums have to be read first, with their URLs.
	sums map[release]string
}

// waiting are the machines that wait for something, in the order of their names.
func (w wanted) waiting() []string {
	var all []string
	for name := range w.of {
		all = append(all, name)
	}
	for name := range w.problems {
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}

// want says what is needed: by machines that are no Ready members, and by those that
// asked for their installation all the same.
func want(s *snapshot, archives []media.Source, asked map[string]bool) wanted {
	w := wanted{of: map[string][]string{}, problems: map[string]string{}, sums: map[release]string{}}
	if s == nil || s.cluster == nil {
		return w
	}
	known := map[string]bool{}
	for i := range s.inventory.Nodes {
		node := &s.inventory.Nodes[i]
		if (isReadyMember(node) || !node.DeletionTimestamp.IsZero()) && !asked[node.Name] {
			continue
		}
		if r, url := missingRelease(s.inventory, node); url != "" {
			w.sums[r] = url
		}
		files, err := provision.Media(s.inventory, node, archives...)
		if err != nil {
			w.problems[node.Name] = err.Error()
			continue
		}
		for _, f := range files {
			w.of[node.Name] = append(w.of[node.Name], f.SHA256)
			if !known[f.SHA256] {
				known[f.SHA256] = true
				w.files = append(w.files, f.Source)
			}
		}
	}
	return w
}

// missingRelease is the release whose checksums a node needs and that are not known;
// an empty URL: none.
func missingRelease(inv inventory.Inventory, node *v1alpha1.Node) (release, string) {
	cluster, err := inv.Cluster()
	if err != nil {
		return release{}, ""
	}
	arch := node.Spec.Architecture
	if arch == "" {
		arch = v1alpha1.AMD64
	}
	return release{cluster.Spec.Kubernetes.Version, arch}, provision.ReleaseSums(cluster, arch)
}

// standing is how far the fetching of one file is.
type standing struct {
	name        string
	here        bool
	hopeless    bool // the source has another file, or none: a person has to act
	done, total int64
	err         error // of the last try
}

// verdict is whether this pod may be said to be ready, and a message for people.
//
// Ready: every file that a waiting machine needs is here. A file that its source
// does not have keeps only the machines back that need it, as long as another one
// can be served: the message names it all the same.
func verdict(w wanted, files map[string]standing) (bool, string) {
	servable, pending := 0, 0
	var said []string
	for _, digests := range w.of {
		if !slices.ContainsFunc(digests, func(d string) bool { return !files[d].here }) {
			servable++
		}
	}
	for _, source := range w.files {
		f := files[source.SHA256]
		if f.here {
			continue
		}
		if !f.hopeless {
			pending++
		}
		switch {
		case f.err != nil:
			said = append(said, f.err.Error())
		case f.total > 0:
			said = append(said, fmt.Sprintf("fetching %s: %d of %d MiB", source.Name, f.done>>20, (f.total+1<<20-1)>>20))
		default:
			said = append(said, "fetching "+source.Name)
		}
	}
	for _, name := range w.waiting() {
		if p := w.problems[name]; p != "" && !slices.Contains(said, p) {
			said = append(said, p)
		}
	}
	waiting := len(w.of) + len(w.problems)
	ready := pending == 0 && len(w.sums) == 0 && (servable > 0 || waiting == 0)
	switch {
	case len(said) > 0:
		return ready, strings.Join(said, "; ")
	case waiting == 0:
		return ready, "no machine waits"
	}
	return ready, fmt.Sprintf("serves all %d files that %d machines need", len(w.files), waiting)
}
