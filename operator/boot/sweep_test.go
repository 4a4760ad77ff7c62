package boot

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/pxe/media"
)

// What an OperatingSystem, the Cluster, its release or an archive names stays, and
// what was just served; the rest goes after a day.
func TestFilesThatNothingNamesAnyMoreGo(t *testing.T) {
	net := newInternet(t)
	close(net.open)
	system, binary, archive := net.file("debian.raw", 1000), net.file("k3s", 1000), net.file("operator.tar", 1000)
	s := newStore(t, clusterWith(binary), system, []media.Source{{URL: string(archive.URL), SHA256: string(archive.SHA256), Name: "operator.tar"}})
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	s.now = func() time.Time { return now }
	added := map[string]string{}
	add := func(name string) {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
		f, err := s.cache.Add(t.Context(), path, name)
		if err != nil {
			t.Fatal(err)
		}
		added[name] = f.SHA256
	}
	for _, name := range []string{"old system", "old and served", "of the release"} {
		add(name)
	}
	for _, f := range []v1alpha1.File{system, binary, archive} {
		if _, err := s.cache.Fetch(t.Context(), media.Source{URL: string(f.URL), SHA256: string(f.SHA256)}, nil); err != nil {
			t.Fatal(err)
		}
	}
	sums := filepath.Join(s.sumsDir, "sha256sum-v1.33.5+k3s1-arm64.txt")
	if err := os.WriteFile(sums, []byte(added["of the release"]+"  k3s-arm64\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	sweep := func() (gone []string) {
		t.Helper()
		gone, err := s.sweepOnce(s.declared.current.Load())
		if err != nil {
			t.Fatal(err)
		}
		return gone
	}
	sweep() // a file that nothing is known of is of use now
	now = now.Add(23 * time.Hour)
	file, _, err := s.Open(added["old and served"])
	if err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	if gone := sweep(); len(gone) > 0 {
		t.Errorf("%q went within a day", gone)
	}
	now = now.Add(2 * time.Hour)
	if gone, err := s.sweepOnce(nil); err != nil || len(gone) > 0 {
		t.Errorf("%q went while nothing is known to be declared (%v)", gone, err)
	}
	if gone := strings.Join(sweep(), " "); gone != added["old system"] {
		t.Errorf("%q went, want the old system alone", gone)
	}
	if _, _, err := s.Open(added["old system"]); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it is there still: %v", err)
	}
	now = now.Add(25 * time.Hour)
	if gone := strings.Join(sweep(), " "); gone != added["old and served"] {
		t.Errorf("%q went, want what was served the day before", gone)
	}
	for name, digest := range map[string]string{"system": string(system.SHA256), "binary": string(binary.SHA256), "archive": string(archive.SHA256), "release": added["of the release"]} {
		if file, _, err := s.cache.Open(digest); err != nil {
			t.Errorf("the %s went: %v", name, err)
		} else {
			_ = file.Close()
		}
	}
}
