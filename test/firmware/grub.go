//go:build linux

package firmware

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
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
	if !bytes.Contains(image, []byte("function boot_disk {")) {
		return errors.New("the GRUB image lacks the function that boots a disk")
	}
	if err := s.grubConfig(ctx, fmt.Sprintf("(http,%s)/boot/%s/grub", server, s.MAC)); err != nil {
		return err
	}
	if s.out.Local == "" && s.out.Kernel.URL == "" {
		return errors.New("the GRUB config boots nothing")
	}
	return nil
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
	_, config, err := s.grubFetch(ctx, path)
	if err != nil {
		return err
	}
	text := strings.NewReplacer("(", `\(`, ")", `\)`).Replace(string(config))
	program, err := syntax.NewParser(syntax.Variant(syntax.LangPOSIX)).Parse(strings.NewReader(text), path)
	if err != nil {
		return fmt.Errorf("GRUB cannot read its config: %w", err)
	}
	var ended error
	runner, err := interp.New(interp.Env(expand.ListEnviron()), interp.StdIO(nil, io.Discard, io.Discard), interp.ExecHandlers(func(interp.ExecHandlerFunc) interp.ExecHandlerFunc {
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
	case "boot_disk": // a function of the image; a disk that is not blank has every loader
		if s.Blank {
			s.out.Local = "restart" // in the image's own config, which pxe/loader tests
			return nil
		}
		s.out.Local = "chainload"
		return errBoot
	case "boot":
		return errBoot
	}
	return fmt.Errorf("the simulated GRUB does not know the command %q", words[0])
}
