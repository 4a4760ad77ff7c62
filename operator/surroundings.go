package operator

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/rhizome-dev/rhizome/internal/names"
)

// resourcesFlag are requests and limits as JSON.
type resourcesFlag struct{ resources *corev1.ResourceRequirements }

func (f resourcesFlag) String() string { return "" }

func (f resourcesFlag) Set(text string) error {
	var r corev1.ResourceRequirements
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&r); err != nil {
		return fmt.Errorf("want requests and limits as JSON: %w", err)
	}
	*f.resources = r
	return nil
}

func (f resourcesFlag) Type() string { return "JSON" }

// namespaceFile is where a pod finds the name of its namespace.
const namespaceFile = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"

// ownNamespace is the pod's, or the release's usual one outside of a cluster.
func ownNamespace() string {
	if content, err := os.ReadFile(namespaceFile); err == nil {
		if name := strings.TrimSpace(string(content)); name != "" {
			return name
		}
	}
	return names.SystemNamespace
}
