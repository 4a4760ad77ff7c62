package initramfs

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/u-root/u-root/pkg/cpio"

	"github.com/rhizome-dev/rhizome/pxe/installer/modules"
)

// The ramdisk is two archives one after the other, as the kernel allows
// (Documentation/driver-api/early-userspace/buffer-format): the modules, which
// change with the kernel package, and the program, which changes with this
// repository. Each is the same bytes for the same contents.

// WriteProgram writes the archive with the program that the kernel starts, a
// static binary, and the directories that it needs.
func WriteProgram(w io.Writer, init []byte) error {
	return write(w, []cpio.Record{
		cpio.StaticFile("init", string(init), 0o755),
		cpio.Symlink("sbin/modprobe", "../init"),
		cpio.Directory("dev", 0o755),
		// The kernel opens the first process's output before there is a devtmpfs.
		cpio.CharDev("dev/console", 0o600, 5, 1),
		cpio.Directory("proc", 0o755),
		cpio.Directory("sys", 0o755),
		cpio.Directory("run", 0o755),
		cpio.Directory("tmp", 0o755),
		cpio.Directory("etc", 0o755),
	})
}

// WriteModules writes the archive with the chosen modules of dir, the directory
// lib/modules/RELEASE of a kernel after depmod, and returns their names.
func WriteModules(w io.Writer, release string, dir fs.FS, choice Choice) ([]string, error) {
	tree, err := modules.Open(dir)
	if err != nil {
		return nil, err
	}
	names := choice.Select(tree)
	root := path.Join("lib/modules", release)
	kept := map[string]bool{}
	var records []cpio.Record
	for _, name := range names {
		kept[name] = true
		b, err := fs.ReadFile(dir, tree.Path(name))
		if err != nil {
			return nil, fmt.Errorf("cannot read the module %s: %w", name, err)
		}
		records = append(records, cpio.StaticFile(path.Join(root, tree.Path(name)), string(b), 0o644))
	}
	for _, index := range []string{"modules.dep", "modules.alias", "modules.softdep", "modules.builtin"} {
		b, err := fs.ReadFile(dir, index)
		if err != nil {
			return nil, fmt.Errorf("cannot read %s (run depmod): %w", index, err)
		}
		records = append(records, cpio.StaticFile(path.Join(root, index), filter(index, b, kept), 0o644))
	}
	return names, write(w, records)
}

func write(w io.Writer, records []cpio.Record) error {
	cpio.MakeAllReproducible(records)
	archive := cpio.Newc.Writer(w)
	if err := cpio.WriteRecordsAndDirs(archive, records); err != nil {
		return fmt.Errorf("cannot write the archive: %w", err)
	}
	if err := cpio.WriteTrailer(archive); err != nil {
		return fmt.Errorf("cannot write the archive: %w", err)
	}
	return nil
}

// filter leaves of one of depmod's files the lines about modules that are there.
func filter(index string, content []byte, kept map[string]bool) string {
	var out bytes.Buffer
	for line := range strings.Lines(string(content)) {
		fields := strings.Fields(line)
		about := ""
		switch {
		case len(fields) == 0:
		case index == "modules.dep":
			about = strings.TrimSuffix(fields[0], ":")
		case index == "modules.alias" && len(fields) == 3:
			about = fields[2]
		case index == "modules.softdep" && len(fields) > 1:
			about = fields[1]
		}
		if about != "" && kept[modules.Name(about)] {
			out.WriteString(line)
		}
	}
	return out.String()
}

// Missing lists modules that must be in any installer for machines of this kind and
// are neither among names nor built into the kernel, as the file modules.builtin of its
// package lists them: a guard against a kernel package that moved them.
func Missing(names []string, builtin string) (missing []string) {
	for line := range strings.Lines(builtin) {
		names = append(names, modules.Name(strings.TrimSpace(line)))
	}
	for _, must := range []string{"virtio_net", "virtio_blk", "virtio_pci", "e1000e", "igb", "r8169", "tg3", "ahci", "nvme", "sd_mod", "usb_storage", "xhci_pci", "mmc_block"} {
		if !slices.Contains(names, must) {
			missing = append(missing, must)
		}
	}
	return missing
}
