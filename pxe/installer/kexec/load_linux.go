package kexec

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// memory is a file system in memory, which boot.Mount has mounted.
const memory = "/run"

// Load finds the system on a disk and has the kernel take in what it would start: the
// machine need only be told to go there, by boot.Kexec. An error says why that cannot
// be; nothing is changed then.
func Load(disk string) error {
	partitions, err := partitionsOf("/sys", disk)
	if err != nil {
		return err
	}
	mount, err := os.MkdirTemp(memory, "system")
	if err != nil {
		return fmt.Errorf("cannot make a mount point: %w", err)
	}
	defer os.Remove(mount)
	var found []string
	for _, p := range partitions {
		kind, err := fileSystem(p)
		if err != nil {
			return err
		}
		if kind.name == "" {
			continue
		}
		err = loadFrom(p, kind, mount)
		switch {
		case err == nil:
			found = append(found, p)
		case !errors.Is(err, errNone):
			return errors.Join(fmt.Errorf("%s: %w", p, err), forget(found))
		}
	}
	switch len(found) {
	case 0:
		return fmt.Errorf("no ext4 or XFS file system on %s has a boot configuration", disk)
	case 1:
		return nil
	}
	return errors.Join(fmt.Errorf("several file systems have a boot configuration: %q", found), forget(found))
}

// forget has the kernel give up what it took in.
func forget(found []string) error {
	if len(found) == 0 {
		return nil
	}
	if err := unix.KexecFileLoad(-1, -1, "", unix.KEXEC_FILE_UNLOAD); err != nil {
		return fmt.Errorf("cannot unload the kernel again: %w", err)
	}
	return nil
}

// kind is a file system, with the options that mount it as a boot loader sees it:
// without its journal's being replayed, which would write.
type kind struct{ name, options string }

// fileSystem tells the file system on a partition by its magic number: of ext2 to ext4
// in the superblock at 1024, of XFS at the beginning. No name: another, or none.
func fileSystem(partition string) (kind, error) {
	f, err := os.Open(partition)
	if err != nil {
		return kind{}, fmt.Errorf("cannot look at a partition: %w", err)
	}
	defer f.Close()
	b := make([]byte, 2048)
	if _, err := io.ReadFull(f, b); err != nil {
		return kind{}, nil //nolint:nilerr // what is shorter has none
	}
	switch {
	case b[1080] == 0x53 && b[1081] == 0xef:
		return kind{"ext4", "noload"}, nil
	case bytes.HasPrefix(b, []byte("XFSB")):
		return kind{"xfs", "norecovery,nouuid"}, nil
	}
	return kind{}, nil
}

func loadFrom(partition string, k kind, at string) (err error) {
	const flags = unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	if err := unix.Mount(partition, at, k.name, flags, k.options); err != nil {
		return fmt.Errorf("cannot mount its file system (%s): %w", k.name, err)
	}
	defer func() {
		if e := unix.Unmount(at, 0); e != nil {
			err = errors.Join(err, fmt.Errorf("cannot unmount it: %w", e))
		}
	}()
	// Links that lead out of the file system are not followed.
	root, err := os.OpenRoot(at)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	entry, err := Find(root.FS())
	if err != nil {
		return err
	}
	kernel, err := root.Open(entry.Kernel)
	if err != nil {
		return err
	}
	defer kernel.Close()
	initrd, flag := -1, unix.KEXEC_FILE_NO_INITRAMFS
	if len(entry.Initrds) > 0 {
		joined, err := join(root, entry.Initrds)
		if err != nil {
			return err
		}
		defer joined.Close()
		initrd, flag = int(joined.Fd()), 0
	}
	if err := unix.KexecFileLoad(int(kernel.Fd()), initrd, entry.Args, flag); err != nil {
		return fmt.Errorf("the kernel does not take %s: %w", entry.Kernel, explain(err))
	}
	return nil
}

// join is the one initial ramdisk, or several in one file, which is gone when it is
// closed.
func join(root *os.Root, names []string) (*os.File, error) {
	if len(names) == 1 {
		return root.Open(names[0])
	}
	out, err := os.CreateTemp(memory, "initrd")
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		f, err := root.Open(name)
		if err == nil {
			_, err = io.Copy(out, f)
			err = errors.Join(err, f.Close())
		}
		if err != nil {
			return nil, errors.Join(err, out.Close(), os.Remove(out.Name()))
		}
	}
	return out, os.Remove(out.Name())
}

// explain says what the error numbers of kexec_file_load(2) mean here.
func explain(err error) error {
	for number, why := range map[error]string{
		unix.ENOSYS:       "this kernel cannot start another",
		unix.EPERM:        "this kernel may not start another (kexec_load_disabled, or lockdown under Secure Boot)",
		unix.EKEYREJECTED: "its signature is of nobody that this kernel trusts",
		unix.ENODATA:      "it is not signed",
		unix.ENOEXEC:      "it is of a format that this kernel cannot start",
	} {
		if errors.Is(err, number) {
			return fmt.Errorf("%s: %w", why, err)
		}
	}
	return err
}

// partitionsOf are the devices of a disk's partitions, in their order.
func partitionsOf(sysfs, disk string) ([]string, error) {
	resolved, err := filepath.EvalSymlinks(disk)
	if err != nil {
		return nil, fmt.Errorf("cannot find the disk: %w", err)
	}
	dir := filepath.Join(sysfs, "class/block", filepath.Base(resolved))
	names, err := filepath.Glob(filepath.Join(dir, "*", "partition"))
	if err != nil {
		return nil, err
	}
	devices := make(map[int]string)
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("cannot read a partition's number: %w", err)
		}
		n, err := strconv.Atoi(string(bytes.TrimSpace(b)))
		if err != nil {
			return nil, fmt.Errorf("cannot read a partition's number: %w", err)
		}
		devices[n] = filepath.Join(filepath.Dir(resolved), filepath.Base(filepath.Dir(name)))
	}
	if len(devices) == 0 {
		return nil, fmt.Errorf("the kernel sees no partitions on %s", disk)
	}
	var out []string
	for _, n := range slices.Sorted(maps.Keys(devices)) {
		out = append(out, devices[n])
	}
	return out, nil
}
