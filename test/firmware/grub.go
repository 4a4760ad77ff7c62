//go:build linux

package firmware

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"regexp"
	"strings"

	"mvdan.cc/sh/v3/expand"
	"mvdan.cc/sh/v3/interp"
	"mvdan.cc/sh/v3/syntax"
)

var embeddedServer = regexp.MustCompile(`set rhizome_server=([^\n]*)`)

// grub runs a GRUB image: it finds the server in the image's embedded config, as
// GRUB would, and reads the machine's config from there.
func (s *session) grub(ctx context.Context, image []byte) error {
	found := embeddedServer.FindAllSubmatch(image, -1)
	if len(found) != 1 {
		return fmt.Errorf("the GRUB image names %d servers, want one", len(found))
	}
	server, err := netip.ParseAddrPort(strings.TrimRight(string(found[0][1]), " "))
	if err != nil {
		return fmt.Errorf("the GRUB image names no server: %w", err)
	}
	err = s.grubConfig(ctx, fmt.Sprintf("(http,%s)/boot/%s/grub", server, s.MAC))
	if errors.Is(err, errExit) {
		if s.out.Local == "" {
			s.out.Local = "exit"
		}
		return nil
	}
	return err
}

var grubPath = regexp.MustCompile(`^\(http,([^)]*)\)(/.*)$`)

func (s *session) grubFetch(ctx context.Context, path string) (Fetched, []byte, error) {
	m := grubPath.FindStringSubmatch(path)
	if m == nil {
		return Fetched{}, nil, fmt.Errorf("GRUB cannot fetch %q", path)
	}
	url := "http://" + m[1] + m[2]
	body, err := s.http(ctx, http.MethodGet, url)
	return fetched(url, body), body, err
}

// grubConfig runs a config. GRUB's language is a shell's, but that parentheses
// mean nothing in it.
func (s *session) grubConfig(ctx context.Context, path string) error {
	if s.steps++; s.steps > maxChain {
		return fmt.Errorf("the machine runs in circles: GRUB is to read %s", path)
	}
	_, config, err := s.grubFetch(ctx, path)
	if err != nil {
		return err
	}
	text := strings.NewReplacer("(", `\(`, ")", `\)`).Replace(string(config))
	program, err := syntax.NewParser(syntax.Variant(syntax.LangPOSIX)).Parse(strings.NewReader(text), path)
	if err != nil {
		return fmt.Errorf("GRUB cannot read its config: %w", err)
	}
	variables := expand.FuncEnviron(func(name string) string {
		if name == "grub_platform" {
			return "efi"
		}
		return ""
	})
	var ended error
	runner, err := interp.New(interp.Env(variables), interp.CallHandler(func(ctx context.Context, words []string) ([]string, error) {
		if words[0] == "exit" {
			words[0] = "grub-exit" // the shell's own would hide it
		}
		return words, nil
	}), interp.ExecHandlers(func(interp.ExecHandlerFunc) interp.ExecHandlerFunc {
		return func(ctx context.Context, words []string) error {
			ended = s.grubCommand(ctx, words)
			if ended != nil {
				return ended // ends the interpreter
			}
			return nil
		}
	}))
	if err != nil {
		return err
	}
	err = runner.Run(ctx, program)
	if ended != nil {
		err = ended
	}
	if errors.Is(err, errBoot) {
		return nil
	}
	return err
}

// errBoot is GRUB handing the machine over.
var errBoot = errors.New("boot")

func (s *session) grubCommand(ctx context.Context, words []string) error {
	args := words[1:]
	switch words[0] {
	case "linux":
		kernel, _, err := s.grubFetch(ctx, args[0])
		s.out.Kernel, s.out.Args = kernel, args[1:]
		return err
	case "initrd":
		for _, path := range args {
			initrd, _, err := s.grubFetch(ctx, path)
			if err != nil {
				return err
			}
			s.out.Initrds = append(s.out.Initrds, initrd)
		}
		return nil
	case "search":
		return nil // the machine's disk has every file
	case "chainloader":
		s.out.Local = "chainload"
		return nil
	case "boot":
		return errBoot
	case "sleep":
		return nil
	case "configfile":
		return s.grubConfig(ctx, args[0])
	case "grub-exit":
		return errExit
	}
	return fmt.Errorf("the simulated GRUB does not know the command %q", words[0])
}
