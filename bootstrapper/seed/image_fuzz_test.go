package seed

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"runtime"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
)

// Whatever is given for an OCI archive, it names one image in full or is refused, in
// bounded memory.
func FuzzReferenceIn(f *testing.F) {
	archive := func(index string) []byte {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		if err := w.WriteHeader(&tar.Header{Name: "index.json", Mode: 0o644, Size: int64(len(index))}); err != nil {
			f.Fatal(err)
		}
		if _, err := w.Write([]byte(index)); err != nil {
			f.Fatal(err)
		}
		if err := w.Close(); err != nil {
			f.Fatal(err)
		}
		return b.Bytes()
	}
	good := archive(`{"manifests":[{"annotations":{"io.containerd.image.name":"example.org/operator:v1"}}]}`)
	f.Add(good, "operator.tar")
	f.Add(archive(`{"manifests":[{"annotations":{"org.opencontainers.image.ref.name":"v1"}}]}`), "operator.tar")
	f.Add(archive(`{"manifests":[null,{}]}`), "operator.tar")
	var zipped bytes.Buffer
	w := gzip.NewWriter(&zipped)
	if _, err := w.Write(good); err != nil {
		f.Fatal(err)
	}
	if err := w.Close(); err != nil {
		f.Fatal(err)
	}
	f.Add(zipped.Bytes(), "operator.tar.gz")
	f.Add([]byte("\x28\xb5\x2f\xfd"), "operator.tar.zst")
	f.Fuzz(func(t *testing.T, content []byte, filename string) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		reference, err := referenceIn(bytes.NewReader(content), filename)
		runtime.ReadMemStats(&after)
		// zstd's largest window, which is held twice while it moves, and the index.
		if took := after.TotalAlloc - before.TotalAlloc; took > 2*256<<20+32*maxIndex {
			t.Errorf("%d bytes took %d bytes of memory", len(content), took)
		}
		if err != nil {
			return
		}
		if again, err := name.ParseReference(reference); err != nil || again.Name() != reference {
			t.Errorf("found %q, which is read as %v, %v", reference, again, err)
		}
	})
}
