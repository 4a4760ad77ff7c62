package flags

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
)

const digest = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// parsed are the flags of a command that was given some arguments.
func parsed(t *testing.T, args ...string) (l Log, api API, archives Archives, err error) {
	t.Helper()
	cmd := &cobra.Command{Use: "test", SilenceErrors: true, SilenceUsage: true, RunE: func(*cobra.Command, []string) error { return nil }}
	l.Add(cmd)
	api.Add(cmd)
	cmd.Flags().Var(&archives, "image-archive", "archives")
	cmd.SetArgs(args)
	return l, api, archives, cmd.ExecuteContext(t.Context())
}

func TestWhatIsLoggedAndHow(t *testing.T) {
	tests := []struct {
		args        []string
		debug, json bool
	}{
		{nil, false, true},
		{[]string{"--log-level=debug", "--log-format=text"}, true, false},
		{[]string{"--log-level=warn"}, false, true},
	}
	for _, tc := range tests {
		l, _, _, err := parsed(t, tc.args...)
		if err != nil {
			t.Fatal(err)
		}
		// What another command is told is the same again.
		again, _, _, err := parsed(t, l.Args()...)
		if err != nil || again != l {
			t.Errorf("%v: told as %v, understood as %+v, %v", tc.args, l.Args(), again, err)
		}
		var out bytes.Buffer
		logger, err := l.Logger(&out)
		if err != nil {
			t.Fatal(err)
		}
		logger.Error("said")
		if got := strings.HasPrefix(out.String(), "{"); got != tc.json {
			t.Errorf("%v: logged %q", tc.args, out.String())
		}
		if got := logger.Enabled(t.Context(), slog.LevelDebug); got != tc.debug {
			t.Errorf("%v: logs debug: %t", tc.args, got)
		}
	}
}

func TestArchivesAreNamesWithDigests(t *testing.T) {
	_, _, got, err := parsed(t, "--image-archive", "operator.oci.tar:"+digest, "--image-archive", "more.tar.zst:"+digest)
	want := Archives{{Name: "operator.oci.tar", SHA256: digest}, {Name: "more.tar.zst", SHA256: digest}}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	for _, bad := range []string{"", "operator.tar", ":" + digest, "a.tar:", "a.tar:" + digest[1:], "a.tar:" + strings.ToUpper(digest), "a.zip:" + digest, "../a.tar:" + digest} {
		if _, _, _, err := parsed(t, "--image-archive", bad); err == nil || !strings.Contains(err.Error(), "--image-archive") {
			t.Errorf("%q: %v, want an error that names the flag", bad, err)
		}
	}
}

func TestTheWayToTheAPIServer(t *testing.T) {
	file := filepath.Join(t.TempDir(), "kubeconfig")
	content := `{apiVersion: v1, kind: Config, current-context: c, contexts: [{name: c, context: {cluster: c, user: c}}],
clusters: [{name: c, cluster: {server: "https://10.1.2.3:6443"}}], users: [{name: c, user: {token: t}}]}`
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	_, api, _, err := parsed(t, "--kubeconfig", file)
	if err != nil {
		t.Fatal(err)
	}
	if cfg, err := api.Config(); err != nil || cfg.Host != "https://10.1.2.3:6443" {
		t.Errorf("%v, %v", cfg, err)
	}
	// Without the flag the environment says it.
	t.Setenv("KUBECONFIG", file)
	if cfg, err := new(API).Config(); err != nil || cfg.Host != "https://10.1.2.3:6443" {
		t.Errorf("%v, %v", cfg, err)
	}
	_, api, _, err = parsed(t, "--kubeconfig", file+"2")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := api.Config(); err == nil || !strings.Contains(err.Error(), "--kubeconfig") {
		t.Errorf("a file that is not there: %v", err)
	}
}
