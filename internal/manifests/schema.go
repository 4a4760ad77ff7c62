package manifests

import (
	"fmt"
	"maps"
	"slices"
	"sync"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	structural "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	celconfig "k8s.io/apiserver/pkg/apis/cel"

	"github.com/rhizome-dev/rhizome/crds"
	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
)

// kind is what the API server would make of one CustomResourceDefinition.
type kind struct {
	name      string
	schema    *structural.Structural
	validator validation.SchemaValidator
	// rules are the CEL rules. Compiling them takes a while, so it waits until
	// there is an object of the kind.
	rules func() *cel.Validator
}

// kinds holds every kind of our group by name.
var kinds = sync.OnceValues(func() (map[string]*kind, error) {
	definitions, err := crds.Definitions()
	if err != nil {
		return nil, err
	}
	all := map[string]*kind{}
	for _, d := range definitions {
		for _, v := range d.Spec.Versions {
			if v.Name != v1alpha1.GroupVersion.Version {
				continue
			}
			k, err := newKind(d.Spec.Names.Kind, v.Schema)
			if err != nil {
				return nil, fmt.Errorf("cannot use the schema of %s: %w", d.Name, err)
			}
			all[k.name] = k
		}
	}
	return all, nil
})

func newKind(name string, v *apiextensionsv1.CustomResourceValidation) (*kind, error) {
	var internal apiextensions.CustomResourceValidation
	if err := apiextensionsv1.Convert_v1_CustomResourceValidation_To_apiextensions_CustomResourceValidation(v, &internal, nil); err != nil {
		return nil, err
	}
	s, err := structural.NewStructural(internal.OpenAPIV3Schema)
	if err != nil {
		return nil, err
	}
	s = s.DeepCopy() // its defaults are those of the definition
	if err := defaulting.PruneDefaults(s); err != nil {
		return nil, err
	}
	validator, _, err := validation.NewSchemaValidator(internal.OpenAPIV3Schema)
	if err != nil {
		return nil, err
	}
	return &kind{
		name: name, schema: s, validator: validator,
		rules: sync.OnceValue(func() *cel.Validator { return cel.NewValidator(s, true, celconfig.PerCallLimit) }),
	}, nil
}

func kindNamed(name string) (*kind, error) {
	all, err := kinds()
	if err != nil {
		return nil, err
	}
	if k, ok := all[name]; ok {
		return k, nil
	}
	return nil, fmt.Errorf("%q is not a kind of %s", name, v1alpha1.GroupVersion)
}

func kindNames() []string {
	all, _ := kinds()
	return slices.Sorted(maps.Keys(all))
}
