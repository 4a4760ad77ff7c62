// Package initramfs makes the installer's initial ramdisk out of its program and
// a distribution's kernel modules.
package initramfs

import (
	"bufio"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/rhizome-dev/rhizome/pxe/installer/modules"
)

// Choice says which modules go into the ramdisk.
type Choice struct{ rules []rule }

type rule struct {
	pattern string // of a file without its suffix, or of a directory
	below   bool   // everything below the directory
	away    bool
}

// ReadChoice reads a list of modules; see modules.list for its form.
func ReadChoice(r io.Reader) (Choice, error) {
	var c Choice
	scanner := bufio.NewScanner(r)
	for n := 1; scanner.Scan(); n++ {
		line := strings.TrimSpace(scanner.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		var next rule
		if rest, ok := strings.CutPrefix(line, "-"); ok {
			next.away, line = true, strings.TrimSpace(rest)
		}
		if rest, ok := strings.CutSuffix(line, "/"); ok {
			next.below, line = true, rest
		}
		if _, err := path.Match(line, ""); err != nil || line == "" {
			return Choice{}, fmt.Errorf("line %d: cannot read the pattern %q", n, line)
		}
		next.pattern = line
		c.rules = append(c.rules, next)
	}
	return c, scanner.Err()
}

// Select returns the names of the chosen modules and of all that they require,
// sorted.
func (c Choice) Select(tree *modules.Tree) []string {
	var names []string
	for _, name := range tree.Names() {
		if c.chosen(tree.Path(name)) {
			names = append(names, tree.Order(name)...)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// chosen: the last rule that matches decides.
func (c Choice) chosen(file string) bool {
	file = strings.TrimPrefix(file, "kernel/")
	if i := strings.Index(file, ".ko"); i >= 0 {
		file = file[:i]
	}
	for _, r := range slices.Backward(c.rules) {
		if r.matches(file) {
			return !r.away
		}
	}
	return false
}

func (r rule) matches(file string) bool {
	if !r.below {
		ok, _ := path.Match(r.pattern, file)
		return ok
	}
	for dir := path.Dir(file); dir != "."; dir = path.Dir(dir) {
		if ok, _ := path.Match(r.pattern, dir); ok {
			return true
		}
	}
	return false
}
