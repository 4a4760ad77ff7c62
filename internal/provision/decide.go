package provision

import (
	"errors"
	"fmt"
	"time"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/inventory"
	"github.com/rhizome-dev/rhizome/pxe"
)

// Clock tells the time.
type Clock func() time.Time

// Decide is the boot decision for a machine. claim is the machine's current one,
// nil if it has none.
//
// An undeclared machine gets no answer. A declared one boots the installer only
// if the claim is open, the architecture that its firmware tells is the declared
// one and its UUID is not another machine's; else it boots its own disk, and the
// reason says which rule said so. In doubt (a declaration that cannot be used)
// nothing is installed.
func Decide(inv inventory.Inventory, m pxe.Machine, claim *Claim, now time.Time) pxe.Decision {
	node, ok := inv.Machine(v1alpha1.MAC(m.MAC))
	if !ok {
		return pxe.Decision{Action: pxe.Ignore, Reason: RuleUndeclared + ": no Node declares this MAC"}
	}
	d := pxe.Decision{Action: pxe.BootLocal, Arch: architectureOf(node)}
	cluster, err := inv.Cluster()
	if err != nil {
		d.Reason = err.Error()
		return d
	}
	d.Loader, d.LocalBoot = loaderOf(cluster, node), localBootOf(node)
	net, err := networkOf(cluster, node)
	if err != nil {
		d.Reason = err.Error()
		return d
	}
	if cluster.Spec.Network.DHCP == v1alpha1.DHCPServer {
		d.Lease = &pxe.Lease{Address: net.address, Gateway: net.gateway, Nameservers: net.nameservers, HostName: node.Name}
	}
	if err := mayInstall(node, m, claim, now); err != nil {
		d.Reason = err.Error()
		return d
	}
	system, medium, err := inv.MediumOf(node)
	if err != nil {
		d.Reason = err.Error()
		return d
	}
	kernel, err := kernelOf(d.Arch, system, medium, node, net)
	if err != nil {
		d.Reason = err.Error()
		return d
	}
	d.Action = pxe.Install
	d.Reason = "the claim of " + node.Name + " is open until " + clock(claim.Expires)
	d.Kernel = kernel
	return d
}

// mayInstall is a *pxe.Refusal that says why not, or nil.
func mayInstall(node *v1alpha1.Node, m pxe.Machine, claim *Claim, now time.Time) error {
	if claim == nil || claim.Node != node.Name {
		return &pxe.Refusal{Rule: RuleNoClaim, Message: fmt.Sprintf(
			"%s is declared and has no claim, so it boots its own disk; an installation needs a claim", node.Name)}
	}
	if err := claim.MayInstall(now, m.UUID); err != nil {
		return err
	}
	if m.Arch != "" && m.Arch != architectureOf(node) {
		return &pxe.Refusal{Rule: RuleWrongArch, Message: fmt.Sprintf(
			"%s is declared as %s and its firmware says %s; correct spec.architecture of the Node",
			node.Name, architectureOf(node), m.Arch)}
	}
	return nil
}

// noteworthy says whether a refusal to install is a fault that a person should
// see. That a machine has no claim, or has used it, is the ordinary course.
func noteworthy(err error) (*pxe.Refusal, bool) {
	var refusal *pxe.Refusal
	if !errors.As(err, &refusal) {
		return nil, false
	}
	return refusal, refusal.Rule == RuleWrongArch || refusal.Rule == RuleWrongMachine
}

func loaderOf(c *v1alpha1.Cluster, n *v1alpha1.Node) pxe.LoaderPolicy {
	policy := c.Spec.PXE.Loader
	if n.Spec.Boot != nil && n.Spec.Boot.Loader != "" {
		policy = n.Spec.Boot.Loader
	}
	switch policy {
	case v1alpha1.LoaderIPXE:
		return pxe.LoaderIPXE
	case v1alpha1.LoaderGRUB:
		return pxe.LoaderGRUB
	case v1alpha1.LoaderSigned:
		return pxe.LoaderSigned
	}
	return pxe.LoaderAuto
}

func localBootOf(n *v1alpha1.Node) pxe.LocalBoot {
	if n.Spec.Boot == nil || n.Spec.Boot.Local == v1alpha1.LocalBootAuto {
		return pxe.LocalBootAuto
	}
	return pxe.LocalBoot(n.Spec.Boot.Local)
}

// kexecOf says whether our installer is to go into the new system by kexec.
func kexecOf(c *v1alpha1.Cluster, n *v1alpha1.Node) bool {
	way := c.Spec.PXE.AfterInstall
	if n.Spec.Boot != nil && n.Spec.Boot.AfterInstall != "" {
		way = n.Spec.Boot.AfterInstall
	}
	return way == v1alpha1.AfterInstallKexec
}
