package main

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/rhizome-dev/rhizome/bootstrapper/lock"
	"github.com/rhizome-dev/rhizome/pxe/media"
)

func newMediaCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "media",
		Short: "Work with the media that machines are installed from",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newMediaLockCommand())
	return cmd
}

func newMediaLockCommand() *cobra.Command {
	var cache string
	var unpublished bool
	cmd := &cobra.Command{
		Use:   "lock FILE...",
		Short: "Download media and write their digests into the manifests",
		Long: `Downloads each file of the OperatingSystems in the manifests whose sha256 is
missing (or still FILL-IN), and writes its digest there. Every other byte of the
manifest stays as it is, comments included. Nothing is used of which the digest is
not known: check says so, and seed and the operator refuse it.

The annotation rhizome.dev/checksums of an OperatingSystem names where its publisher
says what the files must be (https URLs of SHA256SUMS, SHA512SUMS or CHECKSUM files).
A file that is not what they say, or that they do not name, is not locked. The
signatures of these files are not checked: what vouches for them is HTTPS.

What is downloaded stays in the media cache, where seed finds it. A download that is
interrupted goes on at the next try if the publisher says its SHA-256, otherwise it
begins anew. A digest that is there already is left alone: to follow a new release,
remove it.`,
		Example: `  bootstrapper media lock examples/operatingsystems/fedora-kickstart.yaml`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usageError{fmt.Errorf("%s wants one manifest or more: %s", cmd.CommandPath(), cmd.UseLine())}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if cache == "" {
				dir, err := os.UserCacheDir()
				if err != nil {
					return fmt.Errorf("cannot find a place for the media cache: %w; name one with --cache", err)
				}
				cache = filepath.Join(dir, "rhizome", "media")
			}
			kept, err := media.Open(cache)
			if err != nil {
				return err
			}
			shown := time.Time{}
			l := lock.Locker{
				Cache: kept, Dir: cache, Client: http.DefaultClient, Unpublished: unpublished,
				Say: func(format string, args ...any) { fmt.Fprintf(cmd.ErrOrStderr(), format+"\n", args...) },
				Progress: func(name string, done, total int64) {
					if now := time.Now(); now.Sub(shown) >= 5*time.Second {
						shown = now
						fmt.Fprintf(cmd.ErrOrStderr(), "%s: %s\n", name, soFar(done, total))
					}
				},
			}
			var problems []error
			for _, name := range args {
				n, err := l.File(cmd.Context(), name)
				if err != nil {
					problems = append(problems, err)
					continue
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s: %s filled in\n", name, count(n, "digest"))
			}
			return errors.Join(problems...)
		},
	}
	f := cmd.Flags()
	f.StringVar(&cache, "cache", "", "`directory` of the media cache (default: rhizome/media in the user's cache directory)")
	f.BoolVar(&unpublished, "unpublished", false, "lock files too that no publisher's checksums name: what is downloaded now is then what is trusted")
	return cmd
}

func soFar(done, total int64) string {
	if total <= 0 {
		return fmt.Sprintf("%d MB", done/1e6)
	}
	return fmt.Sprintf("%d of %d MB (%d %%)", done/1e6, total/1e6, done*100/total)
}
