package config

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"

	"sigs.k8s.io/yaml"
)

// settings is what the config files say, by key.
type settings map[string]setting

type setting struct {
	values []string
	file   string
}

func (s settings) keys() []string {
	out := make([]string, 0, len(s))
	for k := range s {
		out = append(out, k)
	}
	sort.Strings(out)
	return out
}

func (s settings) check(cmd command, name string) error {
	var errs []error
	for _, key := range s.keys() {
		known, here := false, false
		for _, f := range flags {
			if f.name == key {
				known, here = true, f.command&cmd != 0
			}
		}
		switch {
		case !known:
			errs = append(errs, fmt.Errorf("%s: key %q: k3s has no such flag", s[key].file, key))
		case !here:
			errs = append(errs, fmt.Errorf("%s: key %q: k3s %s has no such flag", s[key].file, key, name))
		}
	}
	return errors.Join(errs...)
}

// readFiles reads path and then path.d/*.yaml in order; a later file's key
// replaces an earlier one's, or adds to it when written with a trailing plus.
func readFiles(path string, explicit bool) (settings, error) {
	out := settings{}
	files := []string{path}
	more, _ := filepath.Glob(filepath.Join(path+".d", "*.yaml"))
	sort.Strings(more)
	for _, file := range append(files, more...) {
		b, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) && file == path && !explicit {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("cannot read the config file: %w", err)
		}
		if err := out.add(file, b); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (s settings) add(file string, b []byte) error {
	var m map[string]any
	if err := yaml.UnmarshalStrict(b, &m); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	// Sorted, so that a key stands before the same key with a plus.
	for _, key := range slices.Sorted(maps.Keys(m)) {
		values, err := scalars(m[key])
		if err != nil {
			return fmt.Errorf("%s: key %q: %w", file, key, err)
		}
		if plain, appended := strings.CutSuffix(key, "+"); appended {
			key = plain
			values = append(append([]string(nil), s[key].values...), values...)
		}
		s[key] = setting{values: values, file: file}
	}
	return nil
}

func scalars(v any) ([]string, error) {
	switch v := v.(type) {
	case nil:
		return nil, nil
	case string:
		return []string{v}, nil
	case bool:
		return []string{strconv.FormatBool(v)}, nil
	case float64:
		return []string{strconv.FormatFloat(v, 'f', -1, 64)}, nil
	case []any:
		var out []string
		for _, e := range v {
			s, err := scalars(e)
			if err != nil || len(s) != 1 {
				return nil, fmt.Errorf("list element %v is not a scalar", e)
			}
			out = append(out, s[0])
		}
		return out, nil
	}
	return nil, fmt.Errorf("%v is neither a scalar nor a list", v)
}
