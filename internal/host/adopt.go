package host

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"
)

// AdoptCommand is the command `adopt`.
func AdoptCommand() *cobra.Command {
	var dir, server string
	cmd := &cobra.Command{
		Use:   "adopt",
		Short: "Take the founding out of a server's k3s config",
		Long: `Take cluster-init out of a server's k3s config, and put a server to join by into
it, so that the machine founds no second cluster when it is rebuilt. The operator
runs it once, in a pod on the server that founded the cluster. Files are replaced
as a whole or not at all; running it again changes nothing.`,
		Args:   cobra.NoArgs,
		Hidden: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			changed, err := Adopt(dir, server)
			if err != nil {
				return err
			}
			for _, path := range changed {
				fmt.Fprintln(cmd.OutOrStdout(), "rewritten:", path)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "/etc/rancher/k3s", "`directory` of k3s' config")
	cmd.Flags().StringVar(&server, "server", "", "`URL` of a server to join by, such as https://192.168.1.11:6443")
	return cmd
}

// Adopt rewrites the k3s config in a directory: config.yaml and
// config.yaml.d/*.yaml (https://docs.k3s.io/installation/configuration#multiple-config-files).
// It returns the files that it changed. All files are judged before one is
// written.
func Adopt(dir, server string) ([]string, error) {
	u, err := url.Parse(server)
	if err != nil || u.Scheme != "https" {
		return nil, fmt.Errorf("--server is %q: set the URL of a server, such as https://192.168.1.11:6443", server)
	}
	if _, err := netip.ParseAddrPort(u.Host); err != nil {
		return nil, fmt.Errorf("--server is %q: name it by address and port", server)
	}
	main := filepath.Join(dir, "config.yaml")
	paths := []string{main}
	for _, ending := range []string{"*.yaml", "*.yml"} {
		more, err := filepath.Glob(filepath.Join(main+".d", ending))
		if err != nil {
			return nil, fmt.Errorf("cannot list %s.d: %w", main, err)
		}
		paths = append(paths, more...)
	}
	contents, named := map[string][]byte{}, false
	for _, path := range paths {
		info, err := os.Lstat(path)
		switch {
		case errors.Is(err, fs.ErrNotExist) && path == main:
			return nil, fmt.Errorf("there is no %s: this server is configured in another way; see that it does not found a cluster again", main)
		case err != nil:
			return nil, fmt.Errorf("cannot read the k3s config: %w", err)
		case !info.Mode().IsRegular():
			return nil, fmt.Errorf("%s is no regular file: replace it by one, or take cluster-init out of it by hand", path)
		}
		if contents[path], err = os.ReadFile(path); err != nil {
			return nil, fmt.Errorf("cannot read the k3s config: %w", err)
		}
		has, err := NamesServer(contents[path])
		if err != nil {
			return nil, fmt.Errorf("cannot rewrite %s: %w", path, err)
		}
		named = named || has
	}
	rewritten := map[string][]byte{}
	for path, content := range contents {
		by := ""
		if path == main && !named {
			by = server
		}
		out, changed, err := Join(content, by)
		if err != nil {
			return nil, fmt.Errorf("cannot rewrite %s: %w", path, err)
		}
		if changed {
			rewritten[path] = out
		}
	}
	var done []string
	// config.yaml, which gets the server to join by, first: interrupted, it is run again.
	for _, path := range paths {
		if out, ok := rewritten[path]; ok {
			if err := replace(path, out); err != nil {
				return done, err
			}
			done = append(done, path)
		}
	}
	slices.Sort(done)
	return done, nil
}

// replace writes a file anew, as a whole or not at all, with its mode kept.
func replace(path string, content []byte) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("cannot replace %s: %w", path, err)
		}
	}()
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	dir := filepath.Dir(path)
	// Not *.yaml: k3s would read it.
	f, err := os.CreateTemp(dir, ".rhizome-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(content)
	err = errors.Join(err, f.Chmod(info.Mode().Perm()), f.Sync(), f.Close())
	if err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDir(dir)
}
