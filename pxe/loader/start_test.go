package loader

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strconv"
	"strings"
	"testing"

	"mvdan.cc/sh/v3/expand"
	"mvdan.cc/sh/v3/interp"
	"mvdan.cc/sh/v3/syntax"
)

// grubWorld is what the config within our images meets: a server, a disk.
type grubWorld struct {
	// silent: the server does not answer. claimAt is the ask at which a claim is open;
	// zero: never. unstartable: its installer cannot be fetched.
	silent, unstartable bool
	claimAt             int
	// disk: one has a boot loader.
	disk bool

	asks, slept int
	end         string // "disk", "kernel" or "reboot"
}

// errEnd is GRUB handing the machine over, or restarting it.
var errEnd = errors.New("end")

// run runs start.cfg, and what it is served: the golden configs. GRUB's language is a
// shell's, but that parentheses mean nothing in it.
func (w *grubWorld) run(t *testing.T) string {
	t.Helper()
	read := func(file string) string {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return strings.NewReplacer("(", `\(`, ")", `\)`).Replace(string(text))
	}
	const ask = `configfile \(http,$rhizome_server\)/boot/$mac/grub`
	text := read("start.cfg")
	if strings.Count(text, ask) != 1 {
		t.Fatalf("start.cfg asks for no config by %q", ask)
	}
	// A config that is served runs as if it stood there.
	served := "if claimed; then\n" + read("testdata/install.grub") + "else\n" + read("testdata/local.grub") + "fi\n"
	text = strings.ReplaceAll(text, ask, "if "+ask+"; then\n"+served+"fi")
	program, err := syntax.NewParser(syntax.Variant(syntax.LangBash)).Parse(strings.NewReader(text), "start.cfg")
	if err != nil {
		t.Fatal(err)
	}
	var console bytes.Buffer
	runner, err := interp.New(
		interp.Env(expand.ListEnviron("net_default_mac=52:54:00:12:34:56", "rhizome_server=192.168.1.2:7480")),
		interp.StdIO(nil, &console, &console),
		interp.ExecHandlers(func(interp.ExecHandlerFunc) interp.ExecHandlerFunc {
			return func(_ context.Context, words []string) error { return w.command(t, words) }
		}))
	if err != nil {
		t.Fatal(err)
	}
	if err := runner.Run(t.Context(), program); !errors.Is(err, errEnd) {
		t.Fatalf("the config ended by itself: %v\n%s", err, console.String())
	}
	return console.String()
}

func (w *grubWorld) command(t *testing.T, words []string) error {
	succeeds := func(ok bool) error {
		if !ok {
			return interp.NewExitStatus(1)
		}
		return nil
	}
	switch words[0] {
	case "configfile":
		if w.asks++; w.asks > 50 {
			t.Fatal("it asks for ever")
		}
		return succeeds(!w.silent)
	case "claimed":
		return succeeds(w.claimAt > 0 && w.asks >= w.claimAt)
	case "search":
		return succeeds(w.disk)
	case "chainloader":
		w.end = "disk"
		return nil
	case "linux":
		w.end = "kernel"
		return succeeds(!w.unstartable)
	case "initrd":
		return nil
	case "boot":
		return errEnd
	case "reboot":
		w.end = "reboot"
		return errEnd
	case "sleep":
		seconds, err := strconv.Atoi(words[1])
		if err != nil {
			t.Fatal(err)
		}
		w.slept += seconds
		return nil
	}
	t.Fatalf("the command %q is not known here: is GRUB's module for it in build.sh?", words)
	return nil
}

// A machine that boots from the network by GRUB is told at once, boots its disk if
// nobody tells it anything, and restarts, a minute later at the earliest, if it has
// none either: the server that GRUB knows may be gone for good.
func TestGRUBBootsWhatThereIsAndElseRestarts(t *testing.T) {
	for _, c := range []struct {
		name  string
		world grubWorld
		end   string
		asks  int
		slept int
	}{
		{"an installed system", grubWorld{disk: true}, "disk", 1, 0},
		{"an open claim", grubWorld{claimAt: 1, disk: true}, "kernel", 1, 0},
		{"a claim that is opened while it asks", grubWorld{claimAt: 4}, "kernel", 4, 30},
		{"nobody answers, and there is a disk", grubWorld{silent: true, disk: true}, "disk", 6, 60},
		{"nobody answers, and there is none", grubWorld{silent: true}, "reboot", 6, 70},
		{"it is to boot its disk, and there is none", grubWorld{}, "reboot", 6, 70},
		{"the installer cannot be fetched, and there is no disk", grubWorld{claimAt: 1, unstartable: true}, "reboot", 6, 70},
	} {
		t.Run(c.name, func(t *testing.T) {
			said := c.world.run(t)
			if c.world.end != c.end || c.world.asks != c.asks || c.world.slept != c.slept {
				t.Errorf("it ends in %q after %d asks and %d seconds, want %q, %d and %d\n%s",
					c.world.end, c.world.asks, c.world.slept, c.end, c.asks, c.slept, said)
			}
			if why := "the machine restarts, to ask the network again"; strings.Contains(said, why) != (c.end == "reboot") {
				t.Errorf("it says %q, and ends in %q:\n%s", why, c.end, said)
			}
		})
	}
}
