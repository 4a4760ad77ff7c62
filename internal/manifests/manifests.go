// Package manifests reads a directory of manifests into an inventory and finds,
// before anything is applied, what the API server would refuse.
//
// It judges with the API server's own code and the generated
// CustomResourceDefinitions, so its messages are the API server's. Rules that
// compare an object with what it was before are not applied: there is no before.
package manifests

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/rhizome-dev/rhizome/internal/inventory"
)

// Finding is one thing that is wrong.
type Finding = inventory.Finding

// Result is what a directory holds.
type Result struct {
	Inventory inventory.Inventory
	Findings  []Finding
	Files     int // YAML files that were read
	Objects   int // objects of our group
	Skipped   int // documents that are none of ours
}

// ReadDir reads a directory: the inventory and the findings of Read.
func ReadDir(dir string) (inventory.Inventory, []Finding, error) {
	r, err := Read(dir)
	return r.Inventory, r.Findings, err
}

// Read reads every object of the group rhizome.dev in the YAML files below dir,
// strictly decoded, with the schema's defaults set, and judged by the schema. An
// object that is wrong is in the inventory all the same, as far as it can be
// understood, so that the rules between objects do not miss it: before the
// inventory is put to use, the findings must hold no Error.
//
// Files are YAML by their ending, .yaml or .yml. Hidden files and directories,
// linked directories, and documents of other groups (a kustomization, a
// Deployment) are passed over. The error is only about dir itself; what is wrong
// below it is a finding.
func Read(dir string) (Result, error) {
	info, err := os.Stat(dir)
	if err != nil {
		return Result{}, fmt.Errorf("cannot read the manifests: %w", err)
	}
	if !info.IsDir() {
		return Result{}, fmt.Errorf("cannot read the manifests: %s is not a directory", dir)
	}
	r := reader{result: Result{Inventory: inventory.Inventory{Origins: map[inventory.Key]inventory.Origin{}}}}
	paths, findings, err := walk(dir)
	if err != nil {
		return Result{}, fmt.Errorf("cannot read the manifests: %w", err)
	}
	r.result.Findings = findings
	for _, path := range paths {
		content, err := os.ReadFile(path)
		if err != nil {
			r.find(Finding{Rule: ruleUnreadable, File: path, Message: "cannot be read: " + err.Error(), Fix: "mend its permissions or remove it"})
			continue
		}
		r.file(path, content)
	}
	inventory.Sort(r.result.Findings)
	return r.result, nil
}

// Parse reads the objects of one file's content, as Read does. The name is used
// in findings and origins.
func Parse(name string, content []byte) Result {
	r := reader{result: Result{Inventory: inventory.Inventory{Origins: map[inventory.Key]inventory.Origin{}}}}
	r.file(filepath.Clean(name), content)
	inventory.Sort(r.result.Findings)
	return r.result
}

// reader collects what is found.
type reader struct {
	result Result
	full   bool // the bound on objects was reached
}

// maxMessage bounds what a finding repeats of a manifest, in bytes.
const maxMessage = 1000

func (r *reader) find(f Finding) {
	if len(f.Message) > maxMessage {
		f.Message = strings.ToValidUTF8(f.Message[:maxMessage], "") + "..."
	}
	f.Severity = severities[f.Rule]
	r.result.Findings = append(r.result.Findings, f)
}

func (r *reader) file(path string, content []byte) {
	r.result.Files++
	for _, d := range split(content) {
		r.document(path, d)
	}
}
