package program

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Module is the directory of Rhizome's own go.mod, above the test's directory.
func Module() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for d := dir; ; d = filepath.Dir(d) {
		b, err := os.ReadFile(filepath.Join(d, "go.mod"))
		if err == nil && strings.HasPrefix(string(b), "module github.com/rhizome-dev/rhizome\n") {
			return d, nil
		}
		if d == filepath.Dir(d) {
			return "", fmt.Errorf("%s is not inside Rhizome's module", dir)
		}
	}
}

// Build is Script for a test.
func Build(t testing.TB, script string) string {
	t.Helper()
	path, err := Script(script)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// Script runs a build script of the repository, named by its path below the
// module's directory, and returns the path that it prints last. The scripts
// keep what they build: only the first run takes long.
func Script(script string) (string, error) {
	root, err := Module()
	if err != nil {
		return "", err
	}
	cmd := exec.Command(filepath.Join(root, script))
	var progress strings.Builder
	cmd.Stderr = &progress
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("cannot build what the test runs (%s): %w\n%s", script, err, progress.String())
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return lines[len(lines)-1], nil
}
