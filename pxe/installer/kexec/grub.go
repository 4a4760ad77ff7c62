package kexec

import (
	"errors"
	"fmt"
	"strings"
)

// errEntriesElsewhere says that GRUB's script takes its entries from files.
var errEntriesElsewhere = errors.New("its entries are files")

// ofGRUB are variables that distributions leave empty on a first boot.
var ofGRUB = map[string]string{"vt_handoff": "", "extra_cmdline": ""}

// inGRUB is what a script of GRUB starts by default: the one pair of linux and initrd
// of its first entry, or of the script itself if it has no entries. saved is the entry
// that GRUB's environment names.
//
// A script is a program. Only what grub-mkconfig writes for one system is understood:
// a first entry whose kernel hangs on no condition, and no other default than it.
func inGRUB(script, saved string) (Entry, error) {
	var entry Entry
	var kernels, initrds int
	var otherDefault error    // that counts if the entries are the script's own
	depth, conditions := 0, 0 // of braces and of if
	entries, first := 0, 0    // entries so far; the depth within the first one
	for line := range strings.Lines(script) {
		line = strings.TrimSpace(line)
		command, _, _ := strings.Cut(strings.ReplaceAll(line, "\t", " "), " ")
		switch command {
		case "if":
			if !endsInFi(line) {
				conditions++
			}
			continue
		case "fi", "fi;":
			conditions--
			continue
		case "blscfg":
			return Entry{}, errEntriesElsewhere
		case "menuentry", "submenu", "function":
			if strings.HasSuffix(line, "{") {
				depth++
			}
			if command != "function" {
				if entries++; entries == 1 {
					if command == "submenu" {
						return Entry{}, errors.New("its first entry is a menu")
					}
					// What came before belongs to no entry.
					entry, kernels, initrds, first = Entry{}, 0, 0, depth
				}
			}
			continue
		case "}":
			if depth == first {
				first = -1
			}
			depth--
			continue
		case "linux", "linux16", "linuxefi", "initrd", "initrd16", "initrdefi": // below
		case "set":
			line = strings.TrimSpace(strings.TrimPrefix(line, command))
			fallthrough
		default:
			if name, value, _ := strings.Cut(line, "="); name == "default" {
				switch value = strings.Trim(value, `"'`); {
				case value == "0", value == "${next_entry}": // of a next one savedEntry has said that there is none
				case value == "${saved_entry}" && (saved == "" || saved == "0"):
				case value == "${saved_entry}":
					otherDefault = fmt.Errorf("its default is another entry than the first: %s", saved)
				default:
					return Entry{}, fmt.Errorf("its default is another entry than the first: %s", value)
				}
			}
			continue
		}
		if entries > 1 || entries == 1 && depth != first || entries == 0 && depth != 0 {
			continue
		}
		if conditions != 0 {
			return Entry{}, fmt.Errorf("its command %s hangs on a condition", command)
		}
		args, err := words(line, ofGRUB)
		if err != nil {
			return Entry{}, err
		}
		if len(args) < 2 {
			return Entry{}, fmt.Errorf("its command %s names no file", command)
		}
		if strings.HasPrefix(command, "initrd") {
			entry.Initrds = args[1:]
			initrds++
			continue
		}
		kernels++
		entry.Kernel = args[1]
		if entry.Args, err = commandLine(args[2:]); err != nil {
			return Entry{}, err
		}
	}
	switch {
	case otherDefault != nil:
		return Entry{}, otherDefault
	case kernels == 0:
		return Entry{}, errors.New("its first entry starts no kernel")
	case kernels > 1 || initrds > 1:
		return Entry{}, errors.New("its first entry names several kernels")
	}
	for _, name := range append([]string{entry.Kernel}, entry.Initrds...) {
		if !strings.HasPrefix(name, "/") {
			return Entry{}, fmt.Errorf("its first entry starts %s, which is on another device", name)
		}
	}
	return entry, nil
}

// endsInFi says whether a condition is over on its own line.
func endsInFi(line string) bool {
	return strings.HasSuffix(line, " fi") || strings.HasSuffix(line, ";fi")
}
