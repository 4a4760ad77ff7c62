package k3s

import "strings"

// selfLabels are the labels of Kubernetes' own domains that a kubelet may give
// its Node; with any other one of those domains it refuses to start.
// (https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#noderestriction)
var selfLabels = map[string]bool{
	"kubernetes.io/arch":                       true,
	"kubernetes.io/hostname":                   true,
	"kubernetes.io/os":                         true,
	"beta.kubernetes.io/arch":                  true,
	"beta.kubernetes.io/instance-type":         true,
	"beta.kubernetes.io/os":                    true,
	"node.kubernetes.io/instance-type":         true,
	"failure-domain.beta.kubernetes.io/region": true,
	"failure-domain.beta.kubernetes.io/zone":   true,
	"topology.kubernetes.io/region":            true,
	"topology.kubernetes.io/zone":              true,
}

// KubeletLabels are those of labels that a kubelet may give its own Node. The
// others, such as node-role.kubernetes.io/worker, are for somebody with the right
// to change Nodes.
func KubeletLabels[V ~string](labels map[string]V) map[string]string {
	out := map[string]string{}
	for key, value := range labels {
		domain, _, ok := strings.Cut(key, "/")
		if !ok || !within(domain, "kubernetes.io") && !within(domain, "k8s.io") ||
			within(domain, "kubelet.kubernetes.io") || within(domain, "node.kubernetes.io") || selfLabels[key] {
			out[key] = string(value)
		}
	}
	return out
}

func within(domain, parent string) bool {
	return domain == parent || strings.HasSuffix(domain, "."+parent)
}
