package seed

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"k8s.io/client-go/tools/clientcmd"

	"github.com/rhizome-dev/rhizome/bootstrapper/progress"
	"github.com/rhizome-dev/rhizome/bootstrapper/state"
	"github.com/rhizome-dev/rhizome/internal/provision"
)

// The kubeconfig's certificate lasts as long as those that k3s makes itself, and
// is made anew by a run that finds it about to end.
const (
	kubeconfigLife  = 365 * 24 * time.Hour
	kubeconfigRenew = 30 * 24 * time.Hour
)

// kubeconfigState is what there is in the place of the kubeconfig.
type kubeconfigState int

const (
	kubeconfigAbsent  kubeconfigState = iota
	kubeconfigGood                    // ours and current
	kubeconfigStale                   // ours, to be written anew
	kubeconfigForeign                 // not ours: never touched
)

// judgeKubeconfig says what a file's content is, nil if there is none. Ours is
// one that trusts our authority and no other.
func judgeKubeconfig(content []byte, ca []byte, server string, now time.Time) kubeconfigState {
	if content == nil {
		return kubeconfigAbsent
	}
	config, err := clientcmd.Load(content)
	if err != nil || len(config.Clusters) != 1 || len(config.AuthInfos) != 1 {
		return kubeconfigForeign
	}
	for _, cluster := range config.Clusters {
		if !bytes.Equal(bytes.TrimSpace(cluster.CertificateAuthorityData), bytes.TrimSpace(ca)) {
			return kubeconfigForeign
		}
		if cluster.Server != server {
			return kubeconfigStale
		}
	}
	for _, user := range config.AuthInfos {
		block, _ := pem.Decode(user.ClientCertificateData)
		if block == nil {
			return kubeconfigStale
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil || certificate.NotAfter.Before(now.Add(kubeconfigRenew)) {
			return kubeconfigStale
		}
	}
	return kubeconfigGood
}

func (f *flow) lookAtKubeconfig() (kubeconfigState, error) {
	path := f.kubeconfigPath()
	content, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, fmt.Errorf("cannot read the kubeconfig: %w", err)
	}
	if err == nil && content == nil {
		content = []byte{}
	}
	found := judgeKubeconfig(content, f.secrets.Founding.Authorities.Server.Certificate, provision.Endpoint(f.cluster, f.first), f.Now())
	if found == kubeconfigForeign {
		return found, withFix(fmt.Errorf("%s is there and not this cluster's kubeconfig: it is not overwritten", path),
			"name another path with --kubeconfig, or move that file away")
	}
	return found, nil
}

// checkKubeconfig finds out before anything is done whether the kubeconfig can be
// written.
func (f *flow) checkKubeconfig() error {
	if _, err := f.lookAtKubeconfig(); err != nil {
		return err
	}
	dir := filepath.Dir(f.kubeconfigPath())
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return withFix(fmt.Errorf("the kubeconfig's directory %s is not there", dir), "make it, or name another path with --kubeconfig")
	}
	return nil
}

// kubeconfig writes the kubeconfig, once the endpoint that it names answers.
func (f *flow) kubeconfig(ctx context.Context, p *progress.Phase) (string, error) {
	endpoint := provision.Endpoint(f.cluster, f.first)
	content, err := f.secrets.Kubeconfig(f.cluster.Name, endpoint, "admin", f.Now(), kubeconfigLife)
	if err != nil {
		return "", err
	}
	if err := f.awaitEndpoint(ctx, p); err != nil {
		return "", err
	}
	found, err := f.lookAtKubeconfig()
	if err != nil {
		return "", err
	}
	path := f.kubeconfigPath()
	if found == kubeconfigGood {
		return path + " is as it should be", nil
	}
	if uid, gid, ok := sudoer(os.Getenv, os.Geteuid(), filepath.Dir(path)); ok && f.Kubeconfig != "" {
		return path, state.WriteFileAs(path, content, uid, gid)
	}
	return path, state.WriteFile(path, content)
}

// sudoer is the user who called sudo, if the directory is theirs: what is put there
// is for them to read. The state directory stays root's.
func sudoer(getenv func(string) string, euid int, dir string) (uid, gid int, ok bool) {
	uid, errUID := strconv.Atoi(getenv("SUDO_UID"))
	gid, errGID := strconv.Atoi(getenv("SUDO_GID"))
	if euid != 0 || errUID != nil || errGID != nil || uid <= 0 || gid < 0 {
		return 0, 0, false
	}
	info, err := os.Stat(dir)
	if err != nil {
		return 0, 0, false
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	return uid, gid, ok && int(owner.Uid) == uid
}

// awaitEndpoint waits for the virtual IP, if there is one: kube-vip takes it once
// it runs.
func (f *flow) awaitEndpoint(ctx context.Context, p *progress.Phase) error {
	if f.cluster.Spec.ControlPlane.VirtualIP == nil {
		return nil
	}
	for first := true; ; first = false {
		var seen sighting
		for _, s := range f.look(ctx) {
			if s.address.String() == string(*f.cluster.Spec.ControlPlane.VirtualIP) {
				seen = s
			}
		}
		if seen.answer == ours {
			return nil
		}
		if first {
			p.Note("waiting for the virtual IP: %s", describe([]sighting{seen}))
		}
		select {
		case <-ctx.Done():
			return withFix(fmt.Errorf("%w: the virtual IP does not answer: %s", ctx.Err(), describe([]sighting{seen})),
				"look at the kube-vip pod in kube-system (is its image to be had?), then %s", goOn)
		case <-time.After(time.Second):
		}
	}
}
