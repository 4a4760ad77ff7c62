package manifests

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/inventory"
)

const soundCluster = `# The cluster.
apiVersion: rhizome.dev/v1alpha1
kind: Cluster
metadata:
  name: home
spec:
  network:
    cidr: 192.168.1.0/24
    gateway: 192.168.1.1
  kubernetes:
    version: v1.33.5+k3s1
  operatingSystem: debian
`

const soundNode = `apiVersion: rhizome.dev/v1alpha1
kind: Node
metadata:
  name: alpha
spec:
  role: ControlPlane
  mac: "52:54:00:12:34:56"
  address: 192.168.1.10
`

const soundSystem = `apiVersion: rhizome.dev/v1alpha1
kind: OperatingSystem
metadata:
  name: debian
spec:
  format: Image
  media:
    - architecture: amd64
      url: https://example.org/debian.raw
      sha256: 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
`

func TestSoundManifestsAreReadWithDefaults(t *testing.T) {
	r := Parse("all.yaml", []byte(soundCluster+"---\n"+soundNode+"--- # the system\n"+soundSystem))
	if len(r.Findings) > 0 {
		t.Fatalf("findings: %v", r.Findings)
	}
	inv := r.Inventory
	if len(inv.Clusters) != 1 || len(inv.Nodes) != 1 || len(inv.OperatingSystems) != 1 || r.Objects != 3 {
		t.Fatalf("read %d Clusters, %d Nodes, %d OperatingSystems, %d objects; want one of each", len(inv.Clusters), len(inv.Nodes), len(inv.OperatingSystems), r.Objects)
	}
	c := inv.Clusters[0].Spec
	if c.Network.DHCP != v1alpha1.DHCPProxy || c.Kubernetes.PodCIDR != "10.42.0.0/16" || c.PXE.MaxAttempts != 3 || c.PXE.ClaimTTL == nil || c.Healing.Mode != v1alpha1.HealingDryRun {
		t.Errorf("defaults are missing: %+v", c)
	}
	if inv.Nodes[0].Spec.Architecture != v1alpha1.AMD64 {
		t.Errorf("architecture is %q, want the default amd64", inv.Nodes[0].Spec.Architecture)
	}
	for key, want := range map[inventory.Key]map[string]int{
		{Kind: "Cluster"}:         {"": 2, "spec.network.cidr": 8, "spec.network.dhcp": 7},
		{Kind: "Node"}:            {"": 14, "spec.mac": 20},
		{Kind: "OperatingSystem"}: {"": 23, "spec.media[0]": 30, "spec.media[0].sha256": 32},
	} {
		for field, line := range want {
			if got := inv.Origins[key].At(field); got != line {
				t.Errorf("%s %q stands on line %d, want %d", key.Kind, field, got, line)
			}
		}
	}
	if findings := inventory.Check(inv); len(findings) > 0 {
		t.Errorf("findings between objects: %v", findings)
	}
}

// Every case is a sound manifest with one thing replaced.
func TestFindings(t *testing.T) {
	cases := []struct {
		reason, manifest, old, new string
		want                       []string // whole lines; "rule " before each
	}{
		{"a misspelt field", soundNode, "  address:", "  adress:", []string{
			`Schema a.yaml:5: Node/alpha: spec.address: Required value; add it`,
			`UnknownField a.yaml:8: Node/alpha: spec.adress: unknown field; remove it or correct its spelling: known here are address, architecture, boot, disk, healing, labels, mac, operatingSystem, power, role, taints`,
		}},
		{"a misspelt field in a list", soundSystem, "      url:", "      ulr: x\n      url:", []string{
			`UnknownField a.yaml:9: OperatingSystem/debian: spec.media[0].ulr: unknown field; remove it or correct its spelling: known here are architecture, compression, files, initrd, kernel, packages, sha256, url`,
		}},
		{"a misspelt field of the metadata", soundNode, "  name: alpha", "  name: alpha\n  lables: {}", []string{
			`UnknownField a.yaml:5: Node/alpha: metadata.lables: unknown field; remove it or correct its spelling`,
		}},
		{"a field at the top", soundNode, "spec:", "sepc: {}\nspec:", []string{
			`UnknownField a.yaml:5: Node/alpha: sepc: unknown field; remove it or correct its spelling: known here are apiVersion, kind, metadata, spec`,
		}},
		{"a field twice", soundNode, "  role:", "  role: Worker\n  role:", []string{
			`DuplicateKey a.yaml:7: key "role" already set in map; remove one of the two`,
		}},
		{"broken YAML", soundNode, "  role:", " role:", []string{
			`Syntax a.yaml:7: mapping values are not allowed in this context; correct the YAML`,
		}},
		{"an unknown kind", soundNode, "kind: Node", "kind: Noed", []string{
			`UnknownKind a.yaml:2: Noed/alpha: kind: "Noed" is not a kind of rhizome.dev/v1alpha1; write one of Cluster, GitOps, Node, OperatingSystem`,
		}},
		{"an unknown version", soundNode, "v1alpha1", "v1", []string{
			`UnknownVersion a.yaml:1: Node/alpha: apiVersion: rhizome.dev/v1 is not a version of this release; write rhizome.dev/v1alpha1`,
		}},
		{"no apiVersion", soundNode, "apiVersion: rhizome.dev/v1alpha1\n", "", []string{
			`UnknownVersion a.yaml:1: Node/alpha: apiVersion: is missing; write rhizome.dev/v1alpha1`,
		}},
		{"no apiVersion in a chart's values", "kind: Node\nspec: {}\n", "", "", nil},
		{"a kind of the same name elsewhere", "apiVersion: v1\nkind: Node\nmetadata: {name: alpha}\nspec: {}\n", "", "", nil},
		{"a rule of CEL", soundNode, "192.168.1.10\n", "192.168.1.010\n", []string{
			`Schema a.yaml:8: Node/alpha: spec.address: must be an IPv4 address such as 192.168.1.10, without a prefix length; correct it`,
		}},
		{"no name", soundNode, "  name: alpha", "  labels: {}", []string{
			`Schema a.yaml:3: Node: metadata.name: Required value: name or generateName is required; add it`,
		}},
		{"a generated name", soundNode, "  name: alpha", "  generateName: alpha-", []string{
			`GeneratedName a.yaml:4: Node: metadata.generateName: generates another name each time; write metadata.name`,
		}},
		{"a namespace", soundNode, "  name: alpha", "  name: alpha\n  namespace: x", []string{
			`Schema a.yaml:5: Node/alpha: metadata.namespace: Forbidden: not allowed on this type; remove it`,
		}},
		{"an unknown role", soundNode, "ControlPlane", "Master", []string{
			`Schema a.yaml:6: Node/alpha: spec.role: Unsupported value: "Master": supported values: "ControlPlane", "Worker"; write one of these`,
		}},
		{"a wrong type", soundCluster, "  operatingSystem: debian", "  operatingSystem: debian\n  pxe:\n    maxAttempts: three", []string{
			`Schema a.yaml:14: Cluster/home: spec.pxe.maxAttempts: must be of type integer: "string"; correct it`,
		}},
		{"a list that is a text", soundSystem, "  media:\n", "  kernelArguments: console=ttyS0\n  media:\n", []string{
			`Schema a.yaml:7: OperatingSystem/debian: spec.kernelArguments: must be of type array: "string"; correct it`,
		}},
		{"an architecture twice", soundSystem, "  media:\n", "  media:\n    - {architecture: amd64, url: 'https://example.org/x.raw', sha256: 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef}\n", []string{
			`Schema a.yaml:9: OperatingSystem/debian: spec.media[1]: Duplicate value: {"architecture":"amd64"}; remove one of the two`,
		}},
		{"a status", soundNode, "spec:", "status: {}\nspec:", []string{
			`StatusSet a.yaml:5: Node/alpha: status: is dropped: controllers write it; remove it`,
		}},
		{"a placeholder", soundNode, `"52:54:00:12:34:56"`, "FILL-IN", []string{
			`FillIn a.yaml:7: Node/alpha: spec.mac: is still to be filled in; write the MAC address of the machine's network card in lower case with colons: it is on the machine's label, in its firmware setup and in the router's list of devices`,
		}},
		{"a placeholder in a list", soundSystem, "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", "FILL-IN", []string{
			`FillIn a.yaml:10: OperatingSystem/debian: spec.media[0].sha256: is still to be filled in; write the file's SHA-256 digest as its publisher prints it, or download the file, verify it by the publisher's signature or sums and write what sha256sum prints`,
		}},
		{"an item of a List", "apiVersion: v1\nkind: List\nitems:\n- apiVersion: rhizome.dev/v1alpha1\n  kind: Node\n  metadata: {name: alpha}\n", "", "", []string{
			`InList a.yaml:4: Node/alpha: items[0]: is an item of a List; make it a document of its own, set apart by ---`,
		}},
		{"a document that is no object", "- apiVersion: rhizome.dev/v1alpha1\n", "- apiVersion", "# \napiVersion: rhizome.dev/v1alpha1\n---\n- apiVersion", []string{
			`UnknownKind a.yaml:2: kind: "" is not a kind of rhizome.dev/v1alpha1; write one of Cluster, GitOps, Node, OperatingSystem`,
		}},
	}
	proven := map[string]bool{}
	for _, tc := range cases {
		t.Run(tc.reason, func(t *testing.T) {
			if tc.old != "" && !strings.Contains(tc.manifest, tc.old) {
				t.Fatalf("the manifest does not contain %q", tc.old)
			}
			var got []string
			for _, f := range Parse("a.yaml", []byte(strings.Replace(tc.manifest, tc.old, tc.new, 1))).Findings {
				got = append(got, f.Rule+" "+f.String())
				proven[f.Rule] = true
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	for _, r := range Rules() {
		if !proven[r.Name] && !slices.Contains([]string{ruleUnreadable, ruleTooLarge, ruleLinkOutside}, r.Name) {
			t.Errorf("no case breaks the rule %s", r.Name)
		}
	}
}

// The rules themselves are proven beside the API; these show that CEL, formats
// and patterns are judged here as well.
func TestTheSchemasRulesAreJudged(t *testing.T) {
	for _, tc := range []struct{ reason, manifest, old, new, field, says string }{
		{"CEL on a scalar", soundCluster, "192.168.1.0/24", "192.168.1.7/24", "spec.network.cidr", "host bits"},
		{"CEL across fields", soundCluster, "192.168.1.1\n", "192.168.2.1\n", "spec.network.gateway", "network.cidr"},
		{"CEL on the name", soundNode, "name: alpha", "name: al.pha", "", "must be a host name"},
		{"CEL with quantities", soundNode, "  role:", "  disk: {minSize: 2Gi, maxSize: 1Gi}\n  role:", "spec.disk.minSize", "maxSize"},
		{"a MAC in upper case", soundNode, "52:54:00:12:34:56", "52:54:00:AB:CD:EF", "spec.mac", ""},
		{"an address that is none", soundNode, "192.168.1.10", "192.168.1.300", "spec.address", ""},
		{"a digest that is none", soundSystem, "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", "0123", "spec.media[0].sha256", ""},
	} {
		t.Run(tc.reason, func(t *testing.T) {
			findings := Parse("a.yaml", []byte(strings.Replace(tc.manifest, tc.old, tc.new, 1))).Findings
			if !slices.ContainsFunc(findings, func(f Finding) bool {
				return f.Rule == ruleSchema && f.Severity == inventory.Error && f.Field == tc.field && strings.Contains(f.Message, tc.says)
			}) {
				t.Errorf("no finding about %s that says %q: %v", tc.field, tc.says, findings)
			}
		})
	}
}

func TestRulesThatCompareWithBeforeAreNotJudged(t *testing.T) {
	r := Parse("a.yaml", []byte(soundNode))
	if len(r.Findings) > 0 {
		t.Errorf("an immutable field of a new object is refused: %v", r.Findings)
	}
}

func TestAWrongObjectIsNotMissing(t *testing.T) {
	r := Parse("a.yaml", []byte(strings.Replace(soundCluster, "  operatingSystem: debian", "  operatingSystem: [debian]\n  pxe: {maxAttempts: x}", 1)+"---\n"+soundNode))
	if !inventory.HasErrors(r.Findings) {
		t.Fatal("no findings")
	}
	if len(r.Inventory.Clusters) != 1 || r.Inventory.Clusters[0].Name != "home" || r.Inventory.Clusters[0].Spec.Network.CIDR != "192.168.1.0/24" {
		t.Errorf("the Cluster is %+v", r.Inventory.Clusters)
	}
}

func TestReadWalksADirectory(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	write := func(path, content string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	link := func(target, path string) {
		t.Helper()
		if err := os.Symlink(target, path); err != nil {
			t.Fatal(err)
		}
	}
	write(dir+"/bootstrap/cluster.yaml", soundCluster)
	write(dir+"/bootstrap/kustomization.yaml", "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [cluster.yaml]\n# rhizome.dev\n")
	write(dir+"/bootstrap/nodes/alpha.yml", soundNode)
	write(dir+"/bootstrap/nodes/notes.txt", soundNode)
	write(dir+"/apps/template.yaml", "{{ if .Values.x }}\nkind: Deployment\n{{ end }}\n")
	write(dir+"/apps/empty.yaml", "# nothing\n---\n")
	write(dir+"/.git/node.yaml", soundNode)
	write(dir+"/.hidden.yaml", soundNode)
	write(dir+"/..data/system.yaml", soundSystem)
	link("..data/system.yaml", dir+"/system.yaml") // as a ConfigMap is mounted
	link("bootstrap/cluster.yaml", dir+"/again.yaml")
	link(".", dir+"/loop")
	link("/nowhere", dir+"/dangling.yaml")
	write(outside+"/node.yaml", soundNode)
	link(outside+"/node.yaml", dir+"/elsewhere.yaml")
	link(outside, dir+"/linked")
	write(dir+"/big.yaml", soundNode+strings.Repeat("#\n", maxFileSize/2))
	if err := os.Mkdir(dir+"/directory.yaml", 0o755); err != nil {
		t.Fatal(err)
	}

	r, err := Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range r.Findings {
		got = append(got, f.Rule+" "+strings.TrimPrefix(f.File, dir+"/"))
	}
	want := []string{"FileTooLarge big.yaml", "UnreadableFile dangling.yaml", "LinkOutside elsewhere.yaml"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
	if len(r.Inventory.Clusters) != 1 || len(r.Inventory.Nodes) != 1 || len(r.Inventory.OperatingSystems) != 1 {
		t.Errorf("read %d Clusters, %d Nodes, %d OperatingSystems; want one of each", len(r.Inventory.Clusters), len(r.Inventory.Nodes), len(r.Inventory.OperatingSystems))
	}
	if r.Objects != 3 || r.Skipped != 2 {
		t.Errorf("%d objects, %d skipped; want 3 and 2", r.Objects, r.Skipped)
	}
	if at := r.Inventory.Origins[inventory.Key{Kind: "Cluster"}].File; at != filepath.Join(dir, "again.yaml") && at != filepath.Join(dir, "bootstrap/cluster.yaml") {
		t.Errorf("the Cluster stands in %s", at)
	}
}

func TestReadNamesADirectoryThatIsNone(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{file, file + "/none", filepath.Dir(file) + "/none"} {
		if _, err := Read(dir); err == nil || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s: error is %v", dir, err)
		}
	}
}
