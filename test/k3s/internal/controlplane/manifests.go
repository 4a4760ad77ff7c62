package controlplane

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"os"
	"path/filepath"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/restmapper"
)

//go:embed packaged.yaml
var packaged []byte

// fieldManager is who applies the manifests.
const fieldManager = "deploy@k3s"

// deployManifests applies <data-dir>/server/manifests at start and whenever a
// file there changes, until ctx ends. A file that cannot be applied is tried
// again: the CRD that it needs may be in another.
func (s *Server) deployManifests(ctx context.Context) {
	dir := filepath.Join(s.dir, "manifests")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		log.Printf("manifests: %v", err)
	}
	mapper := restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(s.kube.Discovery()))
	applied := map[string][32]byte{}
	failed := map[string]string{}
	try := func(name string, b []byte) {
		sum := sha256.Sum256(b)
		if applied[name] == sum {
			return
		}
		if err := s.applyManifest(ctx, mapper, b); err != nil {
			if failed[name] != err.Error() && ctx.Err() == nil {
				failed[name] = err.Error()
				log.Printf("manifest %s: %v; trying again", name, err)
			}
			mapper.Reset()
			return
		}
		applied[name] = sum
		log.Printf("manifest %s: applied", name)
	}
	for {
		try("packaged", packaged)
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !isManifest(path) {
				return err
			}
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			try(path, b)
			return nil
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			log.Printf("manifests: %v", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(3 * time.Second):
		}
	}
}

// isManifest leaves out what is no manifest and what a file <name>.skip beside
// it takes out.
func isManifest(path string) bool {
	switch filepath.Ext(path) {
	case ".yaml", ".yml", ".json":
	default:
		return false
	}
	if strings.HasPrefix(filepath.Base(path), ".") {
		return false
	}
	_, err := os.Stat(path + ".skip")
	return errors.Is(err, fs.ErrNotExist)
}

func (s *Server) applyManifest(ctx context.Context, mapper meta.RESTMapper, b []byte) error {
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(b), 4096)
	var errs []error
	for {
		var u unstructured.Unstructured
		err := decoder.Decode(&u.Object)
		if errors.Is(err, io.EOF) {
			return errors.Join(errs...)
		}
		if err != nil {
			return errors.Join(append(errs, err)...)
		}
		if len(u.Object) == 0 {
			continue
		}
		if u.IsList() {
			err = u.EachListItem(func(o runtime.Object) error {
				return s.applyObject(ctx, mapper, o.(*unstructured.Unstructured))
			})
		} else {
			err = s.applyObject(ctx, mapper, &u)
		}
		if err != nil {
			errs = append(errs, err)
		}
	}
}

func (s *Server) applyObject(ctx context.Context, mapper meta.RESTMapper, u *unstructured.Unstructured) error {
	gvk := u.GroupVersionKind()
	mapping, err := mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	if err != nil {
		return err
	}
	var to dynamic.ResourceInterface = s.dynamic.Resource(mapping.Resource)
	if mapping.Scope.Name() == meta.RESTScopeNameNamespace {
		namespace := u.GetNamespace()
		if namespace == "" {
			namespace = metav1.NamespaceDefault
		}
		to = s.dynamic.Resource(mapping.Resource).Namespace(namespace)
	}
	if _, err := to.Apply(ctx, u.GetName(), u, metav1.ApplyOptions{FieldManager: fieldManager, Force: true}); err != nil {
		return fmt.Errorf("%s %s: %w", gvk.Kind, u.GetName(), err)
	}
	return nil
}
