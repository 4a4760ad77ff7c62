//go:build linux

package argocd

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/yaml"
)

// install applies Argo CD's manifests as far as they matter outside of pods, and
// what is made elsewhere when it is installed: the session key and the project
// default by its web server, the password of Redis by an init container.
func (a *Argo) install(ctx context.Context, config *rest.Config) error {
	manifests := filepath.Join(a.programs, "manifests")
	crds := envtest.CRDInstallOptions{Paths: []string{filepath.Join(manifests, "crds")}, ErrorIfPathMissing: true, MaxTime: patience}
	if _, err := envtest.InstallCRDs(config, crds); err != nil {
		return err
	}
	objects := []*unstructured.Unstructured{{Object: map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": a.Namespace}}}}
	file, err := os.Open(filepath.Join(manifests, "core-install.yaml"))
	if err != nil {
		return err
	}
	defer file.Close()
	for documents := utilyaml.NewYAMLReader(bufio.NewReader(file)); ; {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("%s: %w", file.Name(), err)
		}
		o := &unstructured.Unstructured{}
		if err := yaml.Unmarshal(document, &o.Object); err != nil {
			return fmt.Errorf("%s: %w", file.Name(), err)
		}
		if slices.Contains([]string{"ConfigMap", "Secret"}, o.GetKind()) {
			o.SetNamespace(a.Namespace)
			if o.GetName() == "argocd-secret" {
				o.Object["stringData"] = map[string]any{"server.secretkey": secret()}
			}
			objects = append(objects, o)
		}
	}
	objects = append(objects,
		&unstructured.Unstructured{Object: map[string]any{"apiVersion": "argoproj.io/v1alpha1", "kind": "AppProject",
			"metadata": map[string]any{"name": "default", "namespace": a.Namespace},
			"spec": map[string]any{"sourceRepos": []any{"*"},
				"destinations":             []any{map[string]any{"server": "*", "namespace": "*"}},
				"clusterResourceWhitelist": []any{map[string]any{"group": "*", "kind": "*"}}}}})
	for _, o := range objects {
		if err := a.Apply(ctx, o); err != nil {
			return err
		}
	}
	return nil
}

// Apply applies an object as a person does who owns all fields that it says.
func (a *Argo) Apply(ctx context.Context, o client.Object) error {
	if err := a.Client.Patch(ctx, o, client.Apply, client.FieldOwner("argocd-test"), client.ForceOwnership); err != nil {
		return fmt.Errorf("cannot apply %s %s: %w", o.GetObjectKind().GroupVersionKind().Kind, o.GetName(), err)
	}
	return nil
}

// Credentials gives Argo CD the credentials of a repository.
func (a *Argo) Credentials(ctx context.Context, name, url, user, password string) error {
	return a.Apply(ctx, &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Secret",
		"metadata":   map[string]any{"name": name, "namespace": a.Namespace, "labels": map[string]any{"argocd.argoproj.io/secret-type": "repository"}},
		"stringData": map[string]any{"type": "git", "url": url, "username": user, "password": password}}})
}
