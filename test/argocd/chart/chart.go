// Package chart makes a Helm chart of Argo CD out of Argo CD's own manifests.
//
// It stands in for the chart argo-cd of argo-helm, which is not to be had without
// internet: the same kinds, labels and names, and of the real chart's values those
// that are in values below. It has what core-install.yaml has (the application and
// ApplicationSet controllers, the repo-server, Redis), and what Argo CD's programs
// make that it leaves out: the password of Redis and the session key, made anew by
// Helm, and the project default. So it is a chart to install once; an Argo CD that
// manages itself from it would change its own keys at every look.
package chart

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	helmchart "helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/repo"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

// Name and Version are those of the chart: what a GitOps resource asks for unless it
// says otherwise.
const (
	Name    = "argo-cd"
	Version = "7.9.1"
)

// values are the chart's own, with the meaning that they have in argo-helm, but for
// redis.command and the addresses, which are of this chart alone.
const values = `# Roles and bindings of the whole cluster. One release of a cluster may have them.
createClusterRoles: true
# The image of Argo CD's programs.
global:
  image:
    repository: quay.io/argoproj/argocd
    tag: ""
configs:
  # The ConfigMap argocd-cm.
  cm: {}
  # The ConfigMap argocd-cmd-params-cm.
  params: {}
redis:
  image:
    repository: redis
    tag: 7.2.11-alpine
  # The program to run. Empty: what the image says.
  command: []
  # The address of the Service. Empty: Kubernetes chooses.
  clusterIP: ""
repoServer:
  clusterIP: ""
  # When a repo-server that does not answer is started anew.
  livenessProbe:
    initialDelaySeconds: 30
    periodSeconds: 30
    timeoutSeconds: 5
    failureThreshold: 3
`

// helpers of the templates.
const (
	argoImage  = `{{ .Values.global.image.repository }}:{{ .Values.global.image.tag | default .Chart.AppVersion }}`
	redisImage = `{{ .Values.redis.image.repository }}:{{ .Values.redis.image.tag }}`
	namespace  = `{{ .Release.Namespace }}`
)

// structured are templates of values that are no strings, by what stands for them until
// YAML has put its quotes around the strings.
var structured = map[string]string{
	"redis-command": `{{ toJson .Values.redis.command }}`,
	"repo-liveness": `{{ toJson (merge .Values.repoServer.livenessProbe (dict "httpGet" (dict "path" "/healthz?full=true" "port" 8084))) }}`,
}

// Write makes a chart repository in dir: the chart's archive and an index. manifests
// is the directory of Argo CD's manifests: crds/*.yaml and core-install.yaml. Abridged,
// the chart has definitions that an API server on an emulated processor can take.
func Write(dir, manifests string, abridged bool) error {
	c, err := fromManifests(manifests, abridged)
	if err != nil {
		return fmt.Errorf("cannot make Argo CD's chart of %s: %w", manifests, err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if _, err := chartutil.Save(c, dir); err != nil {
		return fmt.Errorf("cannot write Argo CD's chart: %w", err)
	}
	index, err := repo.IndexDirectory(dir, "")
	if err != nil {
		return fmt.Errorf("cannot write the index of Argo CD's chart: %w", err)
	}
	return index.WriteFile(filepath.Join(dir, "index.yaml"), 0o644)
}

func fromManifests(manifests string, abridged bool) (*helmchart.Chart, error) {
	c := &helmchart.Chart{
		Metadata: &helmchart.Metadata{APIVersion: "v2", Name: Name, Version: Version, Type: "application",
			Description: "Argo CD, from its own manifests"},
		Raw: []*helmchart.File{{Name: chartutil.ValuesfileName, Data: []byte(values)}},
	}
	if err := yaml.Unmarshal([]byte(values), &c.Values); err != nil {
		return nil, err
	}
	crds, err := filepath.Glob(filepath.Join(manifests, "crds", "*-crd.yaml"))
	if err != nil || len(crds) == 0 {
		return nil, fmt.Errorf("no definitions in %s: %w", filepath.Join(manifests, "crds"), errors.Join(err, os.ErrNotExist))
	}
	for _, f := range crds {
		content, err := os.ReadFile(f)
		if err != nil {
			return nil, err
		}
		if abridged {
			if content, err = abridge(content); err != nil {
				return nil, fmt.Errorf("cannot abridge %s: %w", f, err)
			}
		}
		c.Files = append(c.Files, &helmchart.File{Name: "crds/" + filepath.Base(f), Data: content})
	}
	objects, err := read(filepath.Join(manifests, "core-install.yaml"))
	if err != nil {
		return nil, err
	}
	for _, o := range objects {
		content, err := template(c, o)
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", o.GetKind(), o.GetName(), err)
		}
		if content != "" {
			add(c, o.GetKind()+"-"+o.GetName(), content)
		}
	}
	if c.Metadata.AppVersion == "" {
		return nil, errors.New("core-install.yaml has no repo-server whose image has a tag")
	}
	add(c, "AppProject-default", project)
	add(c, "Secret-argocd-redis", redisSecret)
	return c, nil
}

func add(c *helmchart.Chart, name, content string) {
	c.Templates = append(c.Templates, &helmchart.File{Name: "templates/" + strings.ToLower(name) + ".yaml", Data: []byte(content)})
}

// The project that Applications are of unless they say otherwise, which Argo CD's web
// server would make.
const project = `apiVersion: argoproj.io/v1alpha1
kind: AppProject
metadata: {name: default}
spec:
  sourceRepos: ['*']
  destinations: [{server: '*', namespace: '*'}]
  clusterResourceWhitelist: [{group: '*', kind: '*'}]
`

// The password of Redis, which an init container would make.
const redisSecret = `apiVersion: v1
kind: Secret
metadata:
  name: argocd-redis
  labels: {app.kubernetes.io/part-of: argocd}
stringData:
  auth: {{ randAlphaNum 24 | quote }}
`

// settings is a ConfigMap of the values at a path.
func settings(o *unstructured.Unstructured, path string) (string, error) {
	head, err := yaml.Marshal(o.Object)
	if err != nil {
		return "", err
	}
	return string(head) + "{{- with " + path + " }}\ndata:\n{{- range $key, $value := . }}\n  {{ $key }}: {{ $value | toString | quote }}\n{{- end }}\n{{- end }}\n", nil
}

// template is the template that an object of the manifests becomes; empty: none.
func template(c *helmchart.Chart, o *unstructured.Unstructured) (string, error) {
	switch o.GetKind() {
	case "CustomResourceDefinition":
		return "", nil
	case "ConfigMap":
		switch o.GetName() {
		case "argocd-cm":
			return settings(o, ".Values.configs.cm")
		case "argocd-cmd-params-cm":
			return settings(o, ".Values.configs.params")
		}
	case "Secret":
		if o.GetName() == "argocd-secret" {
			o.Object["stringData"] = map[string]any{"server.secretkey": "{{ randAlphaNum 32 }}"}
		}
	case "Service":
		for name, address := range map[string]string{"argocd-redis": ".Values.redis.clusterIP", "argocd-repo-server": ".Values.repoServer.clusterIP"} {
			if o.GetName() == name {
				if err := unstructured.SetNestedField(o.Object, "{{ "+address+" }}", "spec", "clusterIP"); err != nil {
					return "", err
				}
			}
		}
	case "RoleBinding", "ClusterRoleBinding":
		subjects, _, err := unstructured.NestedSlice(o.Object, "subjects")
		if err != nil {
			return "", err
		}
		for _, s := range subjects {
			s.(map[string]any)["namespace"] = namespace //nolint:forcetypeassert // a subject is an object
		}
		if err := unstructured.SetNestedSlice(o.Object, subjects, "subjects"); err != nil {
			return "", err
		}
	case "Deployment", "StatefulSet":
		if err := workload(c, o); err != nil {
			return "", err
		}
	}
	content, err := yaml.Marshal(o.Object)
	if err != nil {
		return "", err
	}
	text := string(content)
	for name, value := range structured {
		text = strings.ReplaceAll(text, placeholder(name), value)
	}
	if strings.HasPrefix(o.GetKind(), "ClusterRole") {
		text = "{{- if .Values.createClusterRoles }}\n" + text + "{{- end }}\n"
	}
	return text, nil
}

func placeholder(name string) string { return "value-of-" + name }

// workload makes the images of a workload's pods values, takes an image that is
// there, and leaves the init containers out: one would make the password of Redis,
// the other copies a program for plugins, of which there are none.
func workload(c *helmchart.Chart, o *unstructured.Unstructured) error {
	unstructured.RemoveNestedField(o.Object, "spec", "template", "spec", "initContainers")
	containers, _, err := unstructured.NestedSlice(o.Object, "spec", "template", "spec", "containers")
	if err != nil {
		return err
	}
	for _, entry := range containers {
		container, ok := entry.(map[string]any)
		if !ok {
			return fmt.Errorf("a container is %v", entry)
		}
		container["imagePullPolicy"] = "IfNotPresent"
		if container["name"] == "redis" {
			container["image"], container["command"] = redisImage, placeholder("redis-command")
			continue
		}
		if image, ok := container["image"].(string); ok {
			_, c.Metadata.AppVersion, _ = strings.Cut(image, ":")
		}
		container["image"] = argoImage
		if container["livenessProbe"] != nil {
			container["livenessProbe"] = placeholder("repo-liveness")
		}
	}
	return unstructured.SetNestedSlice(o.Object, containers, "spec", "template", "spec", "containers")
}

func read(path string) ([]*unstructured.Unstructured, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var all []*unstructured.Unstructured
	for documents := utilyaml.NewYAMLReader(bufio.NewReader(file)); ; {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		o := &unstructured.Unstructured{}
		if err := yaml.Unmarshal(document, &o.Object); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if len(o.Object) > 0 {
			all = append(all, o)
		}
	}
}
