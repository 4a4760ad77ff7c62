package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
)

// The config without which k3s' unit does not start it (ConditionPathExists), and
// where it lies meanwhile: under a name that k3s does not read.
const (
	configName = "config.yaml"
	asideName  = "config.yaml.barred"
)

// BarCommand is the command `bar`.
func BarCommand() *cobra.Command {
	var dir string
	var lift bool
	cmd := &cobra.Command{
		Use:   "bar",
		Short: "Keep k3s on this machine from starting again",
		Long: `Put k3s' config aside, without which its unit does not start it: a machine that
leaves the cluster still holds what it joined with, and would join again at the
next start of k3s. The k3s that runs goes on. The operator runs it in a pod on the
machine before it takes it out of the cluster, and with --lift when it stays after
all. Running it again changes nothing.`,
		Args:   cobra.NoArgs,
		Hidden: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			do := Bar
			if lift {
				do = LiftBar
			}
			done, err := do(dir)
			if err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), done)
			return nil
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "/etc/rancher/k3s", "`directory` of k3s' config")
	cmd.Flags().BoolVar(&lift, "lift", false, "put the config back")
	return cmd
}

// Bar puts k3s' config in a directory aside, and says what it did. A config that
// was put aside before and is still there is replaced: the one that k3s would read
// is the one to keep.
func Bar(dir string) (string, error) {
	config, aside := filepath.Join(dir, configName), filepath.Join(dir, asideName)
	switch has, err := exists(config); {
	case err != nil:
		return "", fmt.Errorf("cannot keep k3s from starting: %w", err)
	case has:
		if err := move(config, aside); err != nil {
			return "", fmt.Errorf("cannot keep k3s from starting: %w", err)
		}
		return config + " is put aside", nil
	}
	switch has, err := exists(aside); {
	case err != nil:
		return "", fmt.Errorf("cannot keep k3s from starting: %w", err)
	case has:
		return config + " was put aside before", nil
	}
	return "", fmt.Errorf("there is no %s: k3s on this machine is configured in another way; stop it and disable its unit by hand", config)
}

// LiftBar puts the config back that Bar put aside, and says what it did. One that
// is there stays.
func LiftBar(dir string) (string, error) {
	config, aside := filepath.Join(dir, configName), filepath.Join(dir, asideName)
	switch has, err := exists(config); {
	case err != nil:
		return "", fmt.Errorf("cannot let k3s start again: %w", err)
	case has:
		return config + " is there", nil
	}
	switch has, err := exists(aside); {
	case err != nil:
		return "", fmt.Errorf("cannot let k3s start again: %w", err)
	case !has:
		// It was never there, so that nothing was put aside.
		return "there is no " + config + ", and none was put aside", nil
	}
	if err := move(aside, config); err != nil {
		return "", fmt.Errorf("cannot let k3s start again: %w", err)
	}
	return config + " is put back", nil
}

func exists(path string) (bool, error) {
	_, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// move renames a file for good: it is so after a power cut too.
func move(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		return err
	}
	return syncDir(filepath.Dir(to))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
