package provision

import (
	"fmt"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/initconfig"
	"github.com/rhizome-dev/rhizome/pxe"
)

// kernelOf is what a machine runs to install itself: our installer for a disk image,
// the distribution's own for the other formats, out of its medium.
func kernelOf(arch pxe.Arch, system *v1alpha1.OperatingSystem, medium *v1alpha1.Medium, node *v1alpha1.Node, net network) (pxe.Kernel, error) {
	renderer, err := initconfig.For(*system)
	if err != nil {
		return pxe.Kernel{}, err
	}
	dir, paths, args, err := installerOf(arch, system, medium)
	if err != nil {
		return pxe.Kernel{}, err
	}
	args = append(args, renderer.KernelArguments(initconfig.NodeConfig{HostName: node.Name, Network: initconfig.Network{
		MAC: string(net.mac), Address: net.address, Gateway: net.gateway, Nameservers: net.nameservers,
	}})...)
	// A kernel that has panicked restarts, into the machine's own disk.
	args = append(args, "panic=60")
	return pxe.Kernel{
		Path: dir + string(paths[0]), Initrds: []string{dir + string(paths[1])},
		Args: append(args, system.Spec.KernelArguments...),
	}, nil
}

// installerOf is where an installer's kernel and initial ramdisk are, and what it wants
// to be told.
func installerOf(arch pxe.Arch, system *v1alpha1.OperatingSystem, medium *v1alpha1.Medium) (dir string, paths [2]v1alpha1.TreePath, args []string, err error) {
	if system.Spec.Format == v1alpha1.FormatImage {
		return "/installer/" + string(arch) + "/", [2]v1alpha1.TreePath{"vmlinuz", "initrd.img"},
			[]string{"rhizome.init=${base}/init/${mac}", "rhizome.mac=${mac}"}, isLocked(system, medium)
	}
	files, err := systemMedia(system, medium)
	if err != nil {
		return "", paths, nil, err
	}
	switch system.Spec.Format {
	case v1alpha1.FormatKickstart:
		args = []string{"inst.ks=${base}/init/${mac}", "inst.stage2=${base}" + files[0].TreePath()}
	case v1alpha1.FormatPreseed:
		args = []string{"url=${base}/init/${mac}/" + initconfig.PreseedFile}
	case v1alpha1.FormatAutoinstall:
		args = []string{
			"autoinstall", "ds=nocloud-net;s=${base}/init/${mac}/",
			// The ISO, which casper fetches into memory. cloud-init would take it for a
			// configuration of its own if it had not been given another.
			"url=${base}" + files[0].Path(), "cloud-config-url=/dev/null",
		}
	default:
		return "", paths, nil, fmt.Errorf("OperatingSystem/%s: spec.format: there is no installer for the format %s", system.Name, system.Spec.Format)
	}
	paths = installerPaths[system.Spec.Format]
	if medium.Kernel != "" {
		paths[0] = medium.Kernel
	}
	if medium.Initrd != "" {
		paths[1] = medium.Initrd
	}
	return files[0].TreePath() + "/", paths, args, nil
}
