//go:build linux

package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Accelerator is how the machines of this host's labs are run, as a value of
// QEMU's -accel: by KVM where a guest is seen to run on it, else by emulation.
//
// That /dev/kvm opens says little: on some hosts it makes machines that never
// execute an instruction. So a kernel is booted, with a time limit, once for
// each boot of the host. RHIZOME_LAB_ACCEL, "kvm" or "tcg", overrules.
func Accelerator(ctx context.Context) (string, error) {
	switch choice := os.Getenv("RHIZOME_LAB_ACCEL"); choice {
	case "kvm":
		return kvm, nil
	case "tcg":
		return emulation, nil
	case "":
	default:
		return "", fmt.Errorf("RHIZOME_LAB_ACCEL is %q: it must be kvm or tcg", choice)
	}
	device, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	if err != nil {
		return emulation, nil
	}
	defer device.Close()

	cache, err := cacheDir()
	if err != nil {
		return "", err
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", err
	}
	image, err := BuildImage(ctx, os.Stderr)
	if err != nil {
		return "", err
	}
	unlock, err := lock(ctx, filepath.Join(cache, "kvm.lock"))
	if err != nil {
		return "", err
	}
	defer unlock()
	verdict := filepath.Join(cache, "kvm-"+strings.TrimSpace(string(boot)))
	if known, err := os.ReadFile(verdict); err == nil {
		if string(known) == kvm {
			return kvm, nil
		}
		return emulation, nil
	}
	found := emulation
	if kernelBoots(ctx, kvm, image.Kernel, 20*time.Second) {
		found = kvm
	}
	if err := ctx.Err(); err != nil {
		return "", err
	}
	old, _ := filepath.Glob(filepath.Join(cache, "kvm-*"))
	for _, path := range old {
		_ = os.Remove(path)
	}
	return found, os.WriteFile(verdict, []byte(found), 0o600)
}

// kernelBoots tells whether a kernel, given nothing to run, gets as far as to
// panic for want of a root file system.
func kernelBoots(ctx context.Context, accelerator, kernel string, limit time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64",
		"-nodefaults", "-no-user-config", "-display", "none", "-vga", "none", "-no-reboot",
		"-machine", "q35", "-accel", accelerator, "-cpu", "max", "-smp", "2", "-m", "512",
		"-serial", "stdio", "-kernel", kernel, "-append", "console=ttyS0 panic=-1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var console bytes.Buffer
	cmd.Stdout = &console
	err := cmd.Run()
	return err == nil && bytes.Contains(console.Bytes(), []byte("Kernel panic"))
}

func cacheDir() (string, error) {
	user, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("no cache directory: %w", err)
	}
	dir := filepath.Join(user, "rhizome", "lab")
	return dir, os.MkdirAll(dir, 0o755)
}

// lock takes an exclusive lock that the kernel gives back when this process ends.
func lock(ctx context.Context, path string) (unlock func(), err error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { _ = file.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, errors.Join(fmt.Errorf("cannot lock %s: %w", path, err), file.Close())
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("waiting for %s, which another process holds: %w", path, ctx.Err()), file.Close())
		case <-time.After(100 * time.Millisecond):
		}
	}
}
