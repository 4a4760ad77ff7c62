package boot

import (
	"bytes"
	"testing"
)

func TestSuperviseReturnsWhatBecameOfTheChild(t *testing.T) {
	tests := []struct {
		reason, script string
		code           int
		out            string
	}{
		{"success", "echo done", 0, "done\n"},
		{"a failure", "echo no >&2; exit 10", 10, "no\n"},
		{"killed", "echo last words; kill -9 $$", 128 + 9, "last words\n"},
		{"an orphan does not count as the child", "sh -c 'exit 3' & wait; exit 0", 0, ""},
	}
	for _, tt := range tests {
		t.Run(tt.reason, func(t *testing.T) {
			var out bytes.Buffer
			code, err := Supervise("/bin/sh", []string{"-c", tt.script}, &out)
			if err != nil || code != tt.code || out.String() != tt.out {
				t.Errorf("Supervise = %d, %v, printed %q; want %d and %q", code, err, out.String(), tt.code, tt.out)
			}
		})
	}
	if _, err := Supervise("/does/not/exist", nil, new(bytes.Buffer)); err == nil {
		t.Error("a program that is not there was started")
	}
}
