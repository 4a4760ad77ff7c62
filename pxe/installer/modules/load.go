package modules

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
)

// Loader inserts modules, each at most once. It is safe for concurrent use.
type Loader struct {
	Tree *Tree
	// Insert hands the file with this path in the tree's directory to the kernel.
	Insert func(path string) error

	mu   sync.Mutex
	done map[string]error
	seen map[string]bool // modaliases that were resolved
}

// Load inserts what a modalias or module name stands for, after everything that
// it requires. A module whose hardware is missing is not an error.
func (l *Loader) Load(alias string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var errs []error
	for _, name := range l.Tree.Resolve(alias) {
		errs = append(errs, l.load(name, nil))
	}
	return errors.Join(errs...)
}

func (l *Loader) load(name string, above []string) error {
	if err, ok := l.done[name]; ok {
		return err
	}
	if slices.Contains(above, name) {
		return nil // a soft dependency may be circular
	}
	above = append(above, name)
	must, before, after := l.Tree.Requires(name)
	for _, n := range before {
		_ = l.load(n, above)
	}
	var err error
	for _, n := range must {
		if err = l.load(n, above); err != nil {
			err = fmt.Errorf("%s needs %w", name, err)
			break
		}
	}
	if err == nil {
		err = l.Insert(l.Tree.Path(name))
		if errors.Is(err, syscall.EEXIST) || errors.Is(err, syscall.ENODEV) {
			err = nil
		}
		if err != nil {
			err = fmt.Errorf("cannot load the module %s: %w", name, err)
		}
	}
	if l.done == nil {
		l.done = map[string]error{}
	}
	l.done[name] = err
	for _, n := range after {
		_ = l.load(n, above)
	}
	return err
}

// Loaded counts the modules that were inserted.
func (l *Loader) Loaded() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, err := range l.done {
		if err == nil {
			n++
		}
	}
	return n
}

// Coldplug loads what the devices below sysfs ask for by their modalias, and
// goes on until no new ones turn up, because a bus driver brings new devices. It
// may be called again at any time for devices that came later: what was seen
// before costs nothing.
func (l *Loader) Coldplug(sysfs string) error {
	var errs []error
	for {
		fresh := l.fresh(sysfs)
		if len(fresh) == 0 {
			return errors.Join(errs...)
		}
		for _, alias := range fresh {
			if err := l.Load(alias); err != nil {
				errs = append(errs, err)
			}
		}
	}
}

func (l *Loader) fresh(sysfs string) []string {
	files, _ := filepath.Glob(filepath.Join(sysfs, "bus/*/devices/*/modalias"))
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.seen == nil {
		l.seen = map[string]bool{}
	}
	var fresh []string
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			continue // the device went away
		}
		alias := strings.TrimSpace(string(b))
		if alias != "" && !l.seen[alias] {
			l.seen[alias] = true
			fresh = append(fresh, alias)
		}
	}
	return fresh
}
