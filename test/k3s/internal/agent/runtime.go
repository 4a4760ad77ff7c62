package agent

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"text/template"
	"time"

	"github.com/rhizome-dev/rhizome/test/k3s/internal/process"
)

const (
	runDir    = "/run/k3s/containerd"
	socket    = runDir + "/containerd.sock"
	namespace = "k8s.io"
)

// containerdConfig is for containerd 1.6 and 1.7 (configuration version 2).
var containerdConfig = template.Must(template.New("containerd").Parse(`version = 2
root = "{{.Root}}"
state = "{{.State}}"

[grpc]
  address = "{{.Socket}}"

[plugins."io.containerd.internal.v1.opt"]
  path = "{{.Root}}/opt"

[plugins."io.containerd.grpc.v1.cri"]
  stream_server_address = "127.0.0.1"
  stream_server_port = "10010"
  sandbox_image = "{{.PauseImage}}"
  enable_unprivileged_ports = true
  enable_unprivileged_icmp = true

[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "{{.CNIBin}}"
  conf_dir = "{{.CNIConf}}"

[plugins."io.containerd.grpc.v1.cri".containerd]
  snapshotter = "{{.Snapshotter}}"
  default_runtime_name = "runc"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
  SystemdCgroup = {{.SystemdCgroup}}
`))

// startRuntime starts containerd and imports the airgap archives. It returns
// when pods could run.
func (a *Agent) startRuntime(ctx context.Context) error {
	binary, err := exec.LookPath("containerd")
	if err != nil {
		return fmt.Errorf("containerd is part of k3s; the stand-in uses the system's: %w", err)
	}
	bin, err := cniBinaries()
	if err != nil {
		return err
	}
	if err := endLeftover(filepath.Join(runDir, "containerd.pid")); err != nil {
		return err
	}
	if err := os.MkdirAll(runDir, 0o711); err != nil {
		return err
	}
	path := a.path("etc/containerd/config.toml")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	var b strings.Builder
	err = containerdConfig.Execute(&b, map[string]any{
		"Root": a.path("containerd"), "State": runDir, "Socket": socket,
		"PauseImage": a.Config.PauseImage, "Snapshotter": a.Config.Snapshotter,
		"CNIBin": bin, "CNIConf": a.path("etc/cni/net.d"), "SystemdCgroup": underSystemd(),
	})
	if err != nil {
		return err
	}
	if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
		return err
	}
	a.Children.Start(process.Child{
		Name: "containerd", Path: binary,
		Args:    []string{"--config", path, "--log-level", "warn"},
		PIDFile: filepath.Join(runDir, "containerd.pid"),
	})
	err = a.retry(ctx, "containerd", func() error {
		ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
		defer cancel()
		out, err := ctr(ctx, "version").CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return importArchives(ctx, a.path("images"))
}

func ctr(ctx context.Context, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "ctr", append([]string{"--address", socket, "--namespace", namespace}, args...)...)
}

// cniBinaries finds where the distribution keeps the CNI plugins.
func cniBinaries() (string, error) {
	for _, dir := range []string{"/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni"} {
		if _, err := os.Stat(filepath.Join(dir, "bridge")); err == nil {
			return dir, nil
		}
	}
	return "", errors.New("the CNI plugins are part of k3s; the stand-in uses the system's: none in /usr/lib/cni, /opt/cni/bin or /usr/libexec/cni")
}

// underSystemd decides the cgroup driver as k3s does: systemd's when systemd
// started it.
func underSystemd() bool {
	if os.Getenv("INVOCATION_ID") == "" {
		return false
	}
	_, err := os.Stat("/run/systemd/system")
	return err == nil
}

// endLeftover ends a containerd that outlived the process that had started
// it, so that two do not share a database.
func endLeftover(pidFile string) error {
	b, err := os.ReadFile(pidFile)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || pid <= 1 {
		return os.Remove(pidFile)
	}
	ours := func() bool {
		name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
		return err == nil && strings.TrimSpace(string(name)) == "containerd"
	}
	signal := syscall.SIGTERM
	for i := 0; ours(); i++ {
		if i == 20 {
			signal = syscall.SIGKILL
		}
		if i == 60 {
			return fmt.Errorf("an old containerd, process %d, does not end", pid)
		}
		log.Printf("ending an old containerd, process %d", pid)
		_ = syscall.Kill(pid, signal)
		time.Sleep(500 * time.Millisecond)
	}
	return os.Remove(pidFile)
}
