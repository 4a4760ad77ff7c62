package provision

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/inventory"
	"github.com/rhizome-dev/rhizome/pxe/media"
)

func TestMediaOfANode(t *testing.T) {
	inv := homelab()
	operator := media.Source{URL: "file:///tmp/x", Name: "operator image (1).tar", SHA256: string(digest('d'))}
	got, err := Media(inv, &inv.Nodes[0], operator)
	if err != nil {
		t.Fatal(err)
	}
	want := []Medium{
		{KindImage, media.Source{URL: "https://example.org/debian.raw.zst?x=1", Name: "debian.raw.zst", SHA256: string(digest('a'))}},
		{KindBinary, media.Source{URL: "https://example.org/k3s", Name: "k3s", SHA256: string(digest('b'))}},
		{KindArchive, media.Source{URL: "https://example.org/k3s-airgap-images-amd64.tar.zst", Name: "k3s-airgap-images-amd64.tar.zst", SHA256: string(digest('c'))}},
		{KindArchive, media.Source{URL: "file:///tmp/x", Name: "operator-image-1-.tar", SHA256: string(digest('d'))}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(- want, + got):\n%s", diff)
	}
	if got := got[1].Path(); got != "/media/"+string(digest('b'))+"/k3s" {
		t.Error(got)
	}
}

func TestMediaThatCannotBeUsedAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*inventory.Inventory)
		extra  []media.Source
		want   string
	}{
		"no medium":  {func(i *inventory.Inventory) { i.Nodes[0].Spec.Architecture = v1alpha1.ARM64 }, nil, "OperatingSystem/debian has no medium for arm64"},
		"no release": {func(i *inventory.Inventory) { i.Clusters[0].Spec.Kubernetes.Files = nil }, nil, "Cluster/cluster: spec.kubernetes.files"},
		"no archive": {func(i *inventory.Inventory) {
			i.Clusters[0].Spec.Kubernetes.Files[0].Images[0].URL = "https://example.org/images.zip"
		}, nil, "images.zip"},
		"two archives of one name": {nil, []media.Source{{Name: "a.tar", SHA256: "1"}, {Name: "a.tar", SHA256: "2"}}, "two different image archives are named a.tar"},
	} {
		inv := homelab()
		if c.change != nil {
			c.change(&inv)
		}
		if _, err := Media(inv, &inv.Nodes[0], c.extra...); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func TestTheReleasesFilesAreUsedWhereNoneAreDeclared(t *testing.T) {
	inv := homelab()
	c := inv.Clusters[0]
	if got := ReleaseSums(&c, v1alpha1.AMD64); got != "" {
		t.Errorf("files are declared, and yet %s", got)
	}
	if got := ReleaseSums(&c, v1alpha1.ARM64); got != "https://github.com/k3s-io/k3s/releases/download/v1.33.5%2Bk3s1/sha256sum-arm64.txt" {
		t.Error(got)
	}
	a, b := string(digest('a')), string(digest('b'))
	got, err := WithRelease(c, v1alpha1.ARM64, []byte(a+"  k3s-arm64\n"+b+"  k3s-airgap-images-arm64.tar.zst\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := v1alpha1.KubernetesFiles{
		Architecture: v1alpha1.ARM64,
		Binary:       v1alpha1.File{URL: "https://github.com/k3s-io/k3s/releases/download/v1.33.5%2Bk3s1/k3s-arm64", SHA256: v1alpha1.SHA256(a)},
		Images: []v1alpha1.File{{URL: "https://github.com/k3s-io/k3s/releases/download/v1.33.5%2Bk3s1/k3s-airgap-images-arm64.tar.zst",
			SHA256: v1alpha1.SHA256(b)}},
	}
	if diff := cmp.Diff(want, got.Spec.Kubernetes.Files[1]); diff != "" {
		t.Errorf("(- want, + got):\n%s", diff)
	}
	if len(c.Spec.Kubernetes.Files) != 1 {
		t.Error("the cluster that was handed in has changed")
	}
	for sums, want := range map[string]string{
		a + "  k3s-arm64\n": `k3s release v1.33.5+k3s1 for arm64: the release has no file "k3s-airgap-images-arm64.tar.zst"`,
		"<html>":            "k3s release v1.33.5+k3s1 for arm64: cannot read the checksums",
	} {
		if _, err := WithRelease(c, v1alpha1.ARM64, []byte(sums)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func TestCompressionIsTheURLsUnlessDeclared(t *testing.T) {
	for url, want := range map[v1alpha1.URL]string{
		"https://x/a.raw.gz": "Gzip", "https://x/a.raw.xz": "XZ", "https://x/a.zst?sig=.gz": "Zstd", "https://x/a.img": "None",
	} {
		if got := compression(v1alpha1.Medium{File: v1alpha1.File{URL: url}}); got != want {
			t.Errorf("%s: %s, want %s", url, got, want)
		}
	}
	if got := compression(v1alpha1.Medium{File: v1alpha1.File{URL: "https://x/a.gz"}, Compression: v1alpha1.CompressionNone}); got != "None" {
		t.Error(got)
	}
}
