//go:build linux

// Package container becomes a container: it turns a process that is in namespaces
// of its own into what a pod asks for (root directory, mounts, user,
// capabilities), and runs the pod's program in its place. It is a fake of a
// container runtime that lacks images, cgroups and seccomp, and nothing of what
// it has is pretended: a program that needs a capability which its pod does not
// ask for fails here too.
package container

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// Spec is one container.
type Spec struct {
	// Root is an empty directory, in which the container's root is put together.
	Root         string
	ReadOnlyRoot bool
	Mounts       []Mount
	// UID and GID that the program runs as.
	UID, GID int
	// Capabilities that it may have, such as NET_RAW. A user other than root has
	// none, as in Kubernetes.
	Capabilities []string
	// Privileged lets it have all capabilities.
	Privileged bool
	// NoNewPrivileges forbids it to gain any.
	NoNewPrivileges bool
	// HostPID lets it see the host's processes, of which there is one: a fake of
	// systemd, as process 1.
	HostPID bool
	// Hostname is its own. Empty: the host's.
	Hostname  string
	Args, Env []string
}

// Mount is a file or directory of the host in the container; without a Source it
// is an empty file system in memory.
type Mount struct {
	Source, Target string
	ReadOnly       bool
}

// Read reads a Spec from a file.
func Read(path string) (Spec, error) {
	var s Spec
	content, err := os.ReadFile(path)
	if err != nil {
		return s, err
	}
	return s, json.Unmarshal(content, &s)
}

// Exec becomes the container. The calling process must be in mount, PID and UTS
// namespaces of its own. It returns only an error.
func Exec(s Spec) error {
	runtime.LockOSThread() // namespaces and bounding sets are a thread's own
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("cannot leave the host's mounts (no mount namespace of its own?): %w", err)
	}
	if err := s.mount(); err != nil {
		return err
	}
	if s.Hostname != "" {
		if err := unix.Sethostname([]byte(s.Hostname)); err != nil {
			return fmt.Errorf("cannot set the name of the host: %w", err)
		}
	}
	if err := unix.Chroot(s.Root); err != nil {
		return fmt.Errorf("cannot change the root to %s: %w", s.Root, err)
	}
	if err := unix.Chdir("/"); err != nil {
		return err
	}
	if err := s.identify(); err != nil {
		return err
	}
	return fmt.Errorf("cannot run %q: %w", s.Args, unix.Exec(s.Args[0], s.Args, s.Env))
}

func (s Spec) mount() error {
	if err := unix.Mount(s.Root, s.Root, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("cannot bind %s: %w", s.Root, err)
	}
	proc := filepath.Join(s.Root, "proc")
	if err := os.MkdirAll(proc, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("proc", proc, "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("cannot mount /proc: %w", err)
	}
	mounts := s.Mounts
	for _, device := range []string{"null", "zero", "full", "random", "urandom"} {
		mounts = append(mounts, Mount{Source: "/dev/" + device, Target: "/dev/" + device})
	}
	// What reaches through to the host's kernel is masked, as container runtimes
	// do; of a privileged container too, for the host is a test's.
	mounts = append(mounts, Mount{Source: filepath.Join(proc, "sys"), Target: "/proc/sys", ReadOnly: true})
	if _, err := os.Stat(filepath.Join(proc, "sysrq-trigger")); err == nil {
		mounts = append(mounts, Mount{Source: "/dev/null", Target: "/proc/sysrq-trigger"})
	}
	for _, m := range mounts {
		if err := s.bind(m); err != nil {
			return fmt.Errorf("cannot mount %s at %s: %w", m.Source, m.Target, err)
		}
	}
	if s.ReadOnlyRoot {
		return unix.Mount("", s.Root, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, "")
	}
	return nil
}

func (s Spec) bind(m Mount) error {
	target := filepath.Join(s.Root, m.Target)
	if m.Source == "" {
		if err := os.MkdirAll(target, 0o755); err != nil {
			return err
		}
		return unix.Mount("tmpfs", target, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=1777")
	}
	info, err := os.Stat(m.Source)
	if err != nil {
		return err
	}
	if err := place(target, info.IsDir()); err != nil {
		return err
	}
	if err := unix.Mount(m.Source, target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return err
	}
	if m.ReadOnly {
		return unix.Mount("", target, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, "")
	}
	return nil
}

// place makes what something is mounted on.
func place(target string, directory bool) error {
	if directory {
		return os.MkdirAll(target, 0o755)
	}
	if _, err := os.Stat(target); err == nil {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return err
	}
	return os.WriteFile(target, nil, 0o644)
}

// numbers of the capabilities that pods here ask for.
var numbers = map[string]uintptr{
	"CHOWN": unix.CAP_CHOWN, "DAC_OVERRIDE": unix.CAP_DAC_OVERRIDE, "DAC_READ_SEARCH": unix.CAP_DAC_READ_SEARCH,
	"FOWNER": unix.CAP_FOWNER, "FSETID": unix.CAP_FSETID, "KILL": unix.CAP_KILL, "SETGID": unix.CAP_SETGID,
	"SETUID": unix.CAP_SETUID, "SETPCAP": unix.CAP_SETPCAP, "NET_BIND_SERVICE": unix.CAP_NET_BIND_SERVICE,
	"NET_RAW": unix.CAP_NET_RAW, "NET_ADMIN": unix.CAP_NET_ADMIN, "SYS_CHROOT": unix.CAP_SYS_CHROOT,
	"SYS_BOOT": unix.CAP_SYS_BOOT, "SYS_ADMIN": unix.CAP_SYS_ADMIN, "SYS_PTRACE": unix.CAP_SYS_PTRACE,
	"MKNOD": unix.CAP_MKNOD, "AUDIT_WRITE": unix.CAP_AUDIT_WRITE, "SETFCAP": unix.CAP_SETFCAP,
}

// Defaults are the capabilities of a container that drops none.
var Defaults = []string{"CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "MKNOD", "NET_RAW", "SETGID", "SETUID",
	"SETFCAP", "SETPCAP", "NET_BIND_SERVICE", "SYS_CHROOT", "KILL", "AUDIT_WRITE"}

func (s Spec) identify() error {
	keep := map[uintptr]bool{}
	for _, name := range s.Capabilities {
		number, ok := numbers[strings.TrimPrefix(name, "CAP_")]
		if !ok {
			return fmt.Errorf("the capability %q is not known here", name)
		}
		keep[number] = true
	}
	if !s.Privileged {
		// The bounding set is what root's program gets (capabilities(7)).
		for c := uintptr(0); c <= unix.CAP_LAST_CAP; c++ {
			if keep[c] {
				continue
			}
			if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); err != nil && !errors.Is(err, unix.EINVAL) {
				return fmt.Errorf("cannot drop capability %d: %w", c, err)
			}
		}
	}
	if s.NoNewPrivileges {
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return err
		}
	}
	if err := errors.Join(unix.Setgroups(nil), unix.Setresgid(s.GID, s.GID, s.GID)); err != nil {
		return fmt.Errorf("cannot become group %d: %w", s.GID, err)
	}
	if err := unix.Setresuid(s.UID, s.UID, s.UID); err != nil {
		return fmt.Errorf("cannot become user %d: %w", s.UID, err)
	}
	return nil
}
