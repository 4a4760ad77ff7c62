package initconfig

import (
	"encoding/base64"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
)

var update = flag.Bool("update", false, "write the golden files anew")

func example() NodeConfig {
	return NodeConfig{
		HostName:   "alpha",
		InstanceID: "alpha-20260102T030405Z-1",
		Network: Network{
			MAC: "52:54:00:12:34:56", Address: netip.MustParsePrefix("192.168.1.10/24"),
			Gateway:     netip.MustParseAddr("192.168.1.1"),
			Nameservers: []netip.Addr{netip.MustParseAddr("192.168.1.1"), netip.MustParseAddr("9.9.9.9")},
			WakeOnLAN:   true,
		},
		SSHKeys: []string{"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIExampleExampleExampleExampleExampleExampleExamp you@home"},
		Files: []File{
			{Path: "/etc/example/plain.conf", Content: []byte("# readable: as it is\nkey = \"value\"\n")},
			{Path: "/etc/example/secret", Content: []byte("no newline at the end"), Mode: 0o600},
			{Path: "/etc/example/binary", Content: []byte{0, 1, 2, 0xff}, Mode: 0o400},
			{Path: "/etc/example/empty"},
		},
		Units: []Unit{
			{Name: "example.service", Content: "[Service]\nExecStart=/bin/true\n", Start: true},
			{Name: "later.service", Content: "[Service]\nExecStart=/bin/true\n"},
		},
		Commands: [][]string{{"/bin/echo", "two words", "$not expanded"}},
	}
}

func TestAnImageIsGivenANoCloudSeed(t *testing.T) {
	documents, err := Image{}.Render(example())
	if err != nil {
		t.Fatal(err)
	}
	names := []string{UserData, MetaData, NetworkConfig}
	if len(documents) != len(names) {
		t.Errorf("%d documents, want %d", len(documents), len(names))
	}
	for _, name := range names {
		golden := filepath.Join("testdata", "image", name)
		if *update {
			if err := os.WriteFile(golden, documents[name], 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(documents[name])); diff != "" {
			t.Errorf("%s (- golden, + rendered; go test -update writes it anew):\n%s", name, diff)
		}
	}
}

func TestEveryByteOfAFileArrives(t *testing.T) {
	var all []byte
	for b := range 256 {
		all = append(all, byte(b))
	}
	for name, content := range map[string][]byte{
		"every byte":            all,
		"empty":                 nil,
		"one newline":           []byte("\n"),
		"no newline at the end": []byte("a"),
		"newlines at the end":   []byte("a\n\n\n"),
		"blanks at the ends":    []byte("  a  \n b \t\n"),
		"carriage returns":      []byte("a\r\nb\r"),
		"a byte order mark":     []byte("\ufeffa"),
		"line separators":       []byte("a\u2028b\u0085c"),
		"YAML":                  []byte("- a: b\n...\n---\n#x\n"),
		"a number":              []byte("0123"),
		"a word for true":       []byte("yes"),
		"an accent":             []byte("é\n"),
		"a template":            []byte("## template: jinja\n{{ v1 }}\n"),
		"a long line":           []byte(strings.Repeat("long ", 1000)),
	} {
		config := example()
		config.Files = []File{{Path: "/f", Content: content}}
		documents, err := Image{}.Render(config)
		if err != nil {
			t.Fatal(err)
		}
		var read cloudConfig
		if err := yaml.Unmarshal(documents[UserData], &read); err != nil {
			t.Fatal(err)
		}
		got := []byte(read.WriteFiles[0].Content)
		if read.WriteFiles[0].Encoding == "b64" {
			if got, err = base64.StdEncoding.DecodeString(string(got)); err != nil {
				t.Fatal(err)
			}
		}
		if string(got) != string(content) {
			t.Errorf("%s: %q arrives as %q", name, content, got)
		}
	}
}

func TestAConfigThatCannotBeRenderedIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*NodeConfig)
		want   string
	}{
		"host name":     {func(c *NodeConfig) { c.HostName = "Alpha_1" }, "not a host name"},
		"long name":     {func(c *NodeConfig) { c.HostName = strings.Repeat("a", 64) }, "not a host name"},
		"instance":      {func(c *NodeConfig) { c.InstanceID = "" }, "no instance ID"},
		"address":       {func(c *NodeConfig) { c.Network.Address = netip.Prefix{} }, "no address"},
		"MAC":           {func(c *NodeConfig) { c.Network.MAC = "" }, "no MAC"},
		"relative path": {func(c *NodeConfig) { c.Files[0].Path = "etc/x" }, "clean absolute path"},
		"climbing path": {func(c *NodeConfig) { c.Files[0].Path = "/etc/../x" }, "clean absolute path"},
		"unit path":     {func(c *NodeConfig) { c.Units[0].Name = "../x.service" }, "with its suffix"},
		"unit suffix":   {func(c *NodeConfig) { c.Units[0].Name = "x" }, "with its suffix"},
		"unit letters":  {func(c *NodeConfig) { c.Units[0].Name = "x\n%end.service" }, "with its suffix"},
		"line in path":  {func(c *NodeConfig) { c.Files[0].Path = "/etc/x\n%end" }, "clean absolute path"},
		"command":       {func(c *NodeConfig) { c.Commands[0] = nil }, "command 1 is empty"},
	} {
		config := example()
		c.change(&config)
		documents, err := Image{}.Render(config)
		if err == nil || !strings.Contains(err.Error(), c.want) || documents != nil {
			t.Errorf("%s: %v, want an error with %q and no documents", name, err, c.want)
		}
	}
}

func TestRenderingLeavesTheConfigAlone(t *testing.T) {
	config := example()
	// Room in the slices, where an append would write.
	config.Files = append(make([]File, 0, 9), config.Files...)
	config.Units = append(make([]Unit, 0, 9), config.Units...)
	if _, err := (Image{}).Render(config); err != nil {
		t.Fatal(err)
	}
	if got := config.Files[:5][4]; got.Path != "" {
		t.Errorf("rendering wrote %s behind the files", got.Path)
	}
	if got := config.Units[:3][2]; got.Name != "" {
		t.Errorf("rendering wrote %s behind the units", got.Name)
	}
}

func TestAFormatThatCannotBeRenderedNamesTheOperatingSystem(t *testing.T) {
	_, err := For(v1alpha1.OperatingSystem{
		ObjectMeta: metav1.ObjectMeta{Name: "fedora"}, Spec: v1alpha1.OperatingSystemSpec{Format: "Floppy"},
	})
	want := `OperatingSystem/fedora: spec.format: there is no format "Floppy": want Image, Kickstart, Preseed or Autoinstall`
	if err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	_, err = For(v1alpha1.OperatingSystem{
		ObjectMeta: metav1.ObjectMeta{Name: "debian"},
		Spec:       v1alpha1.OperatingSystemSpec{Format: v1alpha1.FormatImage, Template: &v1alpha1.ConfigMapReference{Name: "mine"}},
	})
	if err == nil || !strings.HasPrefix(err.Error(), "OperatingSystem/debian: spec.template: ") {
		t.Errorf("a template: %v", err)
	}
	for _, format := range []v1alpha1.Format{
		v1alpha1.FormatImage, v1alpha1.FormatKickstart, v1alpha1.FormatPreseed, v1alpha1.FormatAutoinstall,
	} {
		r, err := For(v1alpha1.OperatingSystem{Spec: v1alpha1.OperatingSystemSpec{Format: format}})
		if err != nil || r.Format() != format {
			t.Errorf("%s: %v, %v", format, r, err)
		}
	}
}
