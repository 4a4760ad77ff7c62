package provision

import (
	"fmt"
	"net/url"
	"path"
	"regexp"
	"strings"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/inventory"
	"github.com/rhizome-dev/rhizome/internal/k3s"
	"github.com/rhizome-dev/rhizome/pxe/installer/plan"
	"github.com/rhizome-dev/rhizome/pxe/media"
	"github.com/rhizome-dev/rhizome/pxe/media/tree"
)

// Kind is what a machine needs a file for.
type Kind string

// The kinds.
const (
	KindImage   Kind = "image"   // the disk image
	KindISO     Kind = "ISO"     // the ISO that a distribution's installer is in
	KindFile    Kind = "file"    // one file of such an installer
	KindListing Kind = "listing" // which of these files make a tree
	KindBinary  Kind = "k3s"     // the k3s executable
	KindArchive Kind = "archive" // an archive of container images
)

// Medium is a file that a machine fetches from the PXE service.
type Medium struct {
	Kind Kind
	media.Source
}

// Path is where the PXE service serves the medium.
func (m Medium) Path() string { return "/media/" + m.SHA256 + "/" + url.PathEscape(m.Name) }

// TreePath is where the PXE service serves the files of an installer, of which the
// medium is the ISO or the listing, without a slash at the end.
func (m Medium) TreePath() string { return "/tree/" + m.SHA256 }

// ReleaseSums is the URL of the checksums of the k3s project's release, if the
// cluster declares no files for this architecture; empty if it does. Whoever
// fetches it hands the content to WithRelease.
func ReleaseSums(c *v1alpha1.Cluster, arch v1alpha1.Architecture) string {
	if _, declared := inventory.KubernetesFilesFor(c, arch); declared {
		return ""
	}
	return k3s.ReleaseURL(c.Spec.Kubernetes.Version, k3s.SumsName(string(arch)))
}

// WithRelease is the cluster with the files of the k3s project's release added for
// an architecture. c is not changed.
func WithRelease(c v1alpha1.Cluster, arch v1alpha1.Architecture, sums []byte) (v1alpha1.Cluster, error) {
	version := c.Spec.Kubernetes.Version
	digests, err := k3s.ParseSums(sums)
	if err != nil {
		return c, fmt.Errorf("k3s release %s for %s: %w", version, arch, err)
	}
	file := func(name string) (v1alpha1.File, error) {
		digest, err := digests.Digest(name)
		if err != nil {
			return v1alpha1.File{}, fmt.Errorf("k3s release %s for %s: %w", version, arch, err)
		}
		return v1alpha1.File{URL: v1alpha1.URL(k3s.ReleaseURL(version, name)), SHA256: v1alpha1.SHA256(digest)}, nil
	}
	files := v1alpha1.KubernetesFiles{Architecture: arch}
	if files.Binary, err = file(k3s.BinaryName(string(arch))); err != nil {
		return c, err
	}
	images, err := file(k3s.AirgapName(string(arch)))
	if err != nil {
		return c, err
	}
	files.Images = []v1alpha1.File{images}
	out := *c.DeepCopy()
	out.Spec.Kubernetes.Files = append(out.Spec.Kubernetes.Files, files)
	return out, nil
}

// Media are the files that a node needs, in the order in which it needs them:
// the disk image or what its distribution's installer is made of (the ISO or listing
// first), the k3s executable, the declared image archives, and extra ones
// such as the operator's. extra are for the node's architecture.
func Media(inv inventory.Inventory, node *v1alpha1.Node, extra ...media.Source) ([]Medium, error) {
	system, medium, err := inv.MediumOf(node)
	if err != nil {
		return nil, err
	}
	all, err := systemMedia(system, medium)
	if err != nil {
		return nil, err
	}
	cluster, err := inv.Cluster()
	if err != nil {
		return nil, err
	}
	files, ok := inventory.KubernetesFilesFor(cluster, medium.Architecture)
	if !ok {
		return nil, fmt.Errorf("Cluster/%s: spec.kubernetes.files: the files of k3s %s for %s are not known: the release's checksums were not read yet",
			cluster.Name, cluster.Spec.Kubernetes.Version, medium.Architecture)
	}
	all = append(all, Medium{KindBinary, source(files.Binary)})
	for _, image := range files.Images {
		all = append(all, Medium{KindArchive, source(image)})
	}
	for _, e := range extra {
		e.Name = fileName(e.Name)
		all = append(all, Medium{KindArchive, e})
	}
	names := map[string]string{}
	for _, m := range all {
		if m.Kind != KindArchive {
			continue
		}
		if _, err := k3s.ImagePath(m.Name); err != nil {
			return nil, fmt.Errorf("Node/%s: %s: %w", node.Name, m.URL, err)
		}
		if other, ok := names[m.Name]; ok && other != m.SHA256 {
			return nil, fmt.Errorf("Node/%s: two different image archives are named %s: rename one", node.Name, m.Name)
		}
		names[m.Name] = m.SHA256
	}
	return all, nil
}

// isLocked says whether the digests of all files of a medium are known. It is asked for
// every packet.
func isLocked(system *v1alpha1.OperatingSystem, medium *v1alpha1.Medium) error {
	unlocked := func(url v1alpha1.URL) error {
		return fmt.Errorf("OperatingSystem/%s: spec.media: the digest of %s is not known, so it is not used: run 'bootstrapper media lock' on the manifest, or fill in sha256",
			system.Name, url)
	}
	if len(medium.Files) == 0 && medium.SHA256 == "" {
		return unlocked(medium.URL)
	}
	for i := range medium.Files {
		if medium.Files[i].SHA256 == "" {
			return unlocked(medium.Files[i].URL)
		}
	}
	return nil
}

// systemMedia are the files of an operating system; the first is the image, or the
// one that names the installer's tree.
func systemMedia(system *v1alpha1.OperatingSystem, medium *v1alpha1.Medium) ([]Medium, error) {
	if err := isLocked(system, medium); err != nil {
		return nil, err
	}
	if len(medium.Files) == 0 {
		kind := KindISO
		if system.Spec.Format == v1alpha1.FormatImage {
			kind = KindImage
		}
		return []Medium{{kind, source(medium.File)}}, nil
	}
	var all []Medium
	var entries []tree.Entry
	for _, f := range medium.Files {
		all = append(all, Medium{KindFile, source(f.File)})
		entries = append(entries, tree.Entry{Path: string(f.Path), SHA256: string(f.SHA256)})
	}
	listing, err := tree.Listing(entries)
	if err != nil {
		return nil, fmt.Errorf("OperatingSystem/%s: spec.media: %w", system.Name, err)
	}
	return append([]Medium{{KindListing, media.Inline("listing", listing)}}, all...), nil
}

// installerPaths are where the distributions have kernel and initial ramdisk.
var installerPaths = map[v1alpha1.Format][2]v1alpha1.TreePath{
	v1alpha1.FormatKickstart:   {"images/pxeboot/vmlinuz", "images/pxeboot/initrd.img"},
	v1alpha1.FormatPreseed:     {"linux", "initrd.gz"},
	v1alpha1.FormatAutoinstall: {"casper/vmlinuz", "casper/initrd"},
}

func source(f v1alpha1.File) media.Source {
	name := string(f.URL)
	if u, err := url.Parse(name); err == nil {
		name = u.Path
	}
	return media.Source{URL: string(f.URL), SHA256: string(f.SHA256), Name: fileName(path.Base(name))}
}

var notInNames = regexp.MustCompile(`[^A-Za-z0-9._+-]+`)

// fileName makes a name that needs quoting nowhere: it becomes part of URLs, of
// paths and of a list that a shell reads.
func fileName(name string) string {
	name = strings.TrimLeft(notInNames.ReplaceAllString(name, "-"), ".-")
	if name == "" {
		return "file"
	}
	return name
}

// compression is the declared one, else by the ending of the URL's path.
func compression(m v1alpha1.Medium) string {
	if m.Compression != "" {
		return string(m.Compression)
	}
	name := string(m.URL)
	if u, err := url.Parse(name); err == nil {
		name = u.Path
	}
	switch path.Ext(name) {
	case ".gz":
		return plan.Gzip
	case ".xz":
		return plan.XZ
	case ".zst":
		return plan.Zstd
	}
	return plan.None
}
