// Package kernelargs reads the kernel command line.
package kernelargs

import "strings"

// Args are the parameters of a kernel command line by name. A parameter without
// a value has the empty string.
type Args map[string][]string

// Parse splits a command line as the kernel does: by white space, where double
// quotes keep a value together (Documentation/admin-guide/kernel-parameters).
// Words after a lone "--" are for the init program and parsed alike. There is no
// malformed command line: every byte sequence gives some Args.
func Parse(line string) Args {
	args := Args{}
	for _, word := range split(line) {
		name, value, _ := strings.Cut(word, "=")
		name = strings.Trim(name, `"`)
		if name == "" || name == "--" {
			continue
		}
		args[name] = append(args[name], strings.Trim(value, `"`))
	}
	return args
}

func split(line string) []string {
	quoted := false
	return strings.FieldsFunc(line, func(r rune) bool {
		if r == '"' {
			quoted = !quoted
		}
		return !quoted && (r == ' ' || r == '\t' || r == '\n' || r == '\r' || r == 0)
	})
}

// Get returns the last value of a parameter, as the last one wins in the kernel;
// empty when there is none.
func (a Args) Get(name string) string {
	values := a[name]
	if len(values) == 0 {
		return ""
	}
	return values[len(values)-1]
}

// Has reports whether the parameter is present at all.
func (a Args) Has(name string) bool { return len(a[name]) > 0 }
