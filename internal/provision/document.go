package provision

import (
	"encoding/json"
	"fmt"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/initconfig"
	"github.com/rhizome-dev/rhizome/internal/inventory"
	"github.com/rhizome-dev/rhizome/pxe"
)

// document is the init config of a node: with the format Image the plan of the
// in-memory installer, otherwise what the distribution's own installer reads.
func (b *Backend) document(inv inventory.Inventory, node *v1alpha1.Node, claim Claim) (pxe.Document, error) {
	system, medium, err := inv.MediumOf(node)
	if err != nil {
		return pxe.Document{}, err
	}
	renderer, err := initconfig.For(*system)
	if err != nil {
		return pxe.Document{}, err
	}
	files, err := Media(inv, node, b.c.Archives(medium.Architecture)...)
	if err != nil {
		return pxe.Document{}, err
	}
	service := b.c.Service
	service.Others = b.c.Others()
	config, err := NodeConfig(inv, node, claim, service, files)
	if err != nil {
		return pxe.Document{}, err
	}
	if system.Spec.Format != v1alpha1.FormatImage {
		config.Installation = installation(node, claim, service, medium, files[0])
	}
	documents, err := renderer.Render(config)
	if err != nil {
		return pxe.Document{}, fmt.Errorf("Node/%s: %w", node.Name, err)
	}
	if system.Spec.Format != v1alpha1.FormatImage {
		return parts(documents), nil
	}
	p := b.plan(node, claim, service, files[0], documents, config.Network)
	p.Image.Compression = compression(*medium)
	cluster, err := inv.Cluster()
	if err != nil {
		return pxe.Document{}, err
	}
	p.Kexec = kexecOf(cluster, node)
	body, err := json.Marshal(p)
	if err != nil {
		return pxe.Document{}, fmt.Errorf("cannot encode the install plan of %s: %w", node.Name, err)
	}
	return pxe.Document{ContentType: "application/json", Body: body}, nil
}

// parts are the documents by name, and the kickstart file, which is one alone, at the
// init config's own path.
func parts(documents map[string][]byte) pxe.Document {
	out := pxe.Document{ContentType: "text/plain; charset=utf-8", Parts: map[string]pxe.Document{}}
	for name, body := range documents {
		out.Parts[name] = pxe.Document{ContentType: out.ContentType, Body: body}
	}
	out.Body = documents[initconfig.KickstartFile]
	return out
}

// installation is what a distribution's own installer is told. tree is its ISO, or
// the listing of its files.
func installation(node *v1alpha1.Node, claim Claim, service Service, medium *v1alpha1.Medium, tree Medium) *initconfig.Installation {
	i := &initconfig.Installation{
		Disk: diskHint(node), ReportURLs: []string{service.SecureURL + reportPath}, CA: service.CA, Claim: claim.ID,
		Packages: string(medium.Packages),
	}
	for _, other := range service.Others {
		i.ReportURLs = append(i.ReportURLs, other.SecureURL+reportPath)
	}
	if i.Packages == "" && tree.Kind == KindISO {
		i.Packages = service.BaseURL + tree.TreePath()
	}
	return i
}
