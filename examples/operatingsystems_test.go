package examples

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/initconfig"
	"github.com/rhizome-dev/rhizome/internal/manifests"
)

// Each example is what the schema wants, and says where its publisher vouches for it;
// none holds a digest, because those that are not checked here would be invented.
func TestTheOperatingSystemsAreSoundAndUnlocked(t *testing.T) {
	inv, findings, err := manifests.ReadDir("operatingsystems")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range findings {
		t.Error(f)
	}
	files, err := filepath.Glob("operatingsystems/*.yaml")
	if err != nil || len(files) != len(inv.OperatingSystems) || len(files) < 9 {
		t.Fatalf("%d operating systems in %d files, %v", len(inv.OperatingSystems), len(files), err)
	}
	formats := map[v1alpha1.Format]bool{}
	for _, system := range inv.OperatingSystems {
		formats[system.Spec.Format] = true
		if _, err := initconfig.For(system); err != nil {
			t.Error(err)
		}
		for sums := range strings.FieldsSeq(system.Annotations[v1alpha1.AnnotationChecksums]) {
			if !strings.HasPrefix(sums, "https://") {
				t.Errorf("%s: %s", system.Name, sums)
			}
		}
		if system.Annotations[v1alpha1.AnnotationChecksums] == "" {
			t.Errorf("%s names no checksums", system.Name)
		}
		for _, m := range system.Spec.Media {
			if m.SHA256 != "" {
				t.Errorf("%s: %s has a digest", system.Name, m.URL)
			}
		}
	}
	if len(formats) != 4 {
		t.Errorf("formats %v", formats)
	}
	for _, file := range files {
		var one v1alpha1.OperatingSystem
		body, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := yaml.UnmarshalStrict(body, &one); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
}
