// Package preseed lets our PXE service lead the real Debian Installer, and watches how
// far it comes by the preseed file that it is given: once its programs alone, in their
// own system and a network namespace, which takes seconds; and once the whole of it on a
// QEMU machine, from firmware and loader on.
//
// The components that the installer downloads from a mirror (its partitioner among
// them) are in no package of Debian, so it cannot go on behind the choice of the
// mirror where there is none. What is proven is all before that: the network by the
// kernel's arguments, the preseed file and our part of the installer, and that this
// tells the PXE service over HTTPS where the installer is and that it failed.
package preseed
