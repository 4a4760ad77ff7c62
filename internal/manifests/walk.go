package manifests

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// The limits keep a wrong directory, such as / or a home, from being swallowed.
const (
	maxFileSize = 8 << 20
	maxFiles    = 10_000
	maxObjects  = 10_000 // of our group
)

// walk lists the YAML files below dir in lexical order.
//
// Linked directories are never followed: a target within dir is walked anyway,
// one outside is not part of it, and a loop would not end. Linked files are read
// if they lie within dir: that is how a ConfigMap is mounted.
func walk(dir string) (paths []string, findings []Finding, err error) {
	root, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return nil, nil, err
	}
	seen := map[string]bool{}
	find := func(rule, path, message, fix string) {
		findings = append(findings, Finding{Rule: rule, Severity: severities[rule], File: path, Message: message, Fix: fix})
	}
	err = filepath.WalkDir(dir+string(filepath.Separator), func(path string, entry fs.DirEntry, err error) error {
		path = filepath.Clean(path)
		if err != nil {
			find(ruleUnreadable, path, "cannot be read: "+err.Error(), "mend its permissions or remove it")
			return nil //nolint:nilerr // it is a finding
		}
		if path == filepath.Clean(dir) {
			return nil
		}
		if strings.HasPrefix(entry.Name(), ".") {
			if entry.IsDir() {
				return filepath.SkipDir
			}
			return nil
		}
		if !isYAML(entry.Name()) {
			return nil
		}
		real, err := filepath.EvalSymlinks(path)
		if err != nil {
			find(ruleUnreadable, path, "cannot be read: "+err.Error(), "mend the link or remove it")
			return nil //nolint:nilerr // it is a finding
		}
		info, err := os.Stat(real)
		if err != nil {
			find(ruleUnreadable, path, "cannot be read: "+err.Error(), "mend its permissions or remove it")
			return nil //nolint:nilerr // it is a finding
		}
		if !info.Mode().IsRegular() || seen[real] {
			return nil
		}
		if !within(root, real) {
			find(ruleLinkOutside, path, "is a link to a file outside of the directory and was not read", "copy the file into the directory")
			return nil
		}
		if info.Size() > maxFileSize {
			find(ruleTooLarge, path, "is larger than 8 MiB and was not read", "if it holds objects of rhizome.dev, move them into a file of their own")
			return nil
		}
		if len(paths) == maxFiles {
			find(ruleTooLarge, path, "is beyond the first 10000 YAML files: it and the rest were not read", "name the directory that holds the manifests")
			return filepath.SkipAll
		}
		seen[real] = true
		paths = append(paths, path)
		return nil
	})
	return paths, findings, err
}

func isYAML(name string) bool {
	switch filepath.Ext(name) {
	case ".yaml", ".yml":
		return true
	}
	return false
}

func within(root, path string) bool {
	rel, err := filepath.Rel(root, path)
	return err == nil && filepath.IsLocal(rel)
}
