package initconfig

import (
	"fmt"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
)

// Renderer writes NodeConfigs in the words of one format. Renderers are values
// without state: one may be used from many goroutines.
type Renderer interface {
	// Format that is rendered.
	Format() v1alpha1.Format
	// Render gives the documents of the init config by file name. The same config
	// gives the same documents.
	Render(NodeConfig) (map[string][]byte, error)
}

// renderers has the formats that this release can render.
var renderers = map[v1alpha1.Format]Renderer{
	v1alpha1.FormatImage: Image{},
}

// For is the renderer of an operating system's format. What this release cannot
// do is an error that names the field, never passed over.
func For(os v1alpha1.OperatingSystem) (Renderer, error) {
	r, ok := renderers[os.Spec.Format]
	if !ok {
		return nil, fmt.Errorf("OperatingSystem/%s: spec.format: format %s is not supported yet by this release: use format %s",
			os.Name, os.Spec.Format, v1alpha1.FormatImage)
	}
	if os.Spec.Template != nil {
		return nil, fmt.Errorf("OperatingSystem/%s: spec.template: templates are not supported yet by this release: remove the field", os.Name)
	}
	return r, nil
}
