// Package kexec starts the system that was just installed without going through the
// firmware: it finds what the system's boot loader would start, and has the running
// kernel start it.
//
// It guesses nothing. Where a boot configuration says more than it understands, it
// says so, and the machine restarts.
package kexec

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
)

// Entry is what a boot loader would start.
type Entry struct {
	Kernel  string   // path in the file system, without a slash in front
	Initrds []string // paths, too; they are put one behind the other
	Args    string   // the kernel's command line
}

// Bounds of what is read of a boot configuration.
const (
	maxConfig  = 1 << 20 // bytes of a file
	maxEntries = 64      // files of entries
	// maxArgs is the length of the longest command line in bytes: of x86 kernels, the
	// final zero apart.
	maxArgs = 2047
)

// errNone is a file system without a boot configuration.
var errNone = errors.New("there is no boot configuration in it")

// Find is what the boot loader would start that has its configuration in this file
// system. Its errors say what is not as expected.
func Find(system fs.FS) (Entry, error) {
	for _, dir := range []string{"boot/grub", "grub", "boot/grub2", "grub2"} {
		config, err := read(system, path.Join(dir, "grub.cfg"))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return Entry{}, err
		}
		saved, err := savedEntry(system, path.Join(dir, "grubenv"))
		if err != nil {
			return Entry{}, err
		}
		entry, err := inGRUB(config, saved)
		if errors.Is(err, errEntriesElsewhere) {
			entry, err = inEntries(system, saved)
		}
		if err == nil {
			err = entry.check(system)
		}
		if err != nil {
			return Entry{}, fmt.Errorf("%s: %w", path.Join(dir, "grub.cfg"), err)
		}
		return entry, nil
	}
	entry, err := inEntries(system, "")
	if err == nil {
		err = entry.check(system)
	}
	return entry, err
}

// check makes paths plain and sees whether the files are there.
func (e *Entry) check(system fs.FS) error {
	if e.Kernel == "" {
		return errors.New("it names no kernel")
	}
	if len(e.Args) > maxArgs {
		return fmt.Errorf("the kernel's command line has %d bytes, more than %d", len(e.Args), maxArgs)
	}
	names := append([]*string{&e.Kernel}, make([]*string, len(e.Initrds))...)
	for i := range e.Initrds {
		names[i+1] = &e.Initrds[i]
	}
	for _, name := range names {
		*name = strings.TrimPrefix(path.Clean("/"+*name), "/")
		info, err := fs.Stat(system, *name)
		if err != nil {
			return fmt.Errorf("cannot find what it starts: %w", err)
		}
		if !info.Mode().IsRegular() {
			return fmt.Errorf("%s is not a file", *name)
		}
	}
	return nil
}

func read(system fs.FS, name string) (string, error) {
	f, err := system.Open(name)
	if err != nil {
		return "", err
	}
	b, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err := errors.Join(err, f.Close()); err != nil {
		return "", err
	}
	if len(b) > maxConfig {
		return "", fmt.Errorf("%s has more than %d bytes", name, maxConfig)
	}
	return string(b), nil
}

// savedEntry is the entry that GRUB's environment block names, empty for none.
func savedEntry(system fs.FS, name string) (string, error) {
	block, err := read(system, name)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	saved := ""
	for line := range strings.Lines(block) {
		switch key, value, _ := strings.Cut(strings.TrimRight(line, "\n"), "="); key {
		case "next_entry":
			if value != "" {
				return "", fmt.Errorf("%s names %q for the next boot only", name, value)
			}
		case "saved_entry":
			saved = value
		}
	}
	return saved, nil
}

// words splits a line as GRUB does (GRUB manual, section "Quoting"). known are
// variables with their values; every other one is an error.
func words(line string, known map[string]string) ([]string, error) {
	var out []string
	var word strings.Builder
	in, begun := rune(0), false // the quotes that the place is in; whether there is a word
	flush := func() {
		if begun {
			out = append(out, word.String())
		}
		word.Reset()
		begun = false
	}
	for rest := line; rest != ""; {
		r := rune(rest[0])
		rest = rest[1:]
		switch {
		case in == '\'' && r != '\'', in == '"' && r != '"' && r != '$' && r != '\\':
			word.WriteByte(byte(r))
		case in == r && r != 0:
			in = 0
		case r == '\'' || r == '"':
			in, begun = r, true
		case r == '\\':
			if rest == "" {
				return nil, errors.New("a line ends with a backslash")
			}
			if in == '"' && !strings.ContainsRune("$\"\\", rune(rest[0])) {
				word.WriteByte('\\')
			}
			word.WriteByte(rest[0])
			rest, begun = rest[1:], true
		case r == '$':
			name := variable(rest)
			value, ok := known[strings.Trim(name, "{}")]
			if !ok {
				return nil, fmt.Errorf("the value of $%s is not known", name)
			}
			word.WriteString(value)
			begun = begun || in != 0 || value != ""
			rest = rest[len(name):]
		case r == ' ' || r == '\t' || r == '\r':
			flush()
		case r == '#' && !begun:
			rest = ""
		default:
			word.WriteByte(byte(r))
			begun = true
		}
	}
	if in != 0 {
		return nil, errors.New("a quote is not closed")
	}
	flush()
	return out, nil
}

// variable is the name at the beginning of s, with its braces.
func variable(s string) string {
	if strings.HasPrefix(s, "{") {
		if end := strings.IndexByte(s, '}'); end > 0 {
			return s[:end+1]
		}
		return s
	}
	end := strings.IndexFunc(s, func(r rune) bool {
		return r != '_' && (r < '0' || '9' < r) && (r < 'A' || 'Z' < r) && (r < 'a' || 'z' < r)
	})
	if end < 0 {
		return s
	}
	return s[:end]
}

// commandLine joins arguments as the kernel takes them apart again: those with blanks
// in double quotes (the kernel's admin guide, "kernel-parameters").
func commandLine(args []string) (string, error) {
	var out []string
	for _, a := range args {
		if strings.ContainsFunc(a, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return "", errors.New("an argument of the kernel has a character that cannot be printed")
		}
		if strings.Contains(a, " ") {
			if strings.Contains(a, `"`) {
				return "", errors.New("an argument of the kernel has blanks and quotes")
			}
			if name, value, ok := strings.Cut(a, "="); ok && !strings.Contains(name, " ") {
				a = name + `="` + value + `"`
			} else {
				a = `"` + a + `"`
			}
		}
		out = append(out, a)
	}
	return strings.Join(out, " "), nil
}
