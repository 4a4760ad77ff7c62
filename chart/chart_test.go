package chart_test

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"helm.sh/helm/v3/pkg/lint"
	"helm.sh/helm/v3/pkg/lint/support"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"

	"github.com/rhizome-dev/rhizome/chart"
	"github.com/rhizome-dev/rhizome/crds"
)

const (
	release   = "rhizome"
	namespace = "rhizome-system"
)

// objects renders the chart and decodes what it makes.
func objects(t *testing.T, values string) []*unstructured.Unstructured {
	t.Helper()
	text, err := chart.Render(release, namespace, parse(t, values))
	if err != nil {
		t.Fatal(err)
	}
	return decode(t, text)
}

func parse(t *testing.T, values string) map[string]any {
	t.Helper()
	out := map[string]any{}
	if err := yaml.Unmarshal([]byte(values), &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func decode(t *testing.T, text string) []*unstructured.Unstructured {
	t.Helper()
	var all []*unstructured.Unstructured
	for document := range strings.SplitSeq("\n"+text, "\n---\n") {
		var object map[string]any
		if err := yaml.UnmarshalStrict([]byte(document), &object); err != nil {
			t.Fatalf("%v\n%s", err, document)
		}
		if len(object) > 0 {
			all = append(all, &unstructured.Unstructured{Object: object})
		}
	}
	return all
}

// one is the only object of a kind.
func one(t *testing.T, all []*unstructured.Unstructured, kind string) *unstructured.Unstructured {
	t.Helper()
	found := slices.Collect(func(yield func(*unstructured.Unstructured) bool) {
		for _, o := range all {
			if o.GetKind() == kind && !yield(o) {
				return
			}
		}
	})
	if len(found) != 1 {
		t.Fatalf("found %d objects of kind %s, want 1", len(found), kind)
	}
	return found[0]
}

func has(all []*unstructured.Unstructured, kind string) bool {
	return slices.ContainsFunc(all, func(o *unstructured.Unstructured) bool { return o.GetKind() == kind })
}

// called is the object of a kind and a name.
func called(t *testing.T, all []*unstructured.Unstructured, kind, name string) *unstructured.Unstructured {
	t.Helper()
	for _, o := range all {
		if o.GetKind() == kind && o.GetName() == name {
			return o
		}
	}
	t.Fatalf("there is no %s %s", kind, name)
	return nil
}

// container is the operator's container.
func container(t *testing.T, all []*unstructured.Unstructured) map[string]any {
	t.Helper()
	containers, _, err := unstructured.NestedSlice(one(t, all, "Deployment").Object, "spec", "template", "spec", "containers")
	if err != nil || len(containers) != 1 {
		t.Fatalf("containers: %v, %v; want one", containers, err)
	}
	return containers[0].(map[string]any)
}

// letIn are the ports that the NetworkPolicy lets in.
func letIn(t *testing.T, all []*unstructured.Unstructured) (ports []int64) {
	t.Helper()
	ingress, _, _ := unstructured.NestedSlice(one(t, all, "NetworkPolicy").Object, "spec", "ingress")
	for _, rule := range ingress {
		for _, p := range rule.(map[string]any)["ports"].([]any) {
			switch port := p.(map[string]any)["port"].(type) {
			case int64:
				ports = append(ports, port)
			case float64:
				ports = append(ports, int64(port))
			}
		}
	}
	return ports
}

func TestHelmLintHasNothingToSay(t *testing.T) {
	for _, m := range lint.AllWithKubeVersion(".", nil, namespace, nil).Messages {
		// An icon is for catalogues.
		if m.Severity > support.UnknownSev && !strings.Contains(m.Err.Error(), "icon is recommended") {
			t.Error(m)
		}
	}
}

func TestValues(t *testing.T) {
	digest := "sha256:" + strings.Repeat("0123456789abcdef", 4)
	tests := []struct {
		reason string
		values string
		check  func(t *testing.T, all []*unstructured.Unstructured)
	}{
		{"an image that was imported from an archive is used as it is", `{image: {repository: ghcr.io/rhizome-dev/rhizome, tag: v9, pullPolicy: IfNotPresent}}`,
			func(t *testing.T, all []*unstructured.Unstructured) {
				want := []any{"ghcr.io/rhizome-dev/rhizome:v9", "IfNotPresent"}
				c := container(t, all)
				if diff := cmp.Diff(want, []any{c["image"], c["imagePullPolicy"]}); diff != "" {
					t.Errorf("image (-want +got):\n%s", diff)
				}
			}},
		{"a digest goes before a tag", `{image: {tag: v9, digest: "` + digest + `"}}`,
			func(t *testing.T, all []*unstructured.Unstructured) {
				if got, want := container(t, all)["image"], "ghcr.io/rhizome-dev/rhizome@"+digest; got != want {
					t.Errorf("image is %v, want %s", got, want)
				}
			}},
		{"one replica has no disruption budget, which would forbid to drain its node", `{}`,
			func(t *testing.T, all []*unstructured.Unstructured) {
				if has(all, "PodDisruptionBudget") {
					t.Error("there is one")
				}
			}},
		{"more replicas have one", `{replicas: 2}`,
			func(t *testing.T, all []*unstructured.Unstructured) { one(t, all, "PodDisruptionBudget") }},
		{"without metrics nothing listens, lets in or may ask who asks", `{metrics: {enabled: false, port: 8443}}`,
			func(t *testing.T, all []*unstructured.Unstructured) {
				if one(t, all, "Service").GetName() != "rhizome-operator-push" {
					t.Error("there is a Service of metrics")
				}
				if args := container(t, all)["args"].([]any); !slices.Contains(args, any("--metrics-address=0")) {
					t.Errorf("arguments are %v", args)
				}
				if got := letIn(t, all); !slices.Equal(got, []int64{8082}) {
					t.Errorf("the NetworkPolicy lets in %v", got)
				}
				rules, err := yaml.Marshal(called(t, all, "ClusterRole", "rhizome-operator"))
				if err != nil || bytes.Contains(rules, []byte("tokenreviews")) || bytes.Contains(rules, []byte("subjectaccessreviews")) {
					t.Errorf("the role has the right to ask: %s, %v", rules, err)
				}
			}},
		{"metrics are let in from where it was said", `{networkPolicy: {metricsFrom: [{namespaceSelector: {matchLabels: {a: b}}}]}}`,
			func(t *testing.T, all []*unstructured.Unstructured) {
				ingress, _, _ := unstructured.NestedSlice(one(t, all, "NetworkPolicy").Object, "spec", "ingress")
				if len(ingress) != 2 || ingress[0].(map[string]any)["from"] == nil || ingress[1].(map[string]any)["from"] != nil {
					t.Errorf("the NetworkPolicy lets in %v", ingress)
				}
			}},
		{"pushes are let in from where it was said", `{gitops: {pushPort: 9000}, networkPolicy: {pushesFrom: [{namespaceSelector: {matchLabels: {a: b}}}], repositoryPorts: [2222]}}`,
			func(t *testing.T, all []*unstructured.Unstructured) {
				ingress, _, _ := unstructured.NestedSlice(one(t, all, "NetworkPolicy").Object, "spec", "ingress")
				if got := letIn(t, all); !slices.Equal(got, []int64{8443, 9000}) || ingress[1].(map[string]any)["from"] == nil {
					t.Errorf("the NetworkPolicy lets in %v", ingress)
				}
				egress, err := yaml.Marshal(one(t, all, "NetworkPolicy").Object["spec"].(map[string]any)["egress"])
				if err != nil || !bytes.Contains(egress, []byte("port: 2222")) || bytes.Contains(egress, []byte("port: 3000")) {
					t.Errorf("the NetworkPolicy lets out %s, %v", egress, err)
				}
			}},
		{"Argo CD is installed in the name of an account that may do anything, and pushes are heard of", `{}`,
			func(t *testing.T, all []*unstructured.Unstructured) {
				args := container(t, all)["args"].([]any)
				for _, want := range []string{
					"--install-as=system:serviceaccount:rhizome-system:rhizome-installer", "--push-address=:8082",
					"--push-url=http://rhizome-operator-push.rhizome-system.svc/v1/push",
				} {
					if !slices.Contains(args, any(want)) {
						t.Errorf("arguments are %v, want %s", args, want)
					}
				}
				if auto, _, _ := unstructured.NestedBool(called(t, all, "ServiceAccount", "rhizome-installer").Object, "automountServiceAccountToken"); auto {
					t.Error("a pod of the account would be given its token")
				}
				binding := called(t, all, "ClusterRoleBinding", "rhizome-installer")
				if role, _, _ := unstructured.NestedString(binding.Object, "roleRef", "name"); role != "cluster-admin" {
					t.Errorf("the account is bound to %s", role)
				}
				ports, _, _ := unstructured.NestedSlice(called(t, all, "Service", "rhizome-operator-push").Object, "spec", "ports")
				if diff := cmp.Diff([]any{map[string]any{"name": "push", "port": float64(80), "targetPort": "push"}}, ports); diff != "" {
					t.Errorf("the Service's ports (-want +got):\n%s", diff)
				}
			}},
		{"without GitOps there is no such account, nobody may act as it, and nothing of Argo CD may be touched", `{gitops: {enabled: false}}`,
			func(t *testing.T, all []*unstructured.Unstructured) {
				if args := container(t, all)["args"].([]any); !slices.Contains(args, any("--gitops=false")) {
					t.Errorf("arguments are %v", args)
				}
				text, err := yaml.Marshal(all)
				if err != nil {
					t.Fatal(err)
				}
				for _, gone := range []string{"rhizome-installer", "impersonate", "cluster-admin", "argoproj.io", "metallb.io", "argocd", "customresourcedefinitions", "statefulsets", "webhook", "push", "3000"} {
					if bytes.Contains(text, []byte(gone)) {
						t.Errorf("something says %s", gone)
					}
				}
				with, err := yaml.Marshal(objects(t, `{}`))
				if err != nil {
					t.Fatal(err)
				}
				for _, kept := range []string{"evictions", "pods/eviction", "bootstrap", "leases", "rhizome-founding", "rhizome-pxe-ca", "tokenreviews"} {
					if bytes.Contains(with, []byte(kept)) != bytes.Contains(text, []byte(kept)) {
						t.Errorf("nothing says %s any more", kept)
					}
				}
			}},
		{"a ServiceAccount that is there already is used", `{serviceAccount: {create: false, name: mine}}`,
			func(t *testing.T, all []*unstructured.Unstructured) {
				for _, o := range all {
					if o.GetKind() == "ServiceAccount" && o.GetName() != "rhizome-pxe" && o.GetName() != "rhizome-installer" {
						t.Errorf("%s is made", o.GetName())
					}
				}
				name, _, _ := unstructured.NestedString(one(t, all, "Deployment").Object, "spec", "template", "spec", "serviceAccountName")
				subjects, _, _ := unstructured.NestedSlice(called(t, all, "ClusterRoleBinding", "rhizome-operator").Object, "subjects")
				if name != "mine" || subjects[0].(map[string]any)["name"] != "mine" {
					t.Errorf("the Deployment uses %q, bound is %v", name, subjects)
				}
			}},
		{"archives that travelled are told to the operator", `{image: {archives: [{name: operator.oci.tar, sha256: "` + strings.TrimPrefix(digest, "sha256:") + `"}]}}`,
			func(t *testing.T, all []*unstructured.Unstructured) {
				if args := container(t, all)["args"].([]any); !slices.Contains(args, any("--image-archive=operator.oci.tar:"+strings.TrimPrefix(digest, "sha256:"))) {
					t.Errorf("arguments are %v", args)
				}
			}},
		{"the PXE pods run the operator's own image", `{image: {digest: "` + digest + `"}}`,
			func(t *testing.T, all []*unstructured.Unstructured) {
				if args := container(t, all)["args"].([]any); !slices.Contains(args, any("--pxe-image=ghcr.io/rhizome-dev/rhizome@"+digest)) {
					t.Errorf("arguments are %v", args)
				}
			}},
		{"the PXE pods' namespace is where their rights are, and the operator's over them", `{pxe: {namespace: elsewhere}}`,
			func(t *testing.T, all []*unstructured.Unstructured) {
				if got := one(t, all, "Namespace"); got.GetName() != "elsewhere" || got.GetLabels()["pod-security.kubernetes.io/enforce"] != "privileged" {
					t.Errorf("the namespace is %s with %v", got.GetName(), got.GetLabels())
				}
				var roles []string
				for _, o := range all {
					if o.GetKind() == "Role" && o.GetNamespace() == "elsewhere" {
						roles = append(roles, o.GetName())
					}
				}
				slices.Sort(roles)
				if want := []string{"rhizome-operator", "rhizome-pxe"}; !slices.Equal(roles, want) {
					t.Errorf("its roles are %v, want %v", roles, want)
				}
				if args := container(t, all)["args"].([]any); !slices.Contains(args, any("--pxe-namespace=elsewhere")) {
					t.Errorf("arguments are %v", args)
				}
			}},
		{"what a PXE pod asks for is told as JSON", `{pxe: {resources: {limits: {memory: 1Gi}}}}`,
			func(t *testing.T, all []*unstructured.Unstructured) {
				want := `--pxe-resources={"limits":{"memory":"1Gi"},"requests":{"cpu":"50m","memory":"64Mi"}}`
				if args := container(t, all)["args"].([]any); !slices.Contains(args, any(want)) {
					t.Errorf("arguments are %v, want %s", args, want)
				}
			}},
	}
	for _, tc := range tests {
		t.Run(tc.reason, func(t *testing.T) { tc.check(t, objects(t, tc.values)) })
	}
}

func TestTheSchemaRefusesBadValues(t *testing.T) {
	tests := []struct{ reason, values, says string }{
		{"a misspelt value", `{replica: 2}`, "replica"},
		{"a misspelt value within", `{image: {name: x}}`, "name"},
		{"a tag that is no string", `{image: {tag: 1}}`, "/image/tag"},
		{"a tag within the repository", `{image: {repository: "ghcr.io/a/b:v1"}}`, "/image/repository"},
		{"a short digest", `{image: {digest: "sha256:0123"}}`, "/image/digest"},
		{"an unknown pull policy", `{image: {pullPolicy: Sometimes}}`, "/image/pullPolicy"},
		{"an unknown log level", `{logLevel: trace}`, "logLevel"},
		{"replicas as text", `{replicas: "1"}`, "replicas"},
		{"metrics on the port of the probes", `{metrics: {port: 8081}}`, "/metrics/port"},
		{"pushes at the port of the probes", `{gitops: {pushPort: 8081}}`, "/gitops/pushPort"},
		{"pushes at the port of metrics", `{gitops: {pushPort: 8443}}`, "gitops.pushPort must not be metrics.port"},
		{"pushes at a port that takes privileges", `{gitops: {pushPort: 80}}`, "/gitops/pushPort"},
		{"a port of a controller that is none", `{networkPolicy: {powerPorts: [0]}}`, "/networkPolicy/powerPorts/0"},
		{"no port to a repository", `{networkPolicy: {repositoryPorts: []}}`, "/networkPolicy/repositoryPorts"},
		{"a port that is none", `{networkPolicy: {apiServerPorts: [0]}}`, "/networkPolicy/apiServerPorts"},
		{"a toleration with a typing error", `{tolerations: [{keys: a}]}`, "tolerations"},
		{"an archive without its digest", `{image: {archives: [{name: operator.oci.tar}]}}`, "/image/archives/0"},
		{"an archive that k3s would not import", `{image: {archives: [{name: operator.zip, sha256: "` + strings.Repeat("0", 64) + `"}]}}`, "/image/archives/0/name"},
		{"an archive elsewhere", `{image: {archives: [{name: ../operator.tar, sha256: "` + strings.Repeat("0", 64) + `"}]}}`, "/image/archives/0/name"},
		{"PXE pods beside the operator's Secrets", `{pxe: {namespace: rhizome-system}}`, "pxe.namespace must not be"},
		{"a namespace that is none", `{pxe: {namespace: A_B}}`, "/pxe/namespace"},
		{"an account that neither is made nor named", `{serviceAccount: {create: false}}`, "set serviceAccount.name"},
	}
	for _, tc := range tests {
		t.Run(tc.reason, func(t *testing.T) {
			_, err := chart.Render(release, namespace, parse(t, tc.values))
			if err == nil || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("the chart answered %v, want an error that names %s", err, tc.says)
			}
		})
	}
}

func TestTheKustomizationGivesTheSameAsTheChart(t *testing.T) {
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), "..")
	if err != nil {
		t.Fatal(err)
	}
	text, err := built.AsYaml()
	if err != nil {
		t.Fatal(err)
	}
	definitions, err := crds.Objects()
	if err != nil {
		t.Fatal(err)
	}
	want := append(objects(t, "{}"), definitions...)
	ns := &unstructured.Unstructured{}
	ns.SetAPIVersion("v1")
	ns.SetKind("Namespace")
	ns.SetName(namespace)
	want = append(want, ns)
	got := decode(t, string(text))
	for _, all := range [][]*unstructured.Unstructured{want, got} {
		slices.SortFunc(all, func(a, b *unstructured.Unstructured) int { return strings.Compare(key(a), key(b)) })
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the kustomization differs from the chart: run 'make generate' (-chart +kustomization):\n%s", diff)
	}
}

func key(o *unstructured.Unstructured) string {
	return o.GetKind() + "/" + o.GetNamespace() + "/" + o.GetName()
}

func TestTheChartCarriesTheDefinitions(t *testing.T) {
	c, err := chart.Load()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, crd := range c.CRDObjects() {
		got[filepath.Base(crd.Filename)] = string(crd.File.Data)
	}
	want := map[string]string{}
	names, err := fs.Glob(crds.FS, "*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		content, err := fs.ReadFile(crds.FS, name)
		if err != nil {
			t.Fatal(err)
		}
		want[name] = string(content)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the chart's copies are stale: run 'make generate' (-crds +chart):\n%s", diff)
	}
}

// TestTheVersionsAgree: the chart names the image of the version that `make image`
// builds unless it is told another.
func TestTheVersionsAgree(t *testing.T) {
	c, err := chart.Load()
	if err != nil {
		t.Fatal(err)
	}
	makefile, err := os.ReadFile("../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)^VERSION \?= (.*)$`).FindSubmatch(makefile)
	if found == nil {
		t.Fatal("the Makefile sets no VERSION")
	}
	if got := string(found[1]); got != c.Metadata.AppVersion || got != "v"+c.Metadata.Version {
		t.Errorf("the Makefile has version %s, the chart %s of %s", got, c.Metadata.Version, c.Metadata.AppVersion)
	}
}
