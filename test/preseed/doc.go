// Package preseed boots the real Debian Installer on a QEMU machine from our PXE
// service, and watches how far it comes by the preseed file that it is given.
//
// The components that the installer downloads from a mirror (its partitioner among
// them) are in no package of Debian, so it cannot go on behind the choice of the
// mirror where there is none. What is proven is all before that: firmware, loader,
// kernel and initial ramdisk out of a tree of files, the network by the kernel's
// arguments, the preseed file and our part of the installer, and that this tells the
// PXE service over HTTPS where the installer is.
package preseed
