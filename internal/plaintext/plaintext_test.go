package plaintext

import (
	"testing"
	"unicode/utf8"
)

func TestLine(t *testing.T) {
	tests := []struct{ in, want string }{
		{"plain", "plain"},
		{"two\r\nlines\tand more", "two  lines and more"},
		{"\x1b[31mred\x07\u009b0m", "[31mred0m"},
		{"one\u2028line \u202eevil\u200b", "one line evil"},
		{"broken \xff\xfe bytes, größe", "broken  bytes, größe"},
		{"", ""},
	}
	for _, tt := range tests {
		if got := Line(tt.in); got != tt.want {
			t.Errorf("Line(%q) = %q, want %q", tt.in, got, tt.want)
		}
	}
}

func TestClipCutsBetweenCharacters(t *testing.T) {
	for limit := range 8 {
		got := Clip("äöü\n", limit)
		if len(got) > limit || !utf8.ValidString(got) {
			t.Errorf("Clip to %d bytes gave %q", limit, got)
		}
	}
	if got := Clip("äöü\n", 100); got != "äöü " {
		t.Errorf("Clip took something of a short text: %q", got)
	}
}
