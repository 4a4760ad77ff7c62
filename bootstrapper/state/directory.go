// Package state keeps what a seed must not lose on the machine that it runs on:
// the cluster's authorities and tokens, and the claims of its machines.
package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Directory is the state of one cluster, held by one process at a time. Its
// methods may be called from many goroutines at once, but writers of the same
// file take turns by themselves.
type Directory struct {
	path string
	lock *os.File
}

// The files of the directory.
const (
	lockFile    = "lock"
	secretsFile = "secrets.json"
	claimsFile  = "claims.json"
	intentFile  = "seed.json"
	sumsPrefix  = "sums-"
	tempPrefix  = ".new-"
)

// InUseError says that another process holds the directory.
type InUseError struct {
	Path string
	PID  int // zero when it is not known
}

// Error implements error.
func (e *InUseError) Error() string {
	who := "another seed"
	if e.PID > 0 {
		who = fmt.Sprintf("another seed (process %d)", e.PID)
	}
	return fmt.Sprintf("%s of this cluster is running: it holds %s", who, e.Path)
}

// DefaultPath is where the state of a cluster lies unless a person says
// otherwise: below $XDG_STATE_HOME, or ~/.local/state.
func DefaultPath(cluster string) (string, error) {
	base := os.Getenv("XDG_STATE_HOME")
	if !filepath.IsAbs(base) {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("cannot choose a state directory: %w; name one with --state", err)
		}
		base = filepath.Join(home, ".local", "state")
	}
	return filepath.Join(base, "rhizome", cluster), nil
}

// Open makes the directory if need be (mode 0700) and takes its lock, which the
// end of the process releases, however it ends. A directory that another process
// holds is an *InUseError.
func Open(path string) (*Directory, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make the state directory: %w", err)
	}
	// It may have been made by hand, readable by others.
	if err := os.Chmod(path, 0o700); err != nil {
		return nil, fmt.Errorf("cannot keep others out of the state directory: %w; name another with --state", err)
	}
	lock, err := os.OpenFile(filepath.Join(path, lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot lock the state directory: %w", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer lock.Close()
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("cannot lock the state directory %s: %w", path, err)
		}
		holder, _ := io.ReadAll(io.LimitReader(lock, 32))
		pid, _ := strconv.Atoi(strings.TrimSpace(string(holder)))
		return nil, &InUseError{Path: path, PID: pid}
	}
	d := &Directory{path: path, lock: lock}
	if err := d.begin(); err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

// begin writes down who holds the lock and removes what an interrupted write
// left.
func (d *Directory) begin() error {
	if err := d.lock.Truncate(0); err != nil {
		return fmt.Errorf("cannot write the lock: %w", err)
	}
	if _, err := d.lock.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0); err != nil {
		return fmt.Errorf("cannot write the lock: %w", err)
	}
	left, err := filepath.Glob(filepath.Join(d.path, tempPrefix+"*"))
	if err != nil {
		return fmt.Errorf("cannot read the state directory: %w", err)
	}
	for _, name := range left {
		if err := os.Remove(name); err != nil {
			return fmt.Errorf("cannot remove what an interrupted write left: %w", err)
		}
	}
	return nil
}

// Close releases the directory. It may be called more than once.
func (d *Directory) Close() {
	d.lock.Close()
}

// Path of the directory.
func (d *Directory) Path() string { return d.path }

// KubeconfigPath is where the kubeconfig is written unless a person says
// otherwise.
func (d *Directory) KubeconfigPath() string { return filepath.Join(d.path, "kubeconfig") }

// read fills value from a file; false means that there is none.
func (d *Directory) read(name string, value any) (bool, error) {
	path := filepath.Join(d.path, name)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("cannot read the state: %w", err)
	}
	if err := json.Unmarshal(data, value); err != nil {
		return false, fmt.Errorf("cannot read the state in %s: %w; restore the file from a backup: without it the cluster's secrets and claims are not known", path, err)
	}
	return true, nil
}

// write keeps value in a file, durably, before it returns.
func (d *Directory) write(name string, value any) error {
	data, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return fmt.Errorf("cannot write the state: %w", err)
	}
	return WriteFile(filepath.Join(d.path, name), append(data, '\n'))
}

// WriteFile replaces a file in one step, with mode 0600: whoever reads it, and
// whoever starts after a crash, finds the old content or the new one.
func WriteFile(path string, data []byte) error {
	return writeFile(path, data, func(*os.File) error { return nil })
}

// WriteFileAs is WriteFile for another user, who is to read the file.
func WriteFileAs(path string, data []byte, uid, gid int) error {
	return writeFile(path, data, func(f *os.File) error { return f.Chown(uid, gid) })
}

func writeFile(path string, data []byte, prepare func(*os.File) error) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, tempPrefix+"*") // mode 0600
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", path, err)
	}
	defer func() { _ = os.Remove(f.Name()) }() // fails once it was renamed
	if err = prepare(f); err == nil {
		_, err = f.Write(data)
	}
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err == nil {
		err = syncDirectory(dir)
	}
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", path, err)
	}
	return nil
}

// syncDirectory makes a rename durable.
func syncDirectory(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}
