package modules

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sync/errgroup"
)

// Loader inserts modules, each at most once. It is safe for concurrent use.
type Loader struct {
	Tree *Tree
	// Insert hands the file with this path in the tree's directory to the kernel.
	Insert func(path string) error

	mu       sync.Mutex
	inserted map[string]func() error
	seen     map[string]bool // modaliases that were resolved
}

// Load inserts what a modalias or module name stands for, after everything that
// it requires. A module whose hardware is missing is not an error.
func (l *Loader) Load(alias string) error {
	var errs []error
	for _, name := range l.Tree.Resolve(alias) {
		for _, n := range l.Tree.Order(name) {
			if err := l.once(n)(); err != nil && n == name {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

// once returns the one insertion of a module. It waits for no other module, so
// that loading in parallel cannot lock up, however modules depend on each other.
func (l *Loader) once(name string) func() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if f, ok := l.inserted[name]; ok {
		return f
	}
	f := sync.OnceValue(func() error {
		err := l.Insert(l.Tree.Path(name))
		if err == nil || errors.Is(err, syscall.EEXIST) || errors.Is(err, syscall.ENODEV) {
			return nil
		}
		return fmt.Errorf("cannot load the module %s: %w", name, err)
	})
	if l.inserted == nil {
		l.inserted = map[string]func() error{}
	}
	l.inserted[name] = f
	return f
}

// Loaded counts the modules that were asked for.
func (l *Loader) Loaded() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.inserted)
}

// parallel bounds how many drivers look for their hardware at the same time. A
// disk controller may take seconds, and the network shall not wait for it.
const parallel = 8

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
		var group errgroup.Group
		group.SetLimit(parallel)
		failed := make([]error, len(fresh))
		for i, alias := range fresh {
			group.Go(func() error {
				failed[i] = l.Load(alias)
				return nil
			})
		}
		_ = group.Wait() // the errors are in failed
		errs = append(errs, failed...)
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
