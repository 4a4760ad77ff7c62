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
	// KernelArguments are what the installer has to be told of the machine's network
	// before it can ask for its init config. Only the host name and the network of the
	// config are looked at.
	KernelArguments(NodeConfig) []string
}

// renderers has the formats that this release can render.
var renderers = map[v1alpha1.Format]Renderer{
	v1alpha1.FormatImage:       Image{},
	v1alpha1.FormatKickstart:   Kickstart{},
	v1alpha1.FormatPreseed:     Preseed{},
	v1alpha1.FormatAutoinstall: Autoinstall{},
}

// For is the renderer of an operating system's format. What this release cannot
// do is an error that names the field, never passed over.
func For(os v1alpha1.OperatingSystem) (Renderer, error) {
	r, ok := renderers[os.Spec.Format]
	if !ok {
		return nil, fmt.Errorf("OperatingSystem/%s: spec.format: there is no format %q: want Image, Kickstart, Preseed or Autoinstall",
			os.Name, os.Spec.Format)
	}
	if os.Spec.Template != nil {
		return nil, fmt.Errorf("OperatingSystem/%s: spec.template: templates are not supported yet by this release: remove the field", os.Name)
	}
	return r, nil
}
