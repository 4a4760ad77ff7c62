package main

import (
	"strings"
	"testing"
)

func TestLastWordsAreThoseOfThePanic(t *testing.T) {
	for _, tt := range []struct{ printed, want string }{
		{"rhizome: working\npanic: index out of range\n\ngoroutine 1 [running]:\n", "panic: index out of range"},
		{"fatal error: runtime: out of memory\n\nruntime stack:\n", "fatal error: runtime: out of memory"},
		{strings.Repeat("rhizome: working\n", 10000), "it was killed"},
		{strings.Repeat("x", 100<<10) + "\npanic: late\n", "panic: late"},
	} {
		var l lastWords
		for chunk := range strings.SplitAfterSeq(tt.printed, "\n") {
			_, _ = l.Write([]byte(chunk))
		}
		if got := l.String(); got != tt.want {
			t.Errorf("last words are %q, want %q", got, tt.want)
		}
		if len(l.text) > 128<<10 {
			t.Errorf("%d bytes are kept", len(l.text))
		}
	}
}
