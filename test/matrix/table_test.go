//go:build linux

package matrix

import (
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rhizome-dev/rhizome/test/pxeserver"
)

var tableFile = flag.String("table", "", "write the table to this file too")

func TestMain(m *testing.M) {
	pxeserver.Main()
	flag.Parse()
	code := m.Run()
	if len(results.rows) == 0 && code == 0 && flag.Lookup("test.list").Value.String() == "" {
		fmt.Fprintln(os.Stderr, "no row was run: -run names none of them")
		code = 1
	}
	if err := results.write(os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	if *tableFile != "" {
		file, err := os.Create(*tableFile)
		if err == nil {
			err = results.write(file)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// result is one line of the table.
type result struct {
	firmware, network, loader, result, lastSeen string
	took                                        time.Duration
}

// table is what the rows came to, in the order in which they ended. It may be used
// from several goroutines.
type table struct {
	mu   sync.Mutex
	rows []result
}

var results table

func (t *table) add(r result) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rows = append(t.rows, r)
}

// write prints the table; nothing if no row ran.
func (t *table) write(w io.Writer) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.rows) == 0 {
		return nil
	}
	lines := [][]string{{"firmware", "network", "loader", "result", "time", "last seen"}, {}}
	for _, r := range t.rows {
		lines = append(lines, []string{r.firmware, r.network, r.loader, r.result, r.took.Round(time.Second).String(), r.lastSeen})
	}
	widths := make([]int, len(lines[0]))
	for _, line := range lines {
		for i, cell := range line {
			widths[i] = max(widths[i], len(cell))
		}
	}
	var b strings.Builder
	for n, line := range lines {
		for i, width := range widths {
			cell := strings.Repeat("-", width)
			if n != 1 {
				cell = fmt.Sprintf("%-*s", width, line[i])
			}
			fmt.Fprintf(&b, "| %s ", cell)
		}
		b.WriteString("|\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}
