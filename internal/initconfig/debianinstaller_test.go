package initconfig

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// initrd is the Debian Installer's ramdisk, of Debian's package.
const initrd = "/usr/lib/debian-installer/images/12/amd64/text/debian-installer/amd64/initrd.gz"

func TestMain(m *testing.M) {
	code := m.Run()
	if unpackedInto != "" {
		_ = os.RemoveAll(unpackedInto) // a leftover of a test in /tmp
	}
	os.Exit(code)
}

// unpackedInto is where unpacked did its work; empty: it was not asked to.
var unpackedInto string

// unpacked is the Debian Installer's own system, without its drivers, and a program
// beside it that runs its shell there. /tmp is the same inside and outside.
var unpacked = sync.OnceValues(func() (string, error) {
	if os.Getuid() != 0 {
		return "", os.ErrPermission
	}
	dir, err := os.MkdirTemp("", "rhizome-debian-installer-")
	if err != nil {
		return "", err
	}
	script := `set -e
cd "$0"
mkdir root
zcat "$1" | (cd root && cpio --quiet -idm --nonmatching './lib/modules/*' 'lib/modules/*')
mkdir -p "root$2"
cat >shell <<END
#!/bin/sh
exec unshare --mount sh -c 'mount --bind "$2" "$0/root$2" && exec chroot "$0/root" /bin/sh "\$@"' sh "\$@"
END
chmod 0755 shell`
	if out, err := exec.Command("sh", "-c", script, dir, initrd, os.TempDir()).CombinedOutput(); err != nil {
		_ = os.RemoveAll(dir)
		return "", fmt.Errorf("cannot unpack %s: %w\n%s", initrd, err, out)
	}
	unpackedInto = dir
	return dir, nil
})

// inTheDebianInstaller is a shell in the Debian Installer's own system, with no programs
// but those that it has. None without root.
func inTheDebianInstaller(t testing.TB) []string {
	t.Helper()
	if _, err := os.Stat(initrd); err != nil {
		t.Fatalf("%v: install the packages of test/preseed/packages.txt (make setup)", err)
	}
	if os.Getuid() != 0 {
		t.Log("NOT TESTED in the Debian Installer's own system: that takes root")
		return nil
	}
	dir, err := unpacked()
	if err != nil {
		t.Fatal(err)
	}
	return []string{filepath.Join(dir, "shell")}
}

// allShells are the shells of the installers, the Debian Installer's in its own system
// among them.
func allShells(t testing.TB) [][]string {
	t.Helper()
	if inside := inTheDebianInstaller(t); inside != nil {
		return append([][]string{inside}, shells...)
	}
	return shells
}

// The Debian Installer's own reader takes the preseed file, and its database has every
// answer as it was meant.
func TestTheDebianInstallerReadsItsPreseedFile(t *testing.T) {
	shell := inTheDebianInstaller(t)
	if shell == nil {
		t.Skip("NOT TESTED: that takes root")
	}
	dir := t.TempDir()
	text := rendered(t, Preseed{}, installed())[PreseedFile]
	want := map[string]string{}
	var questions []string
	for line := range strings.Lines(string(text)) {
		if words := strings.SplitN(strings.TrimSuffix(line, "\n"), " ", 4); !strings.HasPrefix(line, "#") {
			questions = append(questions, words[1])
			want[words[1]] = strings.Join(words[3:], "")
		}
	}
	for name, content := range map[string][]byte{
		PreseedFile: text,
		// The client of the database is run anew by the database, as a program.
		"answers": []byte("#!/bin/sh\n. /usr/share/debconf/confmodule\nfor q in " + strings.Join(questions, " ") +
			"; do db_get $q && printf '%s=%s\\n' $q \"$RET\" >>" + dir + "/got; done\n"),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	out, stderr, err := run(t, shell, `set -e
export PATH=/usr/bin:/bin:/usr/sbin:/sbin DEBIAN_FRONTEND=none
mkdir -p /var/lib/preseed
[ -e /var/lib/cdebconf/templates.dat ] || debconf-loadtemplate d-i /var/lib/dpkg/info/*.templates
debconf-set-selections `+dir+"/"+PreseedFile+"\n"+dir+"/answers </dev/null >&2\ncat "+dir+"/got\n")
	if err != nil {
		t.Fatalf("%v\n%s", err, stderr)
	}
	got := map[string]string{}
	for line := range strings.Lines(out) {
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		got[name] = value
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the database has other answers (-want +got):\n%s\n%s", diff, stderr)
	}
}
