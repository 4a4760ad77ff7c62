//go:build linux

package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/rhizome-dev/rhizome/pxe/media"
	"github.com/rhizome-dev/rhizome/test/lab"
	"github.com/rhizome-dev/rhizome/test/lab/repository"
)

// dist is where `make build` puts what is shipped.
const dist = "../../dist"

// site is a lab with a repository of manifests and everything that a seed keeps.
type site struct {
	*lab.Lab
	dir string
}

func newSite(t *testing.T, options repository.Options, nodes ...repository.Node) *site {
	t.Helper()
	return newSiteOf(t, nil, options, nodes...)
}

// newSiteOf is a site with the operating system's image in another form. Nil: as the
// lab has it.
func newSiteOf(t *testing.T, form func(*testing.T, lab.OSImage) lab.OSImage, options repository.Options, nodes ...repository.Node) *site {
	t.Helper()
	for _, name := range []string{"bootstrapper", "rhizome-operator.oci.tar", "boot"} {
		if _, err := os.Stat(filepath.Join(dist, name)); err != nil {
			t.Fatalf("%v: run `make build` first", err)
		}
	}
	s := &site{Lab: lab.New(t, lab.Options{}), dir: t.TempDir()}
	release, err := repository.StandIn(t.Context(), "../k3s/build.sh")
	if err != nil {
		t.Fatal(err)
	}
	image, err := lab.BuildImage(t.Context(), t.Output())
	if err != nil {
		t.Fatal(err)
	}
	options.LAN, options.Gateway = s.Network.LAN, s.Network.Gateway
	options.Release, options.Image = release, image
	if form != nil {
		options.Image = form(t, image)
	}
	if err := repository.Write(s.path("manifests"), options, nodes...); err != nil {
		t.Fatal(err)
	}
	return s
}

// asQcow2 is the image as distributions publish theirs.
func asQcow2(t *testing.T, image lab.OSImage) lab.OSImage {
	t.Helper()
	dir := t.TempDir()
	script := `zstd -dcq "$1" | dd of="$2/raw" bs=1M iflag=fullblock conv=sparse status=none &&
		qemu-img convert -f raw -c -O qcow2 "$2/raw" "$2/os.qcow2" && rm "$2/raw"`
	if out, err := exec.Command("sh", "-c", script, "sh", image.Path, dir).CombinedOutput(); err != nil {
		t.Fatalf("cannot make a qcow2 file: %v\n%s", err, out)
	}
	image.Path = filepath.Join(dir, "os.qcow2")
	digest, err := media.Digest(t.Context(), image.Path)
	if err != nil {
		t.Fatal(err)
	}
	image.SHA256 = digest
	return image
}

func (s *site) path(name string) string { return filepath.Join(s.dir, name) }

// seed starts the bootstrapper on the lab's network.
func (s *site) seed(t *testing.T, flags ...string) *run {
	t.Helper()
	bootstrapper, err := filepath.Abs(filepath.Join(dist, "bootstrapper"))
	if err != nil {
		t.Fatal(err)
	}
	args := append([]string{
		"seed",
		"--state=" + s.path("state"), "--cache=" + s.path("cache"), "--kubeconfig=" + s.path("kubeconfig"),
		"--operator-image=" + filepath.Join(filepath.Dir(bootstrapper), "rhizome-operator.oci.tar"),
	}, append(flags, s.path("manifests"))...)
	cmd := s.Network.Command(t.Context(), bootstrapper, args...)
	return startRun(t, cmd)
}

// client talks to the cluster from the laptop's place on the lab's network, with
// the kubeconfig that the seed wrote.
func (s *site) client(t *testing.T) (*rest.Config, *kubernetes.Clientset) {
	t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", s.path("kubeconfig"))
	if err != nil {
		t.Fatal(err)
	}
	config.Dial = s.Network.DialContext
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return config, client
}

// claimState is what the state directory remembers of the first machine's claim.
func (s *site) claims(t *testing.T) []map[string]any {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(s.path("state"), "claims.json"))
	if err != nil {
		t.Fatal(err)
	}
	var claims []map[string]any
	if err := json.Unmarshal(raw, &claims); err != nil {
		t.Fatal(err)
	}
	return claims
}

// run is one run of the bootstrapper, whose output is followed line by line.
type run struct {
	cmd   *exec.Cmd
	ended chan struct{}
	err   error // of the process, once ended is closed

	mu      sync.Mutex
	lines   []string
	changed chan struct{} // closed and replaced at each new line
}

func startRun(t *testing.T, cmd *exec.Cmd) *run {
	t.Helper()
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = in, in
	t.Logf("run: %s", strings.Join(cmd.Args, " "))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	in.Close()
	r := &run{cmd: cmd, ended: make(chan struct{}), changed: make(chan struct{})}
	go func() {
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			t.Log(time.Now().Format("15:04:05 ") + lines.Text())
			r.mu.Lock()
			r.lines = append(r.lines, lines.Text())
			close(r.changed)
			r.changed = make(chan struct{})
			r.mu.Unlock()
		}
		out.Close()
		r.err = cmd.Wait()
		close(r.ended)
	}()
	t.Cleanup(func() { r.kill() })
	return r
}

// waitLine waits for a line for which match is true. ok is false when the run
// ended without one.
func (r *run) waitLine(ctx context.Context, match func(string) bool) (line string, ok bool) {
	for seen := 0; ; {
		r.mu.Lock()
		for ; seen < len(r.lines); seen++ {
			if match(r.lines[seen]) {
				line = r.lines[seen]
				r.mu.Unlock()
				return line, true
			}
		}
		changed := r.changed
		r.mu.Unlock()
		select {
		case <-changed:
		case <-r.ended:
			r.mu.Lock()
			rest := r.lines[seen:]
			r.mu.Unlock()
			for _, line := range rest {
				if match(line) {
					return line, true
				}
			}
			return "", false
		case <-ctx.Done():
			return "", false
		}
	}
}

// kill ends the run as a power cut would.
func (r *run) kill() {
	_ = r.cmd.Process.Signal(syscall.SIGKILL)
	<-r.ended
}

// wait is the run's own end.
func (r *run) wait(t *testing.T) error {
	t.Helper()
	select {
	case <-r.ended:
		return r.err
	case <-t.Context().Done():
		t.Fatal("the test ended before the seed")
		return nil
	}
}

func (r *run) output() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.lines, "\n")
}

// isBlank says whether a disk holds nothing but zeros.
func isBlank(path string) (bool, error) {
	in, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer in.Close()
	zeros, buffer := make([]byte, 1<<20), make([]byte, 1<<20)
	for {
		n, err := in.Read(buffer)
		if !bytes.Equal(buffer[:n], zeros[:n]) {
			return false, nil
		}
		if n == 0 {
			if err != nil && err.Error() != "EOF" {
				return false, fmt.Errorf("cannot read %s: %w", path, err)
			}
			return true, nil
		}
	}
}
