// Package plaintext makes text that others wrote fit for one line of output: part
// of what is shown was written by machines on the network, or stands in files.
package plaintext

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Line keeps s on one line and takes out what could drive a terminal or a reader's
// eye: line breaks and tabs become blanks; other control characters, those that turn
// the direction of writing or cannot be seen (Unicode's Cf), and broken UTF-8 go.
func Line(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t' || r == '\r' || r == '\u2028' || r == '\u2029':
			return ' '
		case r == utf8.RuneError || unicode.IsControl(r) || unicode.Is(unicode.Cf, r):
			return -1
		}
		return r
	}, s)
}

// Clip is Line, with at most limit bytes, cut between two characters.
func Clip(s string, limit int) string {
	s = Line(s)
	for len(s) > limit {
		_, size := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-size]
	}
	return s
}
