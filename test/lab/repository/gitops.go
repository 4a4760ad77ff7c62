//go:build linux

package repository

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"text/template"

	"github.com/rhizome-dev/rhizome/test/argocd/chart"
)

// GitOps is the cluster's Argo CD and the repository that it follows.
type GitOps struct {
	// URL of the git repository, and Charts that of the chart repository, as the
	// machines reach them.
	URL, Charts string
	// ArgoCD is what its pods run.
	ArgoCD ArgoCD
}

// ArgoCD is a built Argo CD.
type ArgoCD struct {
	// Image is the archive of its image, which travels with k3s' own, and Name the
	// image's name with its tag.
	Image File
	Name  string
	// Manifests is the directory of its manifests on this host.
	Manifests string
}

// Repository and Tag are the two halves of the image's name.
func (a ArgoCD) Repository() string { name, _, _ := strings.Cut(a.Name, ":"); return name }

// Tag is the second half of the image's name.
func (a ArgoCD) Tag() string { _, tag, _ := strings.Cut(a.Name, ":"); return tag }

// Version is that of the chart.
func (GitOps) Version() string { return chart.Version }

// Keep is the annotations of an object that stays when its file goes.
func (GitOps) Keep() string { return keep }

// AppFile is the lab's application, below the repository's root.
const AppFile = "apps/hello/hello.yaml"

// The Services have fixed addresses, from the part of the Services' network that
// Kubernetes keeps for such: the stand-in for k3s has no CoreDNS, so that Argo CD
// cannot find its own parts by name.
var gitops = template.Must(template.New("gitops.yaml").Parse(`# What the cluster follows: this repository, by the Argo CD that the operator installs.
apiVersion: rhizome.dev/v1alpha1
kind: GitOps
metadata:
  name: lab
  annotations: {{.Keep}}
spec:
  argoCD:
    repository: {{.Charts}}
    version: {{.Version}}
    values:
      global:
        image: {repository: {{.ArgoCD.Repository}}, tag: {{.ArgoCD.Tag}}}
      redis:
        image: {repository: {{.ArgoCD.Repository}}, tag: {{.ArgoCD.Tag}}}
        command: [redis-server]
        clusterIP: 10.43.0.101
      repoServer:
        clusterIP: 10.43.0.102
        # Emulated machines are slow.
        livenessProbe: {timeoutSeconds: 60, failureThreshold: 20}
      configs:
        params:
          redis.server: 10.43.0.101:6379
          repo.server: 10.43.0.102:8081
          controller.repo.server.timeout.seconds: "300"
          applicationsetcontroller.repo.server.timeout.seconds: "300"
          reposerver.git.request.timeout: 120s
  seed:
    url: {{.URL}}
    branch: main
  layers:
    - {name: bootstrap, path: bootstrap/*}
    - {name: apps, path: apps/*, dependsOn: [bootstrap], removal: Delete}
`))

var app = template.Must(template.New("hello.yaml").Parse(`# The last layer: it is applied once the layer bootstrap is ready.
apiVersion: v1
kind: ConfigMap
metadata:
  name: hello
data:
  says: the cluster follows its repository
`))

// WriteApp writes an application for the layer apps below the repository's root.
func WriteApp(root string) error { return write(filepath.Join(root, AppFile), app, nil) }

// BuildArgoCD is the real Argo CD for the lab's machines. script is the path of
// test/argocd/image/build.sh, which builds it unless it is built.
func BuildArgoCD(ctx context.Context, script string) (ArgoCD, error) {
	build := exec.CommandContext(ctx, script)
	build.Stderr = os.Stderr
	out, err := build.Output()
	if err != nil {
		return ArgoCD{}, fmt.Errorf("cannot build Argo CD with %s: %w", script, err)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return BuiltArgoCD(lines[len(lines)-1])
}

// BuiltArgoCD is an Argo CD that is built: the archive of its image, with the image's
// name and the manifests beside it.
func BuiltArgoCD(archive string) (ArgoCD, error) {
	dir := filepath.Dir(archive)
	name, err := os.ReadFile(filepath.Join(dir, "name"))
	if err != nil {
		return ArgoCD{}, fmt.Errorf("the image of Argo CD has no name: %w", err)
	}
	digest, err := digestOf(archive)
	if err != nil {
		return ArgoCD{}, err
	}
	return ArgoCD{
		Image: File{URL: "file://" + archive, SHA256: digest},
		Name:  strings.TrimSpace(string(name)), Manifests: filepath.Join(dir, "manifests"),
	}, nil
}
