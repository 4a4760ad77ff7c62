//go:build linux

package preseed

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rhizome-dev/rhizome/pxe"
	"github.com/rhizome-dev/rhizome/test/lab"
)

// container starts the Debian Installer's own system, unpacked at "$1", as its kernel
// would: "$2" is the kernel's command line as a file, "$3" the host name. It sees the
// network namespace that it is started in, and can neither load modules nor write to
// sysfs.
const container = `set -e
mount --make-rprivate /
mount -t proc proc "$1/proc"
mount --bind "$2" "$1/proc/cmdline"
mount -t sysfs -o ro sysfs "$1/sys"
mount -t tmpfs tmpfs "$1/dev"
for node in null:1:3 zero:1:5 random:1:8 urandom:1:9; do
    mknod -m 0666 "$1/dev/${node%%:*}" c $(echo "${node#*:}" | tr : ' ')
done
hostname "$3"
exec setpriv --bounding-set -sys_module,-sys_boot,-sys_time,-sys_rawio,-syslog chroot "$1" /usr/bin/env -i \
    PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/ TERM=dumb DEBIAN_FRONTEND=text $(cat "$2") \
    /bin/sh -c '/sbin/debian-installer-startup; /sbin/debian-installer; :'`

// The Debian Installer's programs, without its kernel, take the network by the
// arguments that our loader's config has, the preseed file and our script, and tell us
// by it where they are.
func TestTheProgramsOfTheDebianInstallerAreLedByThePreseedFile(t *testing.T) {
	l := lab.New(t, lab.Options{})
	host, err := l.Network.Attach("machine", netip.Prefix{}, netip.Addr{})
	if err != nil {
		t.Fatal(err)
	}
	const mac = "52:54:00:77:00:20"
	if out, err := host.Command(t.Context(), "ip", "link", "set", "eth0", "address", mac).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	s := startServer(t, l.Network.Namespace, declared(t, l, mac))
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()

	root := filepath.Join(t.TempDir(), "root")
	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatal(err)
	}
	unpack := exec.CommandContext(ctx, "sh", "-c", `zcat "$0" | (cd "$1" && cpio --quiet -idm --nonmatching 'lib/modules/*' './lib/modules/*')`, netboot+"/initrd.gz", root)
	if out, err := unpack.CombinedOutput(); err != nil {
		t.Fatalf("cannot unpack the initial ramdisk: %v\n%s", err, out)
	}
	line := filepath.Join(t.TempDir(), "cmdline")
	if err := os.WriteFile(line, []byte(kernelArguments(ctx, t, l, mac)+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	installer := host.Command(ctx, "unshare", "--mount", "--pid", "--uts", "--ipc", "--fork", "--kill-child", "sh", "-c", container, "sh", root, line, "alpha")
	var screen bytes.Buffer
	installer.Stdout, installer.Stderr = &screen, &screen
	if err := installer.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = installer.Process.Kill() // and with it all that it started
		_ = installer.Wait()
		if t.Failed() {
			log, err := os.ReadFile(filepath.Join(root, "var/log/syslog"))
			t.Logf("the screen:\n%s\nits log (%v):\n%s", plain(screen.Bytes()), err, plain(log))
		}
	})
	s.sees(ctx, t, append(slices.Clone(led), step{"that it failed, since there is nothing at the mirror", func(o pxe.Observation) bool {
		return o.Stage == pxe.StageFailed && strings.Contains(o.Message, "no release at the mirror")
	}}))
}

// kernelArguments are those that GRUB would start the machine's kernel with.
func kernelArguments(ctx context.Context, t *testing.T, l *lab.Lab, mac string) string {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DialContext: l.Network.Namespace.DialContext}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://%s:7480/boot/%s/grub", l.Network.Laptop, mac), nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	config, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	_, after, found := strings.Cut(string(config), "if linux ")
	arguments, _, ends := strings.Cut(after, "; then")
	_, arguments, kernel := strings.Cut(arguments, " ")
	if !found || !ends || !kernel {
		t.Fatalf("the loader is told to start no kernel: %s", config)
	}
	return strings.ReplaceAll(arguments, "'", "")
}
