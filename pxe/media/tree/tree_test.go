package tree

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// shelf keeps files by their digests, as the media cache does.
type shelf map[string][]byte

func (s shelf) put(content []byte) string {
	sum := sha256.Sum256(content)
	id := hex.EncodeToString(sum[:])
	s[id] = content
	return id
}

type shelved struct{ *bytes.Reader }

func (shelved) Close() error { return nil }

func (s shelf) open(id string) (io.ReadSeekCloser, int64, error) {
	content, ok := s[id]
	if !ok {
		return nil, 0, fs.ErrNotExist
	}
	return shelved{bytes.NewReader(content)}, int64(len(content)), nil
}

// image makes an ISO of files by the program that distributions make theirs with.
func image(t testing.TB, files map[string]string, options ...string) []byte {
	t.Helper()
	program, err := exec.LookPath("xorriso")
	if err != nil {
		t.Fatalf("%v: install the packages of test/preseed/packages.txt (make setup)", err)
	}
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, "root", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if target, ok := strings.CutPrefix(content, "->"); ok {
			err = os.Symlink(target, path)
		} else {
			err = os.WriteFile(path, []byte(content), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	out := filepath.Join(dir, "x.iso")
	args := append(append([]string{"-as", "mkisofs", "-quiet"}, options...), "-o", out, filepath.Join(dir, "root"))
	if text, err := exec.Command(program, args...).CombinedOutput(); err != nil {
		t.Fatalf("xorriso: %v\n%s", err, text)
	}
	content, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// distribution has what trips readers of ISOs: long names, names with dots, plus
// signs and two letter cases, a large directory, empty and large files, a link.
func distribution() map[string]string {
	files := map[string]string{
		".treeinfo": "[general]\n", "images/pxeboot/vmlinuz": strings.Repeat("kernel", 100000), "images/pxeboot/initrd.img": "ramdisk",
		"empty":            "",
		"link":             "->images/pxeboot/vmlinuz",
		"a/b/c/d/e/f/deep": "deep",
		"Packages/l/" + strings.Repeat("long-", 30) + "1.0~rc1+git.x86_64.rpm": "long",
	}
	for i := range 400 {
		files[fmt.Sprintf("Packages/p/package-%04d-1.2.3-4.fc42.x86_64.rpm", i)] = fmt.Sprint("package ", i)
	}
	return files
}

func TestFilesAreReadOutOfAnISO(t *testing.T) {
	files := distribution()
	for name, options := range map[string][]string{"Rock Ridge": {"-R"}, "Rock Ridge and Joliet": {"-R", "-J", "-joliet-long"}} {
		s := shelf{}
		id := s.put(image(t, files, options...))
		seen := map[string]string{}
		for path, want := range files {
			f, err := Open(s.open, id, path)
			if strings.HasPrefix(want, "->") {
				if !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("%s: the link %s: %v", name, path, err)
				}
				continue
			}
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			got, err := io.ReadAll(f)
			if err != nil || string(got) != want || f.Size != int64(len(want)) {
				t.Errorf("%s: %s has %d bytes, %v, want %d", name, path, len(got), err, len(want))
			}
			if other, ok := seen[f.ID]; ok && want != "" && files[other] != want {
				t.Errorf("%s and %s have one tag", other, path)
			}
			seen[f.ID] = path
			if _, err := f.Seek(-1, io.SeekEnd); err != nil && want != "" {
				t.Errorf("%s: %v", path, err)
			}
			if err := f.Close(); err != nil {
				t.Error(err)
			}
		}
		for _, path := range []string{
			"missing", "images", "images/", "", ".", "..", "/empty", "images/../empty", "empty/x", "images//pxeboot/vmlinuz", "IMAGES/PXEBOOT/VMLINUZ", "link/x",
		} {
			if _, err := Open(s.open, id, path); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s: %q: %v, want that there is no such file", name, path, err)
			}
		}
	}
}

func TestFilesAreFoundByAListing(t *testing.T) {
	s := shelf{}
	kernel, ramdisk := s.put([]byte("kernel")), s.put([]byte("ramdisk"))
	listing, err := Listing([]Entry{{"linux", kernel}, {"a/initrd.gz", ramdisk}, {"gone", strings.Repeat("0", 64)}})
	if err != nil {
		t.Fatal(err)
	}
	turned, err := Listing([]Entry{{"gone", strings.Repeat("0", 64)}, {"a/initrd.gz", ramdisk}, {"linux", kernel}})
	if err != nil || !bytes.Equal(listing, turned) {
		t.Errorf("the order of the entries changes the tree: %v", err)
	}
	id := s.put(listing)
	for path, want := range map[string]string{"linux": "kernel", "a/initrd.gz": "ramdisk"} {
		f, err := Open(s.open, id, path)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(f); err != nil || string(got) != want || f.Size != int64(len(want)) {
			t.Errorf("%s: %q, %v", path, got, err)
		}
	}
	for _, path := range []string{"gone", "a", "initrd.gz", "rhizome-tree 1", "../linux"} {
		if _, err := Open(s.open, id, path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%q: %v", path, err)
		}
	}
	for what, entries := range map[string][]Entry{
		"no path of a file": {{"../x", kernel}}, "it is there twice": {{"x", kernel}, {"x", ramdisk}}, "is no SHA-256 digest": {{"x", "abc"}},
		"more than 65536 bytes": manyEntries(kernel),
	} {
		if _, err := Listing(entries); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%v, want %q", err, what)
		}
	}
}

func manyEntries(digest string) (all []Entry) {
	for i := range 1000 {
		all = append(all, Entry{fmt.Sprintf("file-%d", i), digest})
	}
	return all
}

func TestWhatIsNoTreeIsRefused(t *testing.T) {
	s := shelf{}
	iso := image(t, map[string]string{"a": strings.Repeat("x", 5000)}, "-R")
	for name, content := range map[string][]byte{
		"nothing": nil, "text": []byte("hello"), "zeroes": make([]byte, 1<<20), "half an ISO": iso[:40<<10], "a large listing": append([]byte(magic), make([]byte, MaxListing)...),
	} {
		if f, err := Open(s.open, s.put(content), "a"); err == nil {
			t.Errorf("%s: there is a file of %d bytes in it", name, f.Size)
		}
	}
	if _, err := Open(s.open, strings.Repeat("0", 64), "a"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no such tree: %v", err)
	}
}

// FuzzOpen: whatever an ISO says, opening a file in it ends, does not panic, takes
// bounded memory, and gives no byte from outside of it.
func FuzzOpen(f *testing.F) {
	iso := image(f, map[string]string{"images/pxeboot/vmlinuz": "kernel", "b": "b"}, "-R", "-no-pad")
	head := iso[32<<10:] // what is before it is not looked at
	f.Add(head, "images/pxeboot/vmlinuz")
	f.Add([]byte(magic), "b")
	f.Fuzz(func(t *testing.T, content []byte, name string) {
		s := shelf{}
		for _, c := range [][]byte{content, append(make([]byte, 32<<10), content...)} {
			id := s.put(c)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			file, err := Open(s.open, id, name)
			runtime.ReadMemStats(&after)
			// Every sector of the budget once, and what is read of a listing.
			if took := after.TotalAlloc - before.TotalAlloc; took > 2*budget*sector {
				t.Fatalf("%d bytes of memory to open a file in %d bytes", took, len(c))
			}
			if err != nil {
				continue
			}
			got, err := io.ReadAll(io.LimitReader(file, 10<<20))
			if err != nil || int64(len(got)) != file.Size || len(got) > len(c) {
				t.Errorf("%d bytes, %v, of %d", len(got), err, file.Size)
			}
		}
	})
}
