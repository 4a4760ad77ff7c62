package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/rhizome-dev/rhizome/pxe/installer/boot"
	"github.com/rhizome-dev/rhizome/pxe/installer/console"
	"github.com/rhizome-dev/rhizome/pxe/installer/kernelargs"
	"github.com/rhizome-dev/rhizome/pxe/installer/network"
)

// What the child's exit code says; any other code is a crash.
const (
	exitInstalled = 0
	exitLoaded    = 11 // installed, and the new system's kernel is loaded
	exitFailed    = 10 // the reason was shown and, if possible, reported
)

// flush bounds how long a slow console delays a reboot.
const flush = 5 * time.Second

// supervise is process 1. It never returns.
func supervise() {
	mountErr := boot.Mount()
	consoles := console.Open("/sys", "/dev")
	say := func(format string, args ...any) { _, _ = fmt.Fprintf(consoles, "rhizome: "+format+"\n", args...) }
	if mountErr != nil {
		say("%v", mountErr)
	}
	// A kernel that panics reboots, too.
	if err := os.WriteFile("/proc/sys/kernel/panic", []byte("60"), 0o644); err != nil {
		say("cannot make the kernel reboot after a panic: %v", err)
	}
	say("installer started")
	last := new(lastWords)
	code, err := boot.Supervise("/proc/self/exe", []string{"install"}, io.MultiWriter(consoles, last))
	switch {
	case err != nil:
		say("%v", err)
		pause(say, "the installer could not be started")
	case code == exitInstalled:
		say("done, rebooting into the installed system")
	case code == exitLoaded:
		say("done, starting the installed system's kernel")
		consoles.Flush(flush)
		if err := network.Down(); err != nil {
			say("%v", err)
		}
		say("%v: rebooting into the installed system", boot.Kexec())
	case code == exitFailed:
		pause(say, "the installation failed, see above")
	default:
		say("the installer crashed with the code %d", code)
		_ = os.WriteFile(crashFile, []byte(fmt.Sprintf("the installer crashed with the code %d: %s", code, last)), 0o600)
		if _, err := boot.Supervise("/proc/self/exe", []string{"crashed"}, consoles); err != nil {
			say("%v", err)
		}
		pause(say, "the installer crashed, see above")
	}
	consoles.Flush(flush)
	for {
		if err := boot.Reboot(); err != nil {
			say("%v: switch the machine off and on", err)
		}
		time.Sleep(time.Minute)
	}
}

// pause leaves time to read the screen.
func pause(say func(string, ...any), why string) {
	d := 60 * time.Second
	if b, err := os.ReadFile("/proc/cmdline"); err == nil {
		if set, err := time.ParseDuration(kernelargs.Parse(string(b)).Get("rhizome.pause")); err == nil && set >= 0 {
			d = set
		}
	}
	say("%s", strings.Repeat("=", 70))
	say("%s.", strings.ToUpper(why[:1])+why[1:])
	say("The machine reboots in %s.", d)
	say("%s", strings.Repeat("=", 70))
	time.Sleep(d)
}

// lastWords keeps what a Go program says when it panics.
type lastWords struct{ text []byte }

func (l *lastWords) Write(p []byte) (int, error) {
	const most = 64 << 10
	l.text = append(l.text, p...)
	if len(l.text) > most {
		l.text = append([]byte(nil), l.text[len(l.text)-most:]...)
	}
	return len(p), nil
}

// String is the first line of the panic, or nothing.
func (l *lastWords) String() string {
	text := string(l.text)
	for _, mark := range []string{"panic: ", "fatal error: "} {
		if i := strings.LastIndex(text, mark); i >= 0 {
			line, _, _ := strings.Cut(text[i:], "\n")
			return line
		}
	}
	return "it was killed"
}
