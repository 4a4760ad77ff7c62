package gitops

import (
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
)

// argoParts are the components of Argo CD without which no layer is applied, by
// their label app.kubernetes.io/component.
var argoParts = []string{"application-controller", "applicationset-controller", "repo-server"}

// argoFacts is what the decision about Argo CD rests on.
type argoFacts struct {
	// version that is wanted.
	version string
	// defined: the definitions of Application and ApplicationSet are there.
	defined bool
	// parts are the components that are there, and whether they are ready.
	parts map[string]bool
	// release is the chart's version in the Helm release; empty: there is none that was
	// installed to its end.
	release string
	// unfinished: there is one that was not, as when the operator died in its midst.
	unfinished bool
	// handedOver: Argo CD managed itself before.
	handedOver bool
	// managesItself: there is an Application of Argo CD itself.
	managesItself bool
	// policy and override are what the ApplicationSet controller was told of the
	// deletion of Applications.
	policy, override string
	// installing: the chart is being installed now. failure is why it could not be.
	installing bool
	failure    string
}

// argoVerdict is what follows.
type argoVerdict struct {
	// install: the chart is installed, or again.
	install bool
	// usable: ApplicationSets may be made and changed.
	usable bool
	// handedOver: from now on nothing of a part that is there is changed.
	handedOver bool
	ready      metav1.Condition
}

// judgeArgo decides about Argo CD: it is installed when a part of it is missing, or
// when it was not installed to its end, and left alone otherwise. Once it manages itself from the repository, the operator
// never upgrades it.
func judgeArgo(f argoFacts) argoVerdict {
	v := argoVerdict{handedOver: f.handedOver || f.managesItself}
	say := func(status metav1.ConditionStatus, reason, format string, args ...any) argoVerdict {
		v.ready = condition(v1alpha1.ConditionArgoCDReady, status, reason, fmt.Sprintf(format, args...))
		return v
	}
	var missing, unready []string
	if !f.defined {
		missing = append(missing, "its definitions")
	}
	for _, p := range argoParts {
		ready, there := f.parts[p]
		switch {
		case !there:
			missing = append(missing, p)
		case !ready:
			unready = append(unready, p)
		}
	}
	// While a part is down, what is there is still read and kept right.
	v.usable = f.defined && !f.installing
	if f.defined && f.policy != "" && f.policy != "create-update" && f.policy != "create-only" && f.override != "true" {
		v.usable = false
		return say(metav1.ConditionFalse, v1alpha1.ReasonArgoCDUnsafe,
			"the ConfigMap argocd-cmd-params-cm sets applicationsetcontroller.policy to %q, which lets Argo CD delete Applications whose directories it does not see: set applicationsetcontroller.enable.policy.override to \"true\"", f.policy)
	}
	if f.unfinished && !v.handedOver {
		missing = append(missing, "the rest of the chart")
	}
	if len(missing) > 0 {
		what, version := "installing", f.version
		if v.handedOver || f.release != "" {
			// As it was installed: that is no matter of the version that is declared now.
			what, version = "repairing", or(f.release, f.version)
		}
		if f.installing {
			return say(metav1.ConditionFalse, v1alpha1.ReasonArgoCDInstalling, "%s version %s of the chart; not there yet: %s", what, version, strings.Join(missing, ", "))
		}
		v.install = true
		if f.failure != "" {
			return say(metav1.ConditionFalse, v1alpha1.ReasonArgoCDFailed, "%s; it is tried again", f.failure)
		}
		return say(metav1.ConditionFalse, v1alpha1.ReasonArgoCDInstalling, "%s version %s of the chart; not there: %s", what, version, strings.Join(missing, ", "))
	}
	slices.Sort(unready)
	switch {
	case len(unready) > 0 && v.handedOver:
		return say(metav1.ConditionFalse, v1alpha1.ReasonArgoCDNotReady, "not ready: %s; Argo CD manages itself, so nothing is changed", strings.Join(unready, ", "))
	case len(unready) > 0:
		return say(metav1.ConditionFalse, v1alpha1.ReasonArgoCDInstalling, "not ready yet: %s", strings.Join(unready, ", "))
	case v.handedOver:
		return say(metav1.ConditionTrue, v1alpha1.ReasonArgoCDSelfManaged, "Argo CD manages itself; the operator repairs it only when a part of it is gone")
	}
	return say(metav1.ConditionTrue, v1alpha1.ReasonArgoCDRunning, "version %s of the chart runs; it manages itself as soon as the repository has a directory %s", or(f.release, f.version), argoRelease)
}
