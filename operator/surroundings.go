package operator

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/rhizome-dev/rhizome/internal/k3s"
	"github.com/rhizome-dev/rhizome/internal/names"
)

// Archive is an image archive that travelled with the installation: its file name
// in the directory that k3s imports images from, and its SHA-256.
type Archive struct{ Name, SHA256 string }

// String is the form in which flags give it, NAME:SHA256.
func (a Archive) String() string { return a.Name + ":" + a.SHA256 }

// ParseArchive understands NAME:SHA256.
func ParseArchive(text string) (Archive, error) {
	i := strings.LastIndex(text, ":")
	if i < 0 {
		return Archive{}, fmt.Errorf("image archive %q: want NAME:SHA256", text)
	}
	a := Archive{Name: text[:i], SHA256: text[i+1:]}
	if digest, err := hex.DecodeString(a.SHA256); err != nil || len(digest) != 32 || a.SHA256 != strings.ToLower(a.SHA256) {
		return Archive{}, fmt.Errorf("image archive %q: %q is no SHA-256 in lower-case hexadecimal", text, a.SHA256)
	}
	if _, err := k3s.ImagePath(a.Name); err != nil {
		return Archive{}, err
	}
	return a, nil
}

// archiveFlag is a flag that may be given again.
type archiveFlag struct{ archives *[]Archive }

func (f archiveFlag) String() string {
	if f.archives == nil {
		return ""
	}
	var all []string
	for _, a := range *f.archives {
		all = append(all, a.String())
	}
	return strings.Join(all, ",")
}

func (f archiveFlag) Set(text string) error {
	a, err := ParseArchive(text)
	if err != nil {
		return err
	}
	*f.archives = append(*f.archives, a)
	return nil
}

func (f archiveFlag) Type() string { return "NAME:SHA256" }

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
