//go:build linux

package machine

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

const module = "github.com/rhizome-dev/rhizome"

// Build builds, into dir, the programs as they are shipped, and the boot files:
// bootstrapper, and what pods run. The kernel is never run by a simulated machine:
// any bytes do.
func Build(dir string) (bootstrapper string, programs Programs, err error) {
	programs = Programs{
		Rhizome: filepath.Join(dir, "rhizome"), Container: filepath.Join(dir, "container"),
		Boot: filepath.Join(dir, "boot"), Repository: "ghcr.io/rhizome-dev/rhizome",
	}
	bootstrapper = filepath.Join(dir, "bootstrapper")
	for path, from := range map[string]string{bootstrapper: "/bootstrapper", programs.Rhizome: "", programs.Container: "/test/machine/container/cmd/container"} {
		build := exec.Command("go", "build", "-trimpath", "-o", path, module+from)
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			return "", programs, fmt.Errorf("go build %s: %w\n%s", module+from, err, out)
		}
	}
	for name, content := range map[string]string{"vmlinuz": "a kernel", "initrd.img": "an initial ramdisk"} {
		path := filepath.Join(programs.Boot, "installer/amd64", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return "", programs, err
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			return "", programs, err
		}
	}
	root, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", module).Output()
	if err != nil {
		return "", programs, fmt.Errorf("cannot find the module's directory: %w", err)
	}
	script := filepath.Join(strings.TrimSpace(string(root)), "pxe/loader/build.sh")
	if out, err := exec.Command(script, programs.Boot).CombinedOutput(); err != nil {
		return "", programs, fmt.Errorf("%s: %w\n%s", script, err, out)
	}
	return bootstrapper, programs, nil
}
