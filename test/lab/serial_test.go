package lab

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestConsoleOutputIsReadWithoutTerminalCodes(t *testing.T) {
	tests := []struct{ reason, output, want string }{
		{"colours", "[\x1b[0;32m  OK  \x1b[0m] Reached target\r\n", "[  OK  ] Reached target\n"},
		{"cursor positions of firmware", "\x1b[2J\x1b[01;01H\x1b[=3hBdsDxe: loading\r\n", "BdsDxe: loading\n"},
		{"character sets and modes", "\x1b(B\x1b[?25l\x1b=text\x1b>", "text"},
		{"bytes that are not UTF-8", "caf\xe9 ok", "caf? ok"},
	}
	for _, test := range tests {
		if diff := cmp.Diff(test.want, plain([]byte(test.output))); diff != "" {
			t.Errorf("%s: (-want +got)\n%s", test.reason, diff)
		}
	}
}

func TestTailIsTheLastLinesWithText(t *testing.T) {
	if diff := cmp.Diff("three\nfour", tail([]byte("one\ntwo\r\n\r\nthree\n \nfour"), 2)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if diff := cmp.Diff("one", tail([]byte("one"), 30)); diff != "" {
		t.Errorf("fewer lines than asked for: (-want +got)\n%s", diff)
	}
}

func TestSerialSearchGoesOnBehindTheLastMatch(t *testing.T) {
	path := filepath.Join(t.TempDir(), "serial.log")
	log := serialLog{path: path}
	short, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := log.wait(short, regexp.MustCompile("login:")); err == nil {
		t.Error("a line was found in a log that does not exist")
	}
	write := func(text string) {
		t.Helper()
		file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := file.WriteString(text); err != nil {
			t.Fatal(err)
		}
		if err := file.Close(); err != nil {
			t.Fatal(err)
		}
	}
	write("power on 1\r\nm1 login:")
	if line, err := log.wait(t.Context(), regexp.MustCompile("login:$")); err != nil || line != "m1 login:" {
		t.Fatalf("wait = %q, %v", line, err)
	}
	if _, found, _ := log.find(regexp.MustCompile("login:")); found {
		t.Error("the same line was found twice")
	}
	write("\r\npower on 2\r\nm1 login:")
	if line, err := log.wait(t.Context(), regexp.MustCompile("power on")); err != nil || line != "power on 2" {
		t.Errorf("wait = %q, %v", line, err)
	}
}
