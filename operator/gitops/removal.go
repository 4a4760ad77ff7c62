package gitops

import (
	"slices"

	argo "github.com/argoproj/argo-cd/v2/pkg/apis/application/v1alpha1"
)

// looksBeforeRemoval is how often a directory must be seen to be gone.
const looksBeforeRemoval = 2

// removable are the Applications of a layer whose directory is gone from a source
// that is trusted, seen so more than once. absent counts, by name, how often it was
// seen before; it is brought up to date. look says that the source was looked at anew.
//
// ApplicationSets are not allowed to do this: they would act on whatever repository
// they are shown.
func removable(apps []argo.Application, directories []string, head string, trusted, look bool, absent map[string]int) []string {
	var gone []string
	for i := range apps {
		app := &apps[i]
		if slices.Contains(directories, app.Spec.GetSource().Path) || !trusted || head == "" {
			delete(absent, app.Name)
			continue
		}
		if look {
			absent[app.Name]++
		}
		if absent[app.Name] >= looksBeforeRemoval && app.DeletionTimestamp == nil {
			gone = append(gone, app.Name)
		}
	}
	return gone
}
