package repository

import (
	"errors"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	yaml "go.yaml.in/yaml/v3"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/inventory"
	"github.com/rhizome-dev/rhizome/internal/manifests"
)

func options() Options {
	return Options{CIDR: netip.MustParsePrefix("10.1.2.0/24"), Gateway: netip.MustParseAddr("10.1.2.10"), Taken: []netip.Addr{netip.MustParseAddr("10.1.2.11")}}
}

const digest = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func TestARepositoryLacksOnlyWhatOnlyAPersonKnows(t *testing.T) {
	files, err := Files(options())
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "new", "home")
	if err := Write(dir, files); err != nil {
		t.Fatal(err)
	}
	r, err := manifests.Check(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range r.Findings {
		got = append(got, f.Rule+" "+f.Field)
	}
	if diff := cmp.Diff([]string{"FillIn spec.mac", "FillIn spec.media[0].sha256"}, got); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
	if n := r.Inventory.Nodes[0]; n.Name != "node1" || n.Spec.Address != "10.1.2.12" || n.Spec.Role != v1alpha1.ControlPlane {
		t.Errorf("the node is %s, %+v; want node1 on the first address that nothing has", n.Name, n.Spec)
	}
	if !strings.Contains(string(files[".gitignore"]), "kubeconfig") {
		t.Error(".gitignore does not keep the kubeconfig out of git")
	}
}

func TestAFullySpecifiedRepositoryIsSound(t *testing.T) {
	o := options()
	o.Image, o.SHA256 = "file:///images/debian.raw.zst", digest
	o.Repository, o.Branch, o.RepositorySecret, o.HomeURL = "git@git.example.org:me/lab.git", "live", "mine", "https://git.example.org:8443/git"
	o.Nodes = []Node{
		{Name: "alpha", MAC: "52:54:00:12:34:56", Address: netip.MustParseAddr("10.1.2.20")},
		{Name: "beta", MAC: "52:54:00:12:34:57", Role: "Worker"},
		{Name: "gamma", MAC: "52:54:00:12:34:58"},
	}
	files, err := Files(o)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := Write(dir, files); err != nil {
		t.Fatal(err)
	}
	r, err := manifests.Check(dir)
	if err != nil || len(r.Findings) > 0 {
		t.Fatalf("findings %v, error %v", r.Findings, err)
	}
	got := map[string]string{}
	for _, n := range r.Inventory.Nodes {
		got[n.Name] = string(n.Spec.Role) + " " + string(n.Spec.MAC) + " " + string(n.Spec.Address)
		if is := n.Annotations["argocd.argoproj.io/sync-options"]; is != "Prune=false,Delete=false" {
			t.Errorf("the Node %s may be pruned or deleted by Argo CD: its options are %q", n.Name, is)
		}
	}
	want := map[string]string{
		"alpha": "ControlPlane 52:54:00:12:34:56 10.1.2.20",
		"beta":  "Worker 52:54:00:12:34:57 10.1.2.12",
		"gamma": "Worker 52:54:00:12:34:58 10.1.2.13",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("nodes (-want +got):\n%s", diff)
	}
	if m := r.Inventory.OperatingSystems[0].Spec.Media[0]; string(m.URL) != o.Image || m.SHA256 != digest {
		t.Errorf("the medium is %+v", m)
	}
	sources := v1alpha1.GitOpsSpec{
		Seed: v1alpha1.GitSource{URL: o.Repository, Branch: "live", Credentials: &v1alpha1.SecretReference{Name: "mine"}},
		Home: &v1alpha1.HomeSource{URL: o.HomeURL, Owner: "home", Repository: "homelab", Credentials: v1alpha1.SecretReference{Name: "gitea-admin"}, Layer: "platform"},
	}
	said := r.Inventory.GitOps[0].Spec
	if diff := cmp.Diff(sources, v1alpha1.GitOpsSpec{Seed: said.Seed, Home: said.Home}); diff != "" {
		t.Errorf("the sources (-want +got):\n%s", diff)
	}
	// Every file that belongs to the cluster is listed, and nothing else.
	for _, line := range strings.Split(string(files[kustomize]), "\n") {
		if path, ok := strings.CutPrefix(line, "  - "); ok {
			if _, ok := files["bootstrap/cluster/"+path]; !ok {
				t.Errorf("kustomization.yaml lists %s, which was not written", path)
			}
		}
	}
	if n := strings.Count(string(files[kustomize]), "  - "); n != 6 {
		t.Errorf("kustomization.yaml lists %d files, want 6", n)
	}
}

func TestOptionsThatTheChecksWouldRefuseAreRefused(t *testing.T) {
	for says, change := range map[string]func(*Options){
		"spec.network.gateway": func(o *Options) { o.Gateway = netip.MustParseAddr("10.9.9.9") },
		"DuplicateMAC": func(o *Options) {
			o.Nodes = []Node{{Name: "a", MAC: "52:54:00:12:34:56"}, {Name: "b", MAC: "52:54:00:12:34:56"}}
		},
		"two nodes have the name": func(o *Options) { o.Nodes = []Node{{Name: "a"}, {Name: "a"}} },
		"spec.role":               func(o *Options) { o.Nodes = []Node{{Name: "a", Role: "Master"}} },
		"Node/../../x":            func(o *Options) { o.Nodes = []Node{{Name: "../../x"}} },
		"spec.address":            func(o *Options) { o.Nodes = []Node{{Name: "a", Address: netip.MustParseAddr("10.1.2.255")}} },
		"spec.media[0].sha256":    func(o *Options) { o.SHA256 = "abc" },
		"spec.media[0].url":       func(o *Options) { o.Image = "debian.raw" },
		"spec.seed.url":           func(o *Options) { o.Repository = "https://me:secret@example.org/lab.git" },
		"spec.seed.branch":        func(o *Options) { o.Repository, o.Branch = "https://example.org/lab.git", "a..b" },
		"spec.home.url":           func(o *Options) { o.Repository, o.HomeURL = "https://example.org/lab.git", "gitea" },
		"say the repository too":  func(o *Options) { o.Branch = "main" },
	} {
		o := options()
		change(&o)
		_, err := Files(o)
		text := ""
		if err != nil {
			text = err.Error()
		}
		var invalid *InvalidError
		if errors.As(err, &invalid) {
			for _, f := range invalid.Findings {
				text += f.Rule
			}
			if !inventory.HasErrors(invalid.Findings) {
				t.Errorf("%s: refused for what is no error", says)
			}
		}
		if !strings.Contains(text, says) {
			t.Errorf("error is %q, want it to say %q", text, says)
		}
	}
}

func TestWriteNeverOverwrites(t *testing.T) {
	dir := t.TempDir()
	mine := filepath.Join(dir, "b", "mine")
	if err := os.Mkdir(filepath.Dir(mine), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/nowhere", mine); err != nil { // even a dangling link is somebody's
		t.Fatal(err)
	}
	files := map[string][]byte{"a": []byte("new"), "b/mine": []byte("new"), "c": []byte("new")}
	err := Write(dir, files)
	var conflict *ConflictError
	if !errors.As(err, &conflict) || !slices.Equal(conflict.Files, []string{mine}) {
		t.Fatalf("error is %v, want a conflict about %s", err, mine)
	}
	entries, _ := os.ReadDir(dir)
	if len(entries) != 1 {
		t.Errorf("something was written: %v", entries)
	}
	if err := os.Remove(mine); err != nil {
		t.Fatal(err)
	}
	if err := Write(dir, files); err != nil {
		t.Fatal(err)
	}
	for _, path := range slices.Sorted(maps.Keys(files)) {
		if b, err := os.ReadFile(filepath.Join(dir, path)); err != nil || string(b) != "new" {
			t.Errorf("%s holds %q (%v)", path, b, err)
		}
	}
}

// A repository of which nobody said where it will be is sound too, and says how the
// cluster is made to follow it: to take the comment away is enough.
func TestWithoutARepositoryTheClusterFollowsNoneUntilItIsSaid(t *testing.T) {
	files, err := Files(options())
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(files[kustomize]), gitOpsLine) || !strings.Contains(string(files[kustomize]), "# - gitops.yaml") {
		t.Errorf("kustomization.yaml is\n%s", files[kustomize])
	}
	if r := manifests.Parse("gitops.yaml", files[gitOps]); r.Objects != 0 || len(r.Findings) != 0 {
		t.Errorf("it declares %d objects, %v", r.Objects, r.Findings)
	}
	var lines []string
	for _, line := range strings.Split(strings.TrimPrefix(string(files[gitOps]), howToFollow), "\n") {
		lines = append(lines, strings.TrimPrefix(strings.TrimPrefix(line, "#"), " "))
	}
	text := strings.Replace(strings.Join(lines, "\n"), toFill, "https://github.com/you/homelab.git", 1)
	r := manifests.Parse("gitops.yaml", []byte(text))
	if r.Objects != 1 || len(r.Findings) != 0 || r.Inventory.GitOps[0].Spec.Home == nil {
		t.Errorf("without the comment it declares %d objects, %v", r.Objects, r.Findings)
	}
}

func TestWhatAFlagSaysIsReadAsThatText(t *testing.T) {
	for _, value := range []string{"node1", "123", "1e3", "true", "null", "~", "0x1f", "52:54:00:12:34:56", "https://example.org/a b#c", "a: b", `"quoted"`, "- x", "", "2026-01-02"} {
		content, err := set([]byte("metadata:\n  name: old # stays\n"), value, "metadata", "name")
		if err != nil {
			t.Errorf("%q: %v", value, err)
			continue
		}
		var got struct{ Metadata struct{ Name any } }
		if err := yaml.Unmarshal(content, &got); err != nil || got.Metadata.Name != value || !strings.HasSuffix(string(content), " # stays\n") {
			t.Errorf("%q became %q, read as %#v, %v", value, content, got.Metadata.Name, err)
		}
	}
	if content, err := set([]byte("name: old\n"), "a\nspec: {}", "name"); err == nil {
		t.Errorf("two lines became %q", content)
	}
}

func TestARepositoryIsNotWrittenIntoAFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Write(file, map[string][]byte{"a.yaml": nil}); err == nil || !strings.Contains(err.Error(), file+" is not a directory: name another") {
		t.Errorf("error = %v", err)
	}
	if content, err := os.ReadFile(file); err != nil || string(content) != "mine" {
		t.Errorf("the file holds %q, %v", content, err)
	}
}
