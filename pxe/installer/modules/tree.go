// Package modules loads the kernel modules that the machine's devices ask for.
package modules

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// Tree is what depmod wrote about a directory of kernel modules (modprobe.d(5),
// modules.dep(5)). It is read-only once open and safe for concurrent use.
type Tree struct {
	paths   map[string]string   // module name: path in the directory
	deps    map[string][]string // module name: names, in the order that they must be loaded
	pre     map[string][]string // module name: soft dependencies, names or aliases
	post    map[string][]string
	builtin map[string]bool
	// aliases by the text before their first colon, in file order.
	aliases map[string][]Alias
}

// Alias says that devices whose modalias matches Pattern want Module.
type Alias struct{ Pattern, Module string }

// Name is a module's name: the file name without its suffixes, dashes being
// underscores, as the kernel lists it.
func Name(file string) string {
	base := path.Base(file)
	if i := strings.Index(base, ".ko"); i >= 0 {
		base = base[:i]
	}
	return strings.ReplaceAll(base, "-", "_")
}

// Open reads the files that depmod writes: modules.dep must be there, the others
// may be missing.
func Open(dir fs.FS) (*Tree, error) {
	t := &Tree{
		paths: map[string]string{}, deps: map[string][]string{},
		pre: map[string][]string{}, post: map[string][]string{},
		builtin: map[string]bool{}, aliases: map[string][]Alias{},
	}
	for _, f := range []struct {
		name string
		read func(io.Reader) error
		need bool
	}{
		{"modules.dep", t.readDep, true},
		{"modules.alias", t.readAlias, false},
		{"modules.softdep", t.readSoftdep, false},
		{"modules.builtin", t.readBuiltin, false},
	} {
		file, err := dir.Open(f.name)
		if errors.Is(err, fs.ErrNotExist) && !f.need {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("cannot open %s: %w", f.name, err)
		}
		err = f.read(file)
		if closeErr := file.Close(); err == nil {
			err = closeErr
		}
		if err != nil {
			return nil, fmt.Errorf("cannot read %s: %w", f.name, err)
		}
	}
	return t, nil
}

// lines calls f with each line that is neither empty nor a comment.
func lines(r io.Reader, f func(string)) error {
	scanner := bufio.NewScanner(r)
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		line := strings.TrimSpace(scanner.Text())
		if line != "" && !strings.HasPrefix(line, "#") {
			f(line)
		}
	}
	return scanner.Err()
}

func (t *Tree) readDep(r io.Reader) error {
	return lines(r, func(line string) {
		file, rest, ok := strings.Cut(line, ":")
		if !ok {
			return
		}
		name := Name(file)
		t.paths[name] = file
		// depmod writes the dependencies so that the last is to be loaded first.
		for _, dep := range slices.Backward(strings.Fields(rest)) {
			t.deps[name] = append(t.deps[name], Name(dep))
		}
	})
}

func (t *Tree) readAlias(r io.Reader) error {
	return lines(r, func(line string) {
		fields := strings.Fields(line)
		if len(fields) != 3 || fields[0] != "alias" {
			return
		}
		class := classOf(fields[1])
		t.aliases[class] = append(t.aliases[class], Alias{Pattern: fields[1], Module: Name(fields[2])})
	})
}

func (t *Tree) readSoftdep(r io.Reader) error {
	return lines(r, func(line string) {
		fields := strings.Fields(line)
		if len(fields) < 3 || fields[0] != "softdep" {
			return
		}
		name, into := Name(fields[1]), t.pre
		for _, f := range fields[2:] {
			switch f {
			case "pre:":
				into = t.pre
			case "post:":
				into = t.post
			default:
				into[name] = append(into[name], f)
			}
		}
	})
}

func (t *Tree) readBuiltin(r io.Reader) error {
	return lines(r, func(line string) { t.builtin[Name(line)] = true })
}

// classOf is the text before the first colon, when a pattern cannot match
// anything else there; otherwise empty.
func classOf(pattern string) string {
	class, _, found := strings.Cut(pattern, ":")
	if !found || strings.ContainsAny(class, "*?[\\") {
		return ""
	}
	return class
}

// Resolve returns the names of the modules that a modalias or a module name
// stands for, in the order of the alias file; none when there is no such module
// or it is built into the kernel.
func (t *Tree) Resolve(alias string) []string {
	if name := Name(alias); t.paths[name] != "" {
		return []string{name}
	}
	var found []string
	match := func(aliases []Alias) {
		for _, a := range aliases {
			if t.paths[a.Module] != "" && matches(a.Pattern, alias) && !slices.Contains(found, a.Module) {
				found = append(found, a.Module)
			}
		}
	}
	if class := classOf(alias); class != "" {
		match(t.aliases[class])
	}
	match(t.aliases[""])
	return found
}

// matches is fnmatch(3) without flags, as modprobe uses it: a slash is a
// character like any other.
func matches(pattern, s string) bool {
	ok, err := path.Match(strings.ReplaceAll(pattern, "/", "\x01"), strings.ReplaceAll(s, "/", "\x01"))
	return err == nil && ok
}

// Path is the module's file in the directory; empty when there is no such module.
func (t *Tree) Path(name string) string { return t.paths[name] }

// Names lists all modules, sorted.
func (t *Tree) Names() []string {
	names := make([]string, 0, len(t.paths))
	for name := range t.paths {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Order lists the module and everything that it requires, hard and soft, in the
// order in which they are to be loaded. What requires each other in a circle, as
// soft dependencies may, is listed once.
func (t *Tree) Order(name string) []string {
	var order []string
	seen := map[string]bool{}
	var visit func(string)
	aliases := func(words []string) {
		for _, w := range words {
			for _, n := range t.Resolve(w) {
				visit(n)
			}
		}
	}
	visit = func(name string) {
		if seen[name] || t.paths[name] == "" {
			return
		}
		seen[name] = true
		aliases(t.pre[name])
		for _, n := range t.deps[name] {
			visit(n)
		}
		order = append(order, name)
		aliases(t.post[name])
	}
	visit(name)
	return order
}
