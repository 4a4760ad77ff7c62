package host

import (
	"bytes"
	"crypto/sha256"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestEtcdIsSaved saves the real etcd, over and over: what is written holds what was
// stored, and old files go.
func TestEtcdIsSaved(t *testing.T) {
	dir, endpoint := etcdServer(t, "s1-0123abcd")
	client, err := dialEtcd(dir, endpoint)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := client.Put(t.Context(), "/registry/found/me", "a value that is looked for"); err != nil {
		t.Fatal(err)
	}
	into := t.TempDir()
	foreign := filepath.Join(into, "etcd-snapshot-alpha-1763812800") // k3s' own
	if err := os.WriteFile(foreign, []byte("k3s"), 0o600); err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)
	s := snapshot{endpoint: endpoint, tls: dir, dir: into, keep: 2, now: func() time.Time { now = now.Add(time.Minute); return now }}
	for _, name := range []string{"before-s3", "before-a", "before-s2"} {
		s.name = name
		said, err := s.save(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(said, name) || !strings.Contains(said, "s1-0123abcd") || !strings.Contains(said, "revision 2 ") {
			t.Errorf("it says %q", said)
		}
	}
	left, err := filepath.Glob(filepath.Join(into, "*"))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{foreign, filepath.Join(into, "rhizome-before-a-20260304t120200"), filepath.Join(into, "rhizome-before-s2-20260304t120300")}
	if strings.Join(left, "\n") != strings.Join(want, "\n") {
		t.Fatalf("there are\n%s\nwant\n%s", strings.Join(left, "\n"), strings.Join(want, "\n"))
	}
	text, err := os.ReadFile(left[2])
	if err != nil || !bytes.Contains(text, []byte("a value that is looked for")) {
		t.Errorf("the file does not hold what was stored (%v)", err)
	}
	if info, err := os.Stat(left[2]); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("it is readable by others: %v %v", info.Mode(), err)
	}

	for _, bad := range []snapshot{
		{endpoint: endpoint, tls: t.TempDir(), dir: into, name: "x", now: time.Now},
		{endpoint: endpoint, tls: dir, dir: into, name: "../x", now: time.Now},
		{endpoint: endpoint, tls: dir, dir: into, name: "", now: time.Now},
		{endpoint: endpoint, tls: dir, dir: foreign, name: "x", now: time.Now},
	} {
		if said, err := bad.save(t.Context()); err == nil {
			t.Errorf("%+v: saved: %s", bad, said)
		}
	}
}

func TestASnapshotThatIsNotWholeIsNone(t *testing.T) {
	page := bytes.Repeat([]byte("etcd"), 512/4*3)
	sum := sha256.Sum256(page)
	whole := append(bytes.Clone(page), sum[:]...)
	flipped := bytes.Clone(whole)
	flipped[7] ^= 1
	for _, tc := range []struct {
		reason string
		text   []byte
		good   bool
	}{
		{"whole", whole, true},
		{"a bit is another one", flipped, false},
		{"its end is missing", whole[:len(whole)-1], false},
		{"its digest is missing", page, false},
		{"nothing came", nil, false},
	} {
		path := filepath.Join(t.TempDir(), "snapshot")
		size, err := store(bytes.NewReader(tc.text), path)
		if (err == nil) != tc.good || tc.good && size != int64(len(tc.text)) {
			t.Errorf("%s: %d, %v", tc.reason, size, err)
		}
		left, err := filepath.Glob(path + "*")
		if err != nil || len(left) != map[bool]int{true: 1}[tc.good] {
			t.Errorf("%s: %v is left (%v)", tc.reason, left, err)
		}
	}
}
