// Package imports checks who may import whom: the rules that keep the parts of
// the house apart (docs/concepts/structure.md).
package imports

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
)

const module = "github.com/rhizome-dev/rhizome/"

// goPackage is what `go list -json` tells of a package.
type goPackage struct {
	ImportPath string
	Imports    []string
	Deps       []string
}

// list runs go list for one target platform, without cgo.
func list(t *testing.T, goos, goarch string, patterns ...string) []goPackage {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-json=ImportPath,Imports,Deps"}, patterns...)...)
	cmd.Dir = "../.."
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+goos, "GOARCH="+goarch)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("cannot list %v: %v\n%s", patterns, err, stderr.String())
	}
	var packages []goPackage
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		packages = append(packages, p)
	}
	if len(packages) == 0 {
		t.Fatalf("no package matches %v: the rule would hold of nothing", patterns)
	}
	return packages
}

// under says whether the import path is dir or below it. A dir that begins with
// a dot is of this module.
func under(path, dir string) bool {
	dir = strings.Replace(dir, "./", module, 1)
	return path == dir || strings.HasPrefix(path, dir+"/")
}

func TestDirectImports(t *testing.T) {
	rules := []struct {
		pattern string
		reason  string
		// allowed lists the only non-standard imports; nil: everything that is not
		// forbidden.
		allowed   []string
		forbidden []string
	}{
		{
			pattern: "./crds/v1alpha1",
			reason:  "the API types can be imported by anybody for the price of apimachinery",
			allowed: []string{"k8s.io/apimachinery"},
		},
		{
			pattern:   "./pxe/...",
			reason:    "network boot knows machines and packets, no Kubernetes",
			forbidden: []string{"k8s.io", "sigs.k8s.io", "./crds", "./internal", "./operator", "./bootstrapper", "./chart"},
		},
		{
			pattern:   "./internal/...",
			reason:    "what both front ends share depends on neither",
			forbidden: []string{"./operator", "./bootstrapper"},
		},
		{
			pattern:   "./operator/...",
			reason:    "the operator is a front end of its own",
			forbidden: []string{"./bootstrapper"},
		},
		{
			pattern:   "./bootstrapper/...",
			reason:    "the bootstrapper is a front end of its own",
			forbidden: []string{"./operator"},
		},
	}
	for _, rule := range rules {
		t.Run(rule.pattern, func(t *testing.T) {
			for _, p := range list(t, "linux", "amd64", rule.pattern) {
				for _, imported := range p.Imports {
					if !strings.Contains(strings.Split(imported, "/")[0], ".") {
						continue // the standard library
					}
					ok := rule.allowed == nil
					for _, dir := range rule.allowed {
						ok = ok || under(imported, dir)
					}
					for _, dir := range rule.forbidden {
						ok = ok && !under(imported, dir)
					}
					if !ok {
						t.Errorf("%s imports %s: %s", p.ImportPath, imported, rule.reason)
					}
				}
			}
		})
	}
}

// Controllers meet in the API, not in each other's code.
func TestControllersDoNotImportEachOther(t *testing.T) {
	for _, p := range list(t, "linux", "amd64", "./operator/...") {
		rest := strings.TrimPrefix(p.ImportPath, module+"operator")
		if rest == "" {
			continue // the wiring imports them all
		}
		own := "./operator/" + strings.Split(strings.TrimPrefix(rest, "/"), "/")[0]
		for _, imported := range p.Imports {
			if under(imported, "./operator") && !under(imported, own) {
				t.Errorf("%s imports %s", p.ImportPath, imported)
			}
		}
	}
}

// The bootstrapper stays small: neither a controller manager nor Argo CD is
// linked, on any platform that it builds for.
func TestBootstrapperLinksNoManager(t *testing.T) {
	forbidden := []string{
		"sigs.k8s.io/controller-runtime/pkg/manager",
		"github.com/argoproj/argo-cd",
		"./operator",
		"./test",
	}
	for _, platform := range [][2]string{{"linux", "amd64"}, {"linux", "arm64"}, {"darwin", "amd64"}, {"darwin", "arm64"}} {
		for _, p := range list(t, platform[0], platform[1], "./bootstrapper") {
			for _, dep := range p.Deps {
				for _, dir := range forbidden {
					if under(dep, dir) {
						t.Errorf("on %s/%s the bootstrapper links %s", platform[0], platform[1], dep)
					}
				}
			}
		}
	}
}

// Test code and its fakes are never linked into what users run.
func TestProductsLinkNoTestCode(t *testing.T) {
	for _, p := range list(t, "linux", "amd64", ".", "./bootstrapper", "./pxe/installer") {
		for _, dep := range p.Deps {
			if under(dep, "./test") {
				t.Errorf("%s links %s", p.ImportPath, dep)
			}
		}
	}
}
