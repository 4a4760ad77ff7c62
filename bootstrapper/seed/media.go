package seed

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/rhizome-dev/rhizome/bootstrapper/progress"
	"github.com/rhizome-dev/rhizome/bootstrapper/state"
	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/provision"
	"github.com/rhizome-dev/rhizome/pxe/media"
)

// media sees to it that every file that the machine will ask for is here and is
// what it must be.
func (f *flow) media(ctx context.Context, p *progress.Phase) (string, error) {
	var err error
	if f.operator, err = readOperatorImage(f.OperatorImage); err != nil {
		return "", withFix(err, "name an image reference, or an OCI archive as made by `make image`")
	}
	if f.plan == goOnLiving {
		if err := f.knownArchive(); err != nil {
			return "", err
		}
		p.Skip("the cluster answers: nothing has to be installed")
		return "", nil
	}
	if err := f.findBootFiles(); err != nil {
		return "", err
	}
	if err := f.releaseFiles(ctx); err != nil {
		return "", err
	}
	path, err := f.cachePath()
	if err != nil {
		return "", err
	}
	if f.cache, err = media.Open(path); err != nil {
		return "", err
	}
	if f.operator.path != "" {
		added, err := f.cache.Add(ctx, f.operator.path, f.operator.fileName())
		if err != nil {
			return "", err
		}
		f.operator.source = media.Source{URL: "file://" + added.Path, SHA256: added.SHA256, Name: added.Name}
		f.sizes[added.SHA256] = added.Size
	}
	if err := f.keepArchive(); err != nil {
		return "", err
	}
	files, err := provision.Media(f.seeding(), f.first, f.operator.sources()...)
	if err != nil {
		return "", err
	}
	var bytes int64
	for _, medium := range files {
		fetched, err := f.cache.Fetch(ctx, medium.Source, func(done, total int64) { p.Transfer(medium.Name, done, total) })
		if err != nil {
			return "", fmt.Errorf("%s: %w", medium.Kind, err)
		}
		f.sizes[fetched.SHA256] = fetched.Size
		bytes += fetched.Size
	}
	return fmt.Sprintf("%d files, %s, verified", len(files), progress.Size(bytes)), nil
}

// keepArchive writes down which archive travels, for the chart's values: the run
// that installs the chart may be a later one, and the file another by then. Once the
// machine has its credentials it has its files as well.
func (f *flow) keepArchive() error {
	if f.machineState() == provision.StateExchanged {
		return f.knownArchive()
	}
	if f.operator.source.SHA256 != "" {
		f.archive = &state.Archive{Name: f.operator.source.Name, SHA256: f.operator.source.SHA256}
	}
	intent, _, err := f.state.Intent()
	if err != nil {
		return err
	}
	if f.archive == nil && intent.Archive == nil || f.archive != nil && intent.Archive != nil && *f.archive == *intent.Archive {
		return nil
	}
	intent.Archive = f.archive
	return f.state.SetIntent(intent)
}

// knownArchive is the archive that travelled.
func (f *flow) knownArchive() error {
	intent, _, err := f.state.Intent()
	f.archive = intent.Archive
	return err
}

// releaseFiles adds the k3s project's release files to the cluster's, if it
// declares none.
func (f *flow) releaseFiles(ctx context.Context) error {
	arch := architecture(f.first)
	address := provision.ReleaseSums(f.cluster, arch)
	if address == "" {
		return nil
	}
	version := f.cluster.Spec.Kubernetes.Version
	sums, known, err := f.state.Sums(version, string(arch))
	if err != nil {
		return err
	}
	if !known {
		if sums, err = provision.FetchSums(ctx, address); err != nil {
			return withFix(err, "check spec.kubernetes.version and the way to the internet, or declare spec.kubernetes.files")
		}
	}
	with, err := provision.WithRelease(*f.cluster, arch, sums)
	if err != nil {
		return err
	}
	if !known {
		if err := f.state.SetSums(version, string(arch), sums); err != nil {
			return err
		}
	}
	f.released = &with
	return nil
}

// packagedBootFiles is where a distribution's package puts the boot files.
const packagedBootFiles = "/usr/share/rhizome/boot"

// findBootFiles chooses the directory of the loaders and installers, and checks
// that what this machine needs is in it.
func (f *flow) findBootFiles() error {
	candidates := []string{f.BootFiles}
	if f.BootFiles == "" {
		candidates = []string{packagedBootFiles}
		if program, err := os.Executable(); err == nil {
			candidates = append([]string{filepath.Join(filepath.Dir(program), "boot")}, candidates...)
		}
	}
	const fix = "make them with `make boot-files`, or name their directory with --boot-files"
	for _, path := range candidates {
		if info, err := os.Stat(path); err != nil || !info.IsDir() {
			continue
		}
		files := os.DirFS(path)
		for _, name := range neededBootFiles(architecture(f.first)) {
			if info, err := fs.Stat(files, name); err != nil || info.Size() == 0 {
				return withFix(fmt.Errorf("the boot files in %s lack %s", path, name), fix)
			}
		}
		f.bootFiles = files
		return nil
	}
	return withFix(fmt.Errorf("no boot files in %s", strings.Join(candidates, " or ")), fix)
}

// neededBootFiles are those without which nothing of an architecture boots. The
// PXE service checks the loaders.
func neededBootFiles(arch v1alpha1.Architecture) []string {
	return []string{"installer/" + string(arch) + "/vmlinuz", "installer/" + string(arch) + "/initrd.img"}
}

// architecture of a node, with the schema's default.
func architecture(n *v1alpha1.Node) v1alpha1.Architecture {
	if n.Spec.Architecture == "" {
		return v1alpha1.AMD64
	}
	return n.Spec.Architecture
}
