package seed

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
)

func TestBootFilesThatLackWhatTheMachineNeedsAreRefused(t *testing.T) {
	dir := t.TempDir()
	f := &flow{Options: Options{BootFiles: dir}, first: &v1alpha1.Node{Spec: v1alpha1.NodeSpec{Architecture: v1alpha1.ARM64}}}
	write := func(name, content string) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	refused := func(want string) {
		t.Helper()
		if err := f.findBootFiles(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error = %v, want one about %q", err, want)
		}
	}
	refused("installer/arm64/vmlinuz")
	write("installer/amd64/vmlinuz", "k")
	write("installer/arm64/vmlinuz", "k")
	write("installer/arm64/initrd.img", "")
	refused("installer/arm64/initrd.img")
	write("installer/arm64/initrd.img", "i")
	if err := f.findBootFiles(); err != nil {
		t.Error(err)
	}
	f.BootFiles = filepath.Join(dir, "absent")
	refused("no boot files in " + f.BootFiles)
}
