package inventory

import (
	"fmt"
	"slices"
	"strings"

	"github.com/rhizome-dev/rhizome/internal/plaintext"
)

// Severity of a finding.
type Severity string

// The severities. An Error stops a seed; a Warning is shown and goes on.
const (
	Error   Severity = "Error"
	Warning Severity = "Warning"
)

// Finding is one thing that is wrong, where it is, and what to do about it. It
// never holds a secret.
type Finding struct {
	// Rule is the stable name of the rule that was broken, such as DuplicateMAC.
	Rule string `json:"rule"`
	// Severity is Error or Warning.
	Severity Severity `json:"severity"`
	// Object is kind and name, such as Node/alpha; empty when it is about no one
	// object.
	Object string `json:"object,omitempty"`
	// File is the path of the manifest, and Line the line in it, counted from 1.
	// Empty and zero when the object was not read from a file.
	File string `json:"file,omitempty"`
	Line int    `json:"line,omitempty"`
	// Field is the path of the field, such as spec.media[0].sha256.
	Field string `json:"field,omitempty"`
	// Message says what is wrong, and Fix what to do.
	Message string `json:"message"`
	Fix     string `json:"fix,omitempty"`
}

// String is the finding on one line: file:line: object: field: message; fix.
// Parts that are empty are left out.
func (f Finding) String() string { return f.Location() + f.Text() }

// Location is the beginning of the line, "file:line: ", or empty.
func (f Finding) Location() string {
	switch {
	case f.File == "":
		return ""
	case f.Line == 0:
		return plaintext.Line(f.File) + ": "
	}
	return fmt.Sprintf("%s:%d: ", plaintext.Line(f.File), f.Line)
}

// Text is what follows the location: "object: field: message; fix".
func (f Finding) Text() string {
	var parts []string
	for _, part := range []string{f.Object, f.Field} {
		if part != "" {
			parts = append(parts, part)
		}
	}
	message := f.Message
	if f.Fix != "" {
		message += "; " + f.Fix
	}
	return plaintext.Line(strings.Join(append(parts, message), ": "))
}

// HasErrors says whether any finding is an Error.
func HasErrors(findings []Finding) bool {
	return slices.ContainsFunc(findings, func(f Finding) bool { return f.Severity == Error })
}

// Sort orders findings by file, line, object, field and rule, so that the same
// manifests always give the same list.
func Sort(findings []Finding) {
	slices.SortStableFunc(findings, func(a, b Finding) int {
		for _, c := range []int{
			strings.Compare(a.File, b.File),
			a.Line - b.Line,
			strings.Compare(a.Object, b.Object),
			strings.Compare(a.Field, b.Field),
			strings.Compare(a.Rule, b.Rule),
		} {
			if c != 0 {
				return c
			}
		}
		return strings.Compare(a.Message, b.Message)
	})
}

// Rule documents one rule.
type Rule struct {
	// Name is stable: scripts may match on it.
	Name     string
	Severity Severity
	// Says is what the rule demands, and Why the harm that it keeps off.
	Says, Why string
}
