package operator_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rhizome-dev/rhizome/operator"
)

func TestTheCommandSaysWhatIsWrongWithItsFlags(t *testing.T) {
	broken := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(broken, []byte("clusters: 1"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		reason string
		args   []string
		says   string
	}{
		{"an unknown format", []string{"--log-format", "xml"}, `--log-format is "xml": set json or text`},
		{"an unknown level", []string{"--log-level", "loud"}, "--log-level"},
		{"a kubeconfig that is none", []string{"--kubeconfig", broken}, "set --kubeconfig"},
		{"a kubeconfig that is not there", []string{"--kubeconfig", broken + "2"}, broken + "2"},
		{"an archive without a digest", []string{"--image-archive", "a.tar"}, "want NAME:SHA256"},
		{"an archive that k3s would not import", []string{"--image-archive", "a.zip:" + strings.Repeat("0", 64)}, "a.zip"},
		{"a digest that is none", []string{"--image-archive", "a.tar:" + strings.Repeat("g", 64)}, "no SHA-256"},
		{"resources that are none", []string{"--pxe-resources", `{"limit": {}}`}, "requests and limits"},
		{"a pause that is none", []string{"--healing-interval", "0.5s"}, "--healing-interval is 500ms: set 1s or more"},
		{"an argument too many", []string{"now"}, "now"},
	}
	for _, tc := range tests {
		t.Run(tc.reason, func(t *testing.T) {
			var out strings.Builder
			cmd := operator.Command()
			cmd.SilenceErrors, cmd.SilenceUsage = true, true
			cmd.SetArgs(tc.args)
			cmd.SetOut(&out)
			cmd.SetErr(&out)
			if err := cmd.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("the command answered %v, want an error with %s", err, tc.says)
			}
		})
	}
}
