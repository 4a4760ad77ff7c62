package lock

import (
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rhizome-dev/rhizome/pxe/media"
)

// manifest has a file for every way to have a digest or not to have one. @ is the
// publisher's server.
const manifest = `# A comment at the top.
apiVersion: rhizome.dev/v1alpha1
kind: OperatingSystem
metadata:
  name: debian
  annotations:
    rhizome.dev/checksums: @/SHA256SUMS @/SHA512SUMS
spec:
  format: Preseed   # behind a value
  media:
    - architecture: amd64
      files:
        - path: linux
          url: @/images/netboot/linux # the kernel
        - path: initrd.gz
          url: "@/images/netboot/initrd.gz"
          sha256: "FILL-IN"   # to be filled in
---
# Somebody else's.
kind: ConfigMap
apiVersion: v1
data: {url: "@/x", sha256: FILL-IN}
---
apiVersion: rhizome.dev/v1alpha1
kind: OperatingSystem
metadata: {name: image, annotations: {rhizome.dev/checksums: "@/SHA512SUMS"}}
spec:
  media:
  - architecture: amd64
    sha256: FILL-IN
    url: @/debian.raw
  - url: @/kept.raw
    sha256: 0000000000000000000000000000000000000000000000000000000000000000
    architecture: arm64
`

func sum256(s string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(s))) }
func sum512(s string) string { return fmt.Sprintf("%x", sha512.Sum512([]byte(s))) }

// world is a publisher, a cache and a locker.
type world struct {
	*Locker
	server *httptest.Server
	files  map[string]string
	said   strings.Builder
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{files: map[string]string{
		"/images/netboot/linux": "kernel", "/images/netboot/initrd.gz": "ramdisk", "/debian.raw": "image",
		"/SHA256SUMS": sum256("other kernel") + "  ./images/cdrom/linux\n" + sum256("kernel") + "  ./images/netboot/linux\n" + sum256("ramdisk") + " *./images/netboot/initrd.gz\n",
		"/SHA512SUMS": sum512("image") + "  debian.raw\n",
	}}
	w.server = httptest.NewTLSServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, ok := w.files[r.URL.Path]
		if !ok {
			http.NotFound(rw, r)
			return
		}
		fmt.Fprint(rw, body)
	}))
	t.Cleanup(w.server.Close)
	dir := t.TempDir()
	cache, err := media.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	cache.Trust(w.server.Client().Transport)
	w.Locker = &Locker{Cache: cache, Dir: dir, Client: w.server.Client(), Say: func(f string, a ...any) { fmt.Fprintf(&w.said, f+"\n", a...) }}
	return w
}

func (w *world) write(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "os.yaml")
	if err := os.WriteFile(name, []byte(strings.ReplaceAll(text, "@", w.server.URL)), 0o640); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestDigestsAreFilledInAndNothingElseChanges(t *testing.T) {
	w := newWorld(t)
	for name, newline := range map[string]string{"lines of Unix": "\n", "lines of Windows": "\r\n"} {
		text := strings.ReplaceAll(manifest, "\n", newline)
		file := w.write(t, text)
		n, err := w.File(t.Context(), file)
		if err != nil || n != 3 {
			t.Fatalf("%s: %d, %v", name, n, err)
		}
		want := strings.ReplaceAll(manifest, "linux # the kernel\n", "linux # the kernel\n          sha256: "+sum256("kernel")+"\n")
		want = strings.ReplaceAll(want, `sha256: "FILL-IN"   #`, `sha256: "`+sum256("ramdisk")+`"   #`)
		want = strings.ReplaceAll(want, "    sha256: FILL-IN\n    url", "    sha256: "+sum256("image")+"\n    url")
		want = strings.ReplaceAll(strings.ReplaceAll(want, "\n", newline), "@", w.server.URL)
		got, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, string(got)); diff != "" {
			t.Errorf("%s (- want, + got):\n%s", name, diff)
		}
		info, err := os.Stat(file)
		if err != nil || info.Mode().Perm() != 0o640 {
			t.Errorf("%s: its permissions are %v, %v", name, info.Mode(), err)
		}
		if n, err := w.File(t.Context(), file); n != 0 || err != nil {
			t.Errorf("%s: a second time: %d, %v", name, n, err)
		}
		for _, content := range []string{"kernel", "ramdisk", "image"} {
			if f, _, err := w.Cache.Open(sum256(content)); err != nil {
				t.Errorf("%s is not in the cache: %v", content, err)
			} else if err := f.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestAFileThatIsNotWhatItsPublisherSaysIsNotLocked(t *testing.T) {
	const one = "apiVersion: rhizome.dev/v1alpha1\nkind: OperatingSystem\nmetadata:\n  name: x\n  annotations: {rhizome.dev/checksums: %s}\nspec:\n  media:\n  - url: @%s\n"
	for name, c := range map[string]struct {
		text        string
		change      func(*world)
		unpublished bool
		want        string // an error; empty: locked
	}{
		"another SHA-256": {fmt.Sprintf(one, "@/SHA256SUMS", "/images/netboot/linux"), func(w *world) { w.files["/images/netboot/linux"] = "evil" }, true, "wrong checksum"},
		"another SHA-512": {fmt.Sprintf(one, "@/SHA512SUMS", "/debian.raw"), func(w *world) { w.files["/debian.raw"] = "evil" }, true, "is not what its publisher says"},
		"not named":       {fmt.Sprintf(one, "@/SHA256SUMS", "/debian.raw"), nil, false, "the publisher's checksums do not name it"},
		"named twice": {fmt.Sprintf(one, "@/SHA512SUMS", "/debian.raw"), func(w *world) { w.files["/SHA512SUMS"] += sum512("evil") + "  debian.raw\n" }, false,
			"the publisher's checksums do not name it"},
		"not named, and trusted":  {fmt.Sprintf(one, "@/SHA256SUMS", "/debian.raw"), nil, true, ""},
		"no checksums":            {fmt.Sprintf(one, `""`, "/debian.raw"), nil, false, "nothing says what it should be"},
		"no checksums there":      {fmt.Sprintf(one, "@/missing", "/debian.raw"), nil, true, "404 Not Found"},
		"checksums in plain HTTP": {fmt.Sprintf(one, "http://example.org/SHA256SUMS", "/debian.raw"), nil, true, "want an https URL"},
		"no file":                 {fmt.Sprintf(one, `""`, "/missing"), nil, true, "404 Not Found"},
		"no YAML":                 {"a: [", nil, true, "cannot read it as YAML"},
		"flow style":              {"apiVersion: rhizome.dev/v1alpha1\nkind: OperatingSystem\nspec: {media: [{url: '@/debian.raw'}]}\n", nil, true, "write the medium with one key a line"},
	} {
		w := newWorld(t)
		w.Unpublished = c.unpublished
		if c.change != nil {
			c.change(w)
		}
		file := w.write(t, c.text)
		before, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		_, err = w.File(t.Context(), file)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		after, readErr := os.ReadFile(file)
		if readErr != nil {
			t.Fatal(readErr)
		}
		if (string(before) == string(after)) != (c.want != "") {
			t.Errorf("%s: the manifest is now\n%s", name, after)
		}
	}
}

func TestChecksumsAreReadInBothForms(t *testing.T) {
	const address = "https://example.org/os/images/netboot/linux?x=1"
	a, b := strings.Repeat("a", 64), strings.Repeat("B", 128)
	for name, c := range map[string]struct {
		sums string
		want published
	}{
		"of sha256sum":         {a + "  linux\n", published{sha256: a}},
		"binary, with a path":  {a + " *./netboot/linux\r\n", published{sha256: a}},
		"of sha512sum":         {b + "  linux\n", published{sha512: strings.ToLower(b)}},
		"of BSD":               {"# linux: 5 bytes\nSHA256 (linux) = " + a + "\n", published{sha256: a}},
		"signed":               {"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\nSHA256 (linux) = " + a + "\n-----BEGIN PGP SIGNATURE-----\nx\n", published{sha256: a}},
		"the longest path":     {strings.Repeat("c", 64) + "  linux\n" + a + "  images/netboot/linux\n" + strings.Repeat("d", 64) + "  gtk/linux\n", published{sha256: a}},
		"the end of a name":    {a + "  nux\n", published{}},
		"another file":         {a + "  linux.sig\n", published{}},
		"two things of one":    {a + "  linux\n" + strings.Repeat("c", 64) + "  linux\n", published{}},
		"the same thing twice": {a + "  linux\n" + a + "  linux\n", published{sha256: a}},
		"a web page":           {"<html>linux</html>", published{}},
		"a digest of MD5":      {strings.Repeat("a", 32) + "  linux\n", published{}},
	} {
		if got := lookUp([]byte(c.sums), address); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

func FuzzPlaces(f *testing.F) {
	f.Add([]byte(manifest))
	f.Fuzz(func(t *testing.T, content []byte) {
		all, err := places(content)
		if err != nil {
			return
		}
		digests := map[position]string{}
		for _, p := range all {
			digests[p.key()] = sum256("x")
		}
		// What cannot be filled in is an error, never a panic.
		_, _ = fill(content, digests, all)
	})
}

func FuzzLookUp(f *testing.F) {
	f.Add([]byte(sum256("x")+"  linux\n"), "https://example.org/linux")
	f.Fuzz(func(t *testing.T, sums []byte, address string) {
		if found := lookUp(sums, address); found.sha256 != "" && len(found.sha256) != 64 || found.sha512 != "" && len(found.sha512) != 128 {
			t.Errorf("%+v", found)
		}
	})
}
