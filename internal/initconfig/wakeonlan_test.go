package initconfig

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The script runs for real over a directory like /sys/class/net, with an ethtool
// that writes down what it is told.
func TestWakingIsTurnedOnForTheDeclaredInterfaceOnly(t *testing.T) {
	root, bin := t.TempDir(), t.TempDir()
	write := func(path, content string, mode os.FileMode) {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
	}
	net := filepath.Join(root, "sys/class/net")
	write(net+"/br0/address", "52:54:00:12:34:56\n", 0o644) // a bridge over lan0
	write(net+"/eth9/address", "52:54:00:12:34:99\n", 0o644)
	write(net+"/eth9/device/x", "", 0o644)
	write(net+"/lan0/address", "52:54:00:12:34:56\n", 0o644)
	write(net+"/lan0/device/x", "", 0o644)
	write(net+"/bonding_masters", "", 0o644)

	file, unit := wakeOnLAN("52:54:00:12:34:56")
	script := filepath.Join(root, file.Path)
	write(script, string(file.Content), os.FileMode(file.Mode))
	if !strings.Contains(unit.Content, "ExecStart="+file.Path) {
		t.Errorf("the unit does not run %s", file.Path)
	}
	run := func() string {
		cmd := exec.Command("/bin/sh", script)
		cmd.Env = []string{"RHIZOME_ROOT=" + root, "PATH=" + bin + ":/bin:/usr/bin", "LOG=" + root + "/log"}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("%v: %s", err, out)
		}
		return string(out)
	}

	write(bin+"/ethtool", "#!/bin/sh\necho \"$@\" >>\"$LOG\"\n", 0o755)
	if out := run(); !strings.Contains(out, "lan0 wakes by magic packet") {
		t.Error(out)
	}
	if log, err := os.ReadFile(root + "/log"); string(log) != "-s lan0 wol g\n" {
		t.Errorf("ethtool was told %q, %v", log, err)
	}
	write(bin+"/ethtool", "#!/bin/sh\nexit 95\n", 0o755)
	if out := run(); !strings.Contains(out, "lan0 cannot be woken by magic packet") {
		t.Error(out)
	}
	if err := os.RemoveAll(net + "/lan0"); err != nil {
		t.Fatal(err)
	}
	if out := run(); !strings.Contains(out, "no interface has the address 52:54:00:12:34:56") {
		t.Error(out)
	}
}
