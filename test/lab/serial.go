package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"sync"
	"time"
)

// terminalCodes are the escape sequences (ECMA-48 CSI and two-byte ones) by
// which firmware and systemd paint a terminal, and carriage returns.
var terminalCodes = regexp.MustCompile(`\x1b(\[[0-9;?=]*[ -/]*[@-~]|[()][0-9A-B]|[=>78cDEM])|\r`)

// plain is the text of console output without what steers a terminal.
func plain(output []byte) string {
	return terminalCodes.ReplaceAllString(string(bytes.ToValidUTF8(output, []byte("?"))), "")
}

// serialLog follows a console's log file. Each search goes on where the last
// match ended.
type serialLog struct {
	path string

	mu     sync.Mutex
	offset int64
}

// wait returns the first line after the last match that matches. Lines that are
// not ended yet count too.
func (s *serialLog) wait(ctx context.Context, pattern *regexp.Regexp) (string, error) {
	for {
		line, found, err := s.find(pattern)
		if found || err != nil {
			return line, err
		}
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (s *serialLog) find(pattern *regexp.Regexp) (line string, found bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	output, err := os.ReadFile(s.path)
	if errors.Is(err, os.ErrNotExist) {
		return "", false, nil
	}
	if err != nil {
		return "", false, err
	}
	rest := output[min(s.offset, int64(len(output))):]
	consumed := int64(0)
	for len(rest) > 0 {
		raw, _, ended := bytes.Cut(rest, []byte("\n"))
		text := plain(raw)
		step := len(raw)
		if ended {
			step++
		}
		rest = rest[step:]
		consumed += int64(step)
		if pattern.MatchString(text) {
			s.offset += consumed
			return text, true, nil
		}
	}
	return "", false, nil
}

// Tail is the last lines of a console's log file that have something on them,
// without what steers a terminal.
func Tail(path string, lines int) string {
	output, err := os.ReadFile(path)
	if err != nil {
		return fmt.Sprintf("(%v)", err)
	}
	return tail(output, lines)
}

// tail is the last lines of console output that have something on them.
func tail(output []byte, lines int) string {
	var kept []string
	for line := range strings.Lines(plain(output)) {
		if text := strings.TrimRight(line, " \t\n"); text != "" {
			kept = append(kept, text)
		}
	}
	return strings.Join(kept[max(0, len(kept)-lines):], "\n")
}
