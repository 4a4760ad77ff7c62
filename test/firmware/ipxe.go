//go:build linux

package firmware

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// errExit is a loader that ends and leaves the machine to its firmware, errRestart one
// that restarts it.
var (
	errExit    = errors.New("exit")
	errRestart = errors.New("restart")
)

// leastRestart is what must lie between two starts of a machine that finds nothing to
// boot.
const leastRestart = time.Minute

// ipxeChain fetches and runs what iPXE was told to chain.
func (s *session) ipxeChain(ctx context.Context, url string) error {
	if s.steps++; s.steps > maxChain {
		return fmt.Errorf("the machine runs in circles: iPXE is to load %s", url)
	}
	if !strings.HasPrefix(url, "http://") {
		return fmt.Errorf("iPXE is to load %q, which is not the URL of a script: it would load itself for ever", url)
	}
	body, err := s.http(ctx, http.MethodGet, url)
	if err != nil {
		return err
	}
	if strings.HasSuffix(url, ".efi") && s.Kind != BIOS && s.Kind != IPXEBIOS {
		s.out.Loaders = append(s.out.Loaders, url[strings.LastIndexByte(url, '/')+1:])
		return s.grub(ctx, body)
	}
	if !strings.HasPrefix(string(body), "#!ipxe\n") {
		return fmt.Errorf("%s is not an iPXE script", url)
	}
	err = s.ipxeScript(ctx, string(body))
	switch {
	case errors.Is(err, errExit):
		s.out.Local = "exit"
		return nil
	case errors.Is(err, errRestart) && s.slept < leastRestart:
		return fmt.Errorf("the script restarts the machine after %s: it would do so again and again", s.slept)
	case errors.Is(err, errRestart):
		s.out.Local = "restart"
		return nil
	}
	return err
}

// ipxeScript runs the commands that our scripts use, of iPXE's language: one line
// holds commands joined by && and ||, words are split at white space, nothing is
// quoted, ${} is expanded.
func (s *session) ipxeScript(ctx context.Context, script string) error {
	lines := strings.Split(script, "\n")
	for i, jumps := 0, 0; i < len(lines); i++ {
		line := strings.TrimSpace(lines[i])
		if line == "" || strings.HasPrefix(line, "#") || strings.HasPrefix(line, ":") {
			continue
		}
		target, done, err := s.ipxeLine(ctx, s.ipxeExpand(line))
		if err != nil || done {
			return err
		}
		if target == "" {
			continue
		}
		if jumps++; jumps > 3 {
			return fmt.Errorf("the script runs in circles at %q", line)
		}
		if i = label(lines, target); i < 0 {
			return fmt.Errorf("the script has no label %q", target)
		}
	}
	return errExit
}

func label(lines []string, name string) int {
	for i, line := range lines {
		if strings.TrimSpace(line) == ":"+name {
			return i
		}
	}
	return -1
}

func (s *session) ipxeExpand(line string) string {
	platform, arch := "efi", "x86_64"
	switch s.Kind {
	case BIOS, IPXEBIOS:
		platform, arch = "pcbios", "i386"
	case UEFIARM64:
		arch = "arm64"
	}
	return strings.NewReplacer("${platform}", platform, "${buildarch}", arch).Replace(line)
}

// ipxeLine runs one line. It returns the label to go on at, or that the machine
// has left the script. A line that fails as a whole ends the script.
func (s *session) ipxeLine(ctx context.Context, line string) (target string, done bool, err error) {
	var words []string
	failed := false
	run := func() {
		if len(words) == 0 {
			return
		}
		var ok bool
		ok, target, done, err = s.ipxeCommand(ctx, words)
		failed, words = !ok, nil
	}
	skip := false
	for _, word := range append(strings.Fields(line), ";") {
		switch word {
		case "||", "&&", ";":
			if !skip {
				run()
				if err != nil || done || target != "" {
					return target, done, err
				}
			}
			words = nil
			skip = word == "||" && !failed || word == "&&" && failed
		default:
			words = append(words, word)
		}
	}
	if failed && !strings.HasSuffix(line, "||") {
		return "", false, fmt.Errorf("the iPXE script ends at the line that failed: %s", line)
	}
	return "", false, nil
}

func (s *session) ipxeCommand(ctx context.Context, words []string) (ok bool, target string, done bool, err error) {
	args := words[1:]
	switch words[0] {
	case "echo", "imgfree":
		return true, "", false, nil
	case "iseq":
		return len(args) == 2 && args[0] == args[1], "", false, nil
	case "goto":
		return true, args[0], false, nil
	case "sleep":
		seconds, err := strconv.Atoi(args[0])
		s.slept += time.Duration(seconds) * time.Second
		return err == nil, "", false, err
	case "reboot":
		return true, "", false, errRestart
	case "exit":
		return true, "", false, errExit
	case "sanboot":
		// Only a BIOS lets iPXE boot a disk by its number.
		if s.Blank || s.Kind != BIOS && s.Kind != IPXEBIOS {
			return false, "", false, nil
		}
		s.out.Local = "sanboot"
		return true, "", true, nil
	case "kernel":
		kernel, err := s.stream(ctx, args[0])
		if err != nil {
			return false, "", false, err
		}
		s.out.Kernel, s.out.Args = kernel, args[1:]
		return true, "", false, nil
	case "initrd":
		url, name := args[len(args)-1], ""
		if len(args) == 3 && args[0] == "--name" {
			name = args[1]
		}
		file, err := s.stream(ctx, url)
		if err != nil {
			return false, "", false, err
		}
		if !contains(s.out.Args, "initrd="+name) {
			return false, "", false, fmt.Errorf("no argument initrd=%s: Linux's EFI stub would not find %s", strconv.Quote(name), url)
		}
		s.out.Initrds = append(s.out.Initrds, file)
		return true, "", false, nil
	case "boot":
		return true, "", true, nil
	case "chain":
		return true, "", true, s.ipxeChain(ctx, args[len(args)-1])
	}
	return false, "", false, fmt.Errorf("the simulated iPXE does not know the command %q", words[0])
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}
