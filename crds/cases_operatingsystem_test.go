package crds_test

import "slices"

const (
	diskImage = "must be disk images, raw or qcow2, with format Image: convert others with 'qemu-img convert -c -O qcow2'"
	oneKernel = "must be one kernel argument such as console=ttyS0,115200n8: no spaces, quotes, dollar signs or semicolons, which boot loaders read as their own"
)

var operatingSystemRefused = slices.Concat([]bad{
	{name: "a compressed installer", of: "operatingsystem", set: withFormat("Autoinstall", map[string]any{"url": iso, "compression": "XZ"}), field: "spec.media",
		message: "compression is only of a disk image: remove it, or set format to Image"},
	{name: "an image that is neither raw nor qcow2", of: "operatingsystem", set: fields{"spec.media[1].url": "https://example.org/debian.vmdk"}, field: "spec.media", message: diskImage},
	{name: "a compressed one", of: "operatingsystem", set: fields{"spec.media[1].url": "https://example.org/debian.tar.xz"}, field: "spec.media", message: diskImage},
	{name: "two kernel arguments in one entry", of: "operatingsystem", set: fields{"spec.kernelArguments[0]": "quiet splash"}, field: "spec.kernelArguments[0]", message: oneKernel},
	{name: "a variable of the boot loader", of: "operatingsystem", set: fields{"spec.kernelArguments[0]": "a=${net0/mac}"}, field: "spec.kernelArguments[0]", message: oneKernel},
	{name: "an argument of the installer's own", of: "operatingsystem", set: fields{"spec.kernelArguments[0]": "rhizome.init=http://evil/"}, field: "spec.kernelArguments[0]",
		message: "must not begin with rhizome., which the installer is told by"},
},
	installerRefused,
	fileRefused("kickstart", "spec.media[0].files[2]"),
	fileRefused("operatingsystem", "spec.media[0]"),
	nameRefused("operatingsystem", "spec.template.name", "a ConfigMap"),
)

// withFormat sets a format and the medium of amd64 alone.
func withFormat(format string, medium map[string]any) fields {
	medium["architecture"] = "amd64"
	if format == "Preseed" {
		medium["packages"] = "http://mirror.example.org/debian"
	}
	return fields{"spec.format": format, "spec.media": []any{medium}}
}

const iso = "https://example.org/distribution.iso"

func files(paths ...string) []any {
	var all []any
	for _, p := range paths {
		all = append(all, map[string]any{"path": p, "url": "https://example.org/" + p})
	}
	return all
}

var installerRefused = []bad{
	{name: "an image without a URL", of: "operatingsystem", set: withFormat("Image", map[string]any{"files": files("linux", "initrd.gz")}), field: "spec.media",
		message: "must each have a url and nothing of an installer (files, kernel, initrd, packages) with format Image"},
	{name: "an image with a kernel", of: "operatingsystem", set: fields{"spec.media[0].kernel": "linux"}, field: "spec.media",
		message: "must each have a url and nothing of an installer (files, kernel, initrd, packages) with format Image"},
	{name: "autoinstall from files", of: "operatingsystem", set: withFormat("Autoinstall", map[string]any{"files": files("linux", "initrd.gz")}), field: "spec.media",
		message: "must each have the url of the live server's ISO and no packages with format Autoinstall"},
	{name: "preseed from an ISO", of: "operatingsystem", set: withFormat("Preseed", map[string]any{"url": iso}), field: "spec.media",
		message: "must each have the files of the Debian Installer for the network (linux and initrd.gz) with format Preseed: an ISO has another installer"},
	{name: "preseed without a mirror", of: "operatingsystem", field: "spec.media",
		set:     fields{"spec.format": "Preseed", "spec.media": []any{map[string]any{"architecture": "amd64", "files": files("linux", "initrd.gz")}}},
		message: "must each name a mirror of Debian in packages with format Preseed, such as http://mirror.example.org/debian"},
	{name: "kickstart without packages", of: "operatingsystem", set: withFormat("Kickstart", map[string]any{"files": files("images/pxeboot/vmlinuz", "images/pxeboot/initrd.img")}),
		field: "spec.media", message: "must each have the url of an ISO with packages, or files and the URL of packages, with format Kickstart"},
	{name: "an installer that is no ISO", of: "operatingsystem", set: withFormat("Autoinstall", map[string]any{"url": "https://example.org/ubuntu.img"}), field: "spec.media",
		message: "must be an ISO with this format: its name ends in .iso"},
	{name: "a medium of nothing", of: "operatingsystem", set: withFormat("Kickstart", map[string]any{"packages": "https://example.org/os"}), field: "spec.media[0]",
		message: "must have either url or files"},
	{name: "a medium of both", of: "operatingsystem", set: withFormat("Kickstart", map[string]any{"url": iso, "files": files("images/pxeboot/vmlinuz", "images/pxeboot/initrd.img")}),
		field: "spec.media[0]", message: "must have either url or files"},
	{name: "a digest of no file", of: "operatingsystem", set: withFormat("Preseed", map[string]any{"files": files("linux", "initrd.gz"),
		"sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}), field: "spec.media[0]",
		message: "sha256 is of the file at url: put those of files beside them"},
	{name: "files without a kernel", of: "operatingsystem", set: withFormat("Preseed", map[string]any{"files": files("vmlinuz", "initrd.gz")}), field: "spec.media[0].files",
		message: "must have the kernel among files: name its path in kernel"},
	{name: "files without the kernel that is named", of: "operatingsystem", set: withFormat("Preseed", map[string]any{"files": files("linux", "initrd.gz"), "kernel": "vmlinuz"}),
		field: "spec.media[0].files", message: "must have the kernel among files: name its path in kernel"},
	{name: "files without a ramdisk", of: "operatingsystem", set: withFormat("Preseed", map[string]any{"files": files("linux", "initrd")}), field: "spec.media[0].files",
		message: "must have the initial ramdisk among files: name its path in initrd"},
	{name: "a file without a URL", of: "operatingsystem", set: withFormat("Preseed", map[string]any{"files": append(files("linux", "initrd.gz"), map[string]any{"path": "x"})}),
		field: "spec.media[0].files[2]", message: "must have a url"},
	{name: "a path that climbs", of: "operatingsystem", set: withFormat("Preseed", map[string]any{"files": files("linux", "initrd.gz", "../x")}), field: "spec.media[0].files[2].path",
		message: treePath},
	{name: "an absolute path", of: "operatingsystem", set: withFormat("Autoinstall", map[string]any{"url": iso, "kernel": "/casper/vmlinuz"}), field: "spec.media[0].kernel",
		message: treePath},
	{name: "a path with a blank", of: "operatingsystem", set: withFormat("Autoinstall", map[string]any{"url": iso, "initrd": "casper/my initrd"}), field: "spec.media[0].initrd",
		message: treePath},
	{name: "packages by somebody's password", of: "operatingsystem", set: withFormat("Kickstart", map[string]any{"url": iso, "packages": "https://me:secret@example.org/os"}),
		field: "spec.media[0].packages", message: "must not hold a user name or password: whoever may read this resource may read them"},
	{name: "packages with a slash at the end", of: "operatingsystem", set: withFormat("Kickstart", map[string]any{"url": iso, "packages": "https://example.org/os/"}),
		field: "spec.media[0].packages", message: "must name a file, not a directory: the path must not end with a slash"},
	{name: "packages by ftp", of: "operatingsystem", set: withFormat("Kickstart", map[string]any{"url": iso, "packages": "ftp://example.org/os"}), field: "spec.media[0].packages",
		message: "must be an absolute http, https or file URL, such as https://example.org/debian.raw.xz or file:///srv/debian.raw.xz"},
}

const treePath = "must be a path such as images/pxeboot/vmlinuz: letters, digits, dots, dashes and underscores between single slashes, no part beginning with a dot"
