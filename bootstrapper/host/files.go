package host

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/inventory"
)

// File is a file of this machine that a manifest names by a file URL.
type File struct {
	Kind  string // of the object that names it
	Index int    // of the object in the inventory
	Field string
	Path  string
	// Problem is why it cannot be used; empty: it can.
	Problem string
}

// localFiles are the files of this machine that the installation of the first node
// needs. What cannot be told from the inventory is found elsewhere.
func localFiles(inv inventory.Inventory) []File {
	first, err := inv.FirstNode("")
	if err != nil {
		return nil
	}
	arch := first.Spec.Architecture
	if arch == "" {
		arch = v1alpha1.AMD64
	}
	var all []File
	add := func(kind string, index int, field string, f v1alpha1.File) {
		u, err := url.Parse(string(f.URL))
		if err == nil && u.Scheme == "file" && (u.Host == "" || u.Host == "localhost") {
			all = append(all, File{Kind: kind, Index: index, Field: field + ".url", Path: filepath.FromSlash(u.Path)})
		}
	}
	if system, err := inv.OperatingSystemOf(first); err == nil {
		for i := range inv.OperatingSystems {
			if inv.OperatingSystems[i].Name != system.Name {
				continue
			}
			for n, m := range system.Spec.Media {
				if m.Architecture == arch {
					add("OperatingSystem", i, fmt.Sprintf("spec.media[%d]", n), m.File)
				}
			}
			break
		}
	}
	if len(inv.Clusters) == 0 {
		return all
	}
	for n, files := range inv.Clusters[0].Spec.Kubernetes.Files {
		if files.Architecture != arch {
			continue
		}
		field := fmt.Sprintf("spec.kubernetes.files[%d]", n)
		add("Cluster", 0, field+".binary", files.Binary)
		for i, image := range files.Images {
			add("Cluster", 0, fmt.Sprintf("%s.images[%d]", field, i), image)
		}
	}
	return all
}

// problem says why a file cannot be used; empty: it can.
func problem(path string) string {
	f, err := os.Open(path)
	if err != nil {
		var pathError *fs.PathError
		if errors.As(err, &pathError) {
			err = pathError.Err
		}
		return err.Error()
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return err.Error()
	case !info.Mode().IsRegular():
		return "it is not a regular file"
	case info.Size() == 0:
		return "it is empty"
	}
	return ""
}

func judgeFiles(q Question, f Facts) []inventory.Finding {
	var all []inventory.Finding
	for _, file := range f.Files {
		if file.Problem == "" {
			continue
		}
		finding := inventory.Finding{
			Rule: ruleFile, Severity: severities[ruleFile], Field: file.Field,
			Message: fmt.Sprintf("%s cannot be read on this machine: %s", file.Path, file.Problem),
			Fix:     "put the file there, or correct the URL",
		}
		switch file.Kind {
		case "Cluster":
			finding.Object = "Cluster/" + q.Inventory.Clusters[file.Index].Name
		case "OperatingSystem":
			finding.Object = "OperatingSystem/" + q.Inventory.OperatingSystems[file.Index].Name
		}
		if o, ok := q.Inventory.Origins[inventory.Key{Kind: file.Kind, Index: file.Index}]; ok {
			finding.File, finding.Line = o.File, o.At(file.Field)
		}
		all = append(all, finding)
	}
	return all
}
