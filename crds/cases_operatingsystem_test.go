package crds_test

import "slices"

const (
	rawWanted = "must be raw disk images with format Image: convert others with 'qemu-img convert -O raw', and compress the result"
	oneKernel = "must be one kernel argument such as console=ttyS0,115200n8: no spaces, quotes, dollar signs or semicolons, which boot loaders read as their own"
)

var operatingSystemRefused = slices.Concat([]bad{
	{name: "a compressed installer", of: "operatingsystem", set: fields{"spec.format": "Preseed"}, field: "spec.media",
		message: "compression is only of a disk image: remove it, or set format to Image"},
	{name: "an image that is not raw", of: "operatingsystem", set: fields{"spec.media[1].url": "https://example.org/debian.qcow2"}, field: "spec.media", message: rawWanted},
	{name: "a compressed image that is not raw", of: "operatingsystem", set: fields{"spec.media[1].url": "https://example.org/debian.tar.xz"}, field: "spec.media", message: rawWanted},
	{name: "two kernel arguments in one entry", of: "operatingsystem", set: fields{"spec.kernelArguments[0]": "quiet splash"}, field: "spec.kernelArguments[0]", message: oneKernel},
	{name: "a variable of the boot loader", of: "operatingsystem", set: fields{"spec.kernelArguments[0]": "a=${net0/mac}"}, field: "spec.kernelArguments[0]", message: oneKernel},
	{name: "an argument of the installer's own", of: "operatingsystem", set: fields{"spec.kernelArguments[0]": "rhizome.init=http://evil/"}, field: "spec.kernelArguments[0]",
		message: "must not begin with rhizome., which the installer is told by"},
},
	fileRefused("operatingsystem", "spec.media[0]"),
	nameRefused("operatingsystem", "spec.template.name", "a ConfigMap"),
)
