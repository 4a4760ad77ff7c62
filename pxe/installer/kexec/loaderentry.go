package kexec

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
)

// ofEntries are variables of entries that are empty until a daemon sets them.
var ofEntries = map[string]string{"tuned_params": "", "tuned_initrd": ""}

// inEntries is the one entry of the Boot Loader Specification (type 1) in a file
// system, or of several the saved one. Rescue entries do not count.
func inEntries(system fs.FS, saved string) (Entry, error) {
	for _, dir := range []string{"loader/entries", "boot/loader/entries"} {
		files, err := fs.ReadDir(system, dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return Entry{}, err
		}
		if len(files) > maxEntries {
			return Entry{}, fmt.Errorf("%s has %d files, more than %d", dir, len(files), maxEntries)
		}
		var names []string
		for _, f := range files {
			id, ok := strings.CutSuffix(f.Name(), ".conf")
			switch {
			case !ok || strings.Contains(id, "rescue"):
			case id == saved:
				return inEntry(system, path.Join(dir, f.Name()))
			default:
				names = append(names, path.Join(dir, f.Name()))
			}
		}
		switch len(names) {
		case 0:
			continue
		case 1:
			return inEntry(system, names[0])
		}
		return Entry{}, fmt.Errorf("%s has %d entries, and none is named as the one to start", dir, len(names))
	}
	return Entry{}, errNone
}

func inEntry(system fs.FS, name string) (Entry, error) {
	text, err := read(system, name)
	if err != nil {
		return Entry{}, err
	}
	var entry Entry
	var args []string
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSpace(strings.ReplaceAll(line, "\t", " ")), " ")
		switch key {
		case "linux", "initrd", "options":
		case "efi", "uki", "devicetree":
			return Entry{}, fmt.Errorf("%s: it starts %s", name, key)
		default:
			continue
		}
		values, err := words(value, ofEntries)
		if err != nil {
			return Entry{}, fmt.Errorf("%s: %w", name, err)
		}
		switch {
		case key == "options":
			args = append(args, values...)
		case key == "initrd":
			entry.Initrds = append(entry.Initrds, values...)
		case len(values) == 1:
			entry.Kernel = values[0]
		}
	}
	if entry.Args, err = commandLine(args); err != nil {
		return Entry{}, fmt.Errorf("%s: %w", name, err)
	}
	return entry, nil
}
