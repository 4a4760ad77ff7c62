package stream

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"

	"github.com/rhizome-dev/rhizome/pxe/installer/plan"
)

const mib = 1 << 20

// quick is the patience of a test: the clock is real, so it is short.
var quick = Patience{Silence: 300 * time.Millisecond, GiveUp: 2 * time.Second, FirstPause: time.Millisecond, LongestPause: 20 * time.Millisecond}

// content is an image with noise, long zeroes, and an odd end.
func content() []byte {
	b := make([]byte, 21*mib+12345)
	noise := rand.NewChaCha8([32]byte{1})
	_, _ = noise.Read(b[:3*mib])
	_, _ = noise.Read(b[9*mib : 10*mib])
	_, _ = noise.Read(b[20*mib+77:])
	return b
}

func pack(t *testing.T, compression string, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	var w io.WriteCloser
	var err error
	switch compression {
	case plan.None:
		return b
	case plan.Gzip:
		w = gzip.NewWriter(&out)
	case plan.XZ:
		w, err = xz.NewWriter(&out)
	case plan.Zstd:
		w, err = zstd.NewWriter(&out)
	}
	if err == nil {
		_, err = w.Write(b)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// target is a file in the place of a disk, full of old data.
type target struct {
	*os.File
	t     *testing.T
	size  int64
	syncs int
}

func newTarget(t *testing.T, size int64) *target {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "disk"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	if _, err := f.Write(bytes.Repeat([]byte{0xa5}, int(size))); err != nil {
		t.Fatal(err)
	}
	return &target{File: f, t: t, size: size}
}

func (d *target) Size() int64 { return d.size }
func (d *target) Sync() error { d.syncs++; return nil }
func (d *target) Zero(off, n int64) error {
	if off%512 != 0 || n%512 != 0 {
		d.t.Errorf("Zero(%d, %d) is not of whole sectors", off, n)
	}
	_, err := d.WriteAt(make([]byte, n), off)
	return err
}

func (d *target) bytes() []byte {
	b := make([]byte, d.size)
	if _, err := d.ReadAt(b, 0); err != nil {
		d.t.Fatal(err)
	}
	return b
}

func serve(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL + "/image"
}

func TestImageReachesTheDiskInEveryCompression(t *testing.T) {
	image := content()
	for _, compression := range []string{plan.None, plan.Gzip, plan.XZ, plan.Zstd} {
		t.Run(compression, func(t *testing.T) {
			packed := pack(t, compression, image)
			url := serve(t, func(w http.ResponseWriter, r *http.Request) {
				http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(packed))
			})
			disk := newTarget(t, 40*mib)
			var progress Progress
			head, err := Image(t.Context(), plan.Image{URL: url, SHA256: strings.ToUpper(digest(packed)), Compression: compression, Size: int64(len(packed))},
				disk, Options{Client: http.DefaultClient, Patience: quick, Progress: &progress})
			if err != nil {
				t.Fatal(err)
			}
			got := disk.bytes()
			if !bytes.Equal(head, image[:HeadBytes]) {
				t.Error("the head is not the image's")
			}
			if !bytes.Equal(got[:HeadBytes], make([]byte, HeadBytes)) {
				t.Error("the disk could boot before the caller wrote the head")
			}
			if !bytes.Equal(got[HeadBytes:len(image)], image[HeadBytes:]) {
				t.Error("the disk differs from the image: old data shine through, or new data are wrong")
			}
			if !bytes.Equal(got[39*mib:], make([]byte, mib)) {
				t.Error("the end of the disk has old data")
			}
			if got[30*mib] != 0xa5 {
				t.Error("the disk was written behind the image")
			}
			if done, total := progress.Done.Load(), progress.Total.Load(); done != int64(len(packed)) || total != done {
				t.Errorf("progress says %d of %d, want all %d", done, total, len(packed))
			}
		})
	}
}

// flaky serves a file and breaks the connection as told, again and again.
type flaky struct {
	content []byte
	piece   int    // bytes per connection
	ranges  bool   // honours Range
	etag    string // of the file
	mu      sync.Mutex
	asked   []string
	between func(n int) // before the n-th answer
}

func (f *flaky) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	f.asked = append(f.asked, r.Header.Get("Range"))
	n := len(f.asked)
	f.mu.Unlock()
	if f.between != nil {
		f.between(n)
	}
	if f.etag != "" {
		w.Header().Set("ETag", f.etag)
	}
	if !f.ranges {
		r.Header.Del("Range")
		r.Header.Del("If-Range")
		// Without ranges each connection must get further than the last.
		http.ServeContent(&cutter{w, f.piece * n}, r, "", time.Time{}, bytes.NewReader(f.content))
		return
	}
	http.ServeContent(&cutter{w, f.piece}, r, "", time.Time{}, bytes.NewReader(f.content))
}

type cutter struct {
	http.ResponseWriter
	left int
}

func (c *cutter) Write(p []byte) (int, error) {
	if len(p) > c.left {
		_, _ = c.ResponseWriter.Write(p[:c.left])
		_ = http.NewResponseController(c.ResponseWriter).Flush()
		panic(http.ErrAbortHandler)
	}
	c.left -= len(p)
	return c.ResponseWriter.Write(p)
}

func TestDownloadGoesOnWhereItBroke(t *testing.T) {
	file := content()[:4*mib+99]
	for _, tt := range []struct {
		reason string
		f      *flaky
		want   []string
	}{
		{"with ranges only the rest is sent again",
			&flaky{ranges: true, etag: `"a"`}, []string{"", "bytes=1500000-", "bytes=3000000-"}},
		{"without an ETag the digest vouches for the whole",
			&flaky{ranges: true}, []string{"", "bytes=1500000-", "bytes=3000000-"}},
		{"a server without ranges sends all again, which is skipped",
			&flaky{etag: `"a"`}, []string{"", "bytes=1500000-", "bytes=3000000-"}},
	} {
		t.Run(tt.reason, func(t *testing.T) {
			tt.f.content, tt.f.piece = file, 1500000
			url := serve(t, tt.f.ServeHTTP)
			d := newDownload(t.Context(), http.DefaultClient, []string{url}, 0, quick)
			got, err := io.ReadAll(d)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, file) {
				t.Errorf("got %d bytes that are not the file's %d", len(got), len(file))
			}
			if diff := cmp.Diff(tt.want, tt.f.asked); diff != "" {
				t.Errorf("ranges asked for (-want +got):\n%s", diff)
			}
		})
	}
}

func TestDownloadThatCannotGoOnSaysWhy(t *testing.T) {
	file := bytes.Repeat([]byte("x"), 2*mib)
	tests := []struct {
		reason string
		size   int64
		serve  func(n int, w http.ResponseWriter, r *http.Request)
		want   string
	}{
		{"the file changes in the middle", 0, func(n int, w http.ResponseWriter, r *http.Request) {
			w.Header().Set("ETag", fmt.Sprintf("%q", fmt.Sprint(n)))
			http.ServeContent(&cutter{w, mib}, r, "", time.Time{}, bytes.NewReader(file))
		}, "changed on the server"},
		{"the file is of another size", 1000, func(_ int, w http.ResponseWriter, r *http.Request) {
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(file))
		}, "has 2097152 bytes on the server, expected 1000"},
		{"the file is gone", 0, func(_ int, w http.ResponseWriter, r *http.Request) {
			http.NotFound(w, r)
		}, "404"},
		{"another range than the one asked for", 0, func(n int, w http.ResponseWriter, _ *http.Request) {
			if n == 1 {
				w.Header().Set("Content-Length", "100")
				_, _ = w.Write(file[:10])
				_ = http.NewResponseController(w).Flush()
				panic(http.ErrAbortHandler)
			}
			w.Header().Set("Content-Range", "bytes 5-9/100")
			w.WriteHeader(http.StatusPartialContent)
		}, "sent bytes from 5 on, asked for from 10 on"},
		{"nonsense in Content-Range", 0, func(_ int, w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Range", "lines 1-2")
			w.WriteHeader(http.StatusPartialContent)
		}, "cannot be read"},
		{"the server is out of order for too long", 0, func(_ int, w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusServiceUnavailable)
		}, "given up at byte 0"},
		{"the server is silent for too long", 0, func(_ int, w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = w.Write(file[:10])
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}, "given up at byte"},
	}
	for _, tt := range tests {
		t.Run(tt.reason, func(t *testing.T) {
			n := 0
			url := serve(t, func(w http.ResponseWriter, r *http.Request) { n++; tt.serve(n, w, r) })
			_, err := io.ReadAll(newDownload(t.Context(), http.DefaultClient, []string{url}, tt.size, quick))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
		})
	}
}

func TestDownloadOutlivesAServerThatComesBack(t *testing.T) {
	file := content()[:2*mib]
	f := &flaky{content: file, piece: mib, ranges: true, etag: `"a"`}
	down := 0
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Range") != "" && down < 5 {
			down++
			panic(http.ErrAbortHandler) // as a port where nobody listens
		}
		f.ServeHTTP(w, r)
	})
	got, err := io.ReadAll(newDownload(t.Context(), http.DefaultClient, []string{url}, int64(len(file)), quick))
	if err != nil || !bytes.Equal(got, file) {
		t.Errorf("got %d bytes and %v, want the file", len(got), err)
	}
	if down != 5 {
		t.Errorf("the server was down for %d requests, want 5", down)
	}
}

func TestDownloadGoesOnAtAnotherServer(t *testing.T) {
	file := content()[:2*mib]
	f := &flaky{content: file, piece: 2 * mib, ranges: true, etag: `"b"`}
	good := serve(t, f.ServeHTTP)
	tests := []struct {
		reason string
		first  http.HandlerFunc
	}{
		{"the first dies in the middle", func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Range") != "" {
				panic(http.ErrAbortHandler)
			}
			w.Header().Set("Content-Length", strconv.Itoa(len(file)))
			w.Header().Set("ETag", `"a"`)
			_, _ = w.Write(file[:mib])
			panic(http.ErrAbortHandler)
		}},
		{"the first does not have it", http.NotFound},
		{"the first is out of order", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }},
	}
	for _, tt := range tests {
		t.Run(tt.reason, func(t *testing.T) {
			urls := []string{serve(t, tt.first), good}
			got, err := io.ReadAll(newDownload(t.Context(), http.DefaultClient, urls, int64(len(file)), quick))
			if err != nil || !bytes.Equal(got, file) {
				t.Errorf("got %d bytes and %v, want the file", len(got), err)
			}
		})
	}
	nobody := []string{serve(t, http.NotFound), serve(t, http.NotFound)}
	if _, err := io.ReadAll(newDownload(t.Context(), http.DefaultClient, nobody, 0, quick)); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("a file that nobody has: %v, want the last server's answer", err)
	}
}

func TestDownloadThatIsReadSlowlyIsNotBroken(t *testing.T) {
	file := content()[:8*mib]
	f := &flaky{content: file, piece: len(file), ranges: true}
	d := newDownload(t.Context(), http.DefaultClient, []string{serve(t, f.ServeHTTP)}, int64(len(file)), quick)
	b := make([]byte, mib)
	if _, err := io.ReadFull(d, b); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * quick.Silence) // a disk that is busy with what it has
	rest, err := io.ReadAll(d)
	if err != nil || !bytes.Equal(append(b, rest...), file) {
		t.Errorf("got %d bytes and %v, want the file", len(b)+len(rest), err)
	}
	if len(f.asked) != 1 {
		t.Errorf("the file was asked for with %q: want once", f.asked)
	}
}

func TestCancelledDownloadEndsAtOnce(t *testing.T) {
	reason := errors.New("the machine is switched off")
	ctx, cancel := context.WithCancelCause(t.Context())
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "100")
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush()
		cancel(reason)
		<-r.Context().Done()
	})
	if _, err := io.ReadAll(newDownload(ctx, http.DefaultClient, []string{url}, 0, Patience{})); !errors.Is(err, reason) {
		t.Errorf("got %v, want %v", err, reason)
	}
}

func TestDiskCannotBootAfterAFailure(t *testing.T) {
	image := content()
	packed := pack(t, plan.Zstd, image)
	damaged := bytes.Clone(packed)
	damaged[len(damaged)/2] ^= 0xff
	tests := []struct {
		reason      string
		served      []byte
		sum         string
		compression string
		disk        int64
		want        string
	}{
		{"a wrong digest", packed, digest(image), plan.Zstd, 40 * mib, "SHA-256"},
		{"a stream damaged on the way", damaged, digest(packed), plan.Zstd, 40 * mib, "SHA-256"},
		{"a stream damaged before it was declared", damaged, digest(damaged), plan.Zstd, 40 * mib, "not a valid image of the compression Zstd"},
		{"a truncated file", packed[:len(packed)/2], digest(packed), plan.Zstd, 40 * mib, "SHA-256"},
		{"an image larger than the disk", packed, digest(packed), plan.Zstd, 20 * mib, "larger than the disk"},
		{"a raw image with trailing bytes larger than the disk", image, digest(image), plan.None, 21 * mib, "larger than the disk"},
	}
	for _, tt := range tests {
		t.Run(tt.reason, func(t *testing.T) {
			url := serve(t, func(w http.ResponseWriter, r *http.Request) {
				http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(tt.served))
			})
			disk := newTarget(t, tt.disk)
			_, err := Image(t.Context(), plan.Image{URL: url, SHA256: tt.sum, Compression: tt.compression},
				disk, Options{Client: http.DefaultClient, Patience: quick})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
			if got := disk.bytes(); !bytes.Equal(got[:HeadBytes], make([]byte, HeadBytes)) {
				t.Error("the disk's partition table is still there")
			}
			if disk.syncs == 0 {
				t.Error("what was cleared may not be on the medium")
			}
		})
	}
}

func TestDiskIsUntouchedWhenNothingUsefulComes(t *testing.T) {
	refused := errors.New("not for this disk")
	tests := []struct {
		reason      string
		served      []byte
		compression string
		inspect     func([]byte) error
		want        string
	}{
		{"not a zstd file", []byte("<html>hello</html>"), plan.Zstd, nil, "not a valid image"},
		{"not a gzip file", []byte("<html>hello</html>"), plan.Gzip, nil, "not a gzip file"},
		{"not an xz file", []byte("<html>hello</html>"), plan.XZ, nil, "not an xz file"},
		{"nothing at all", nil, plan.None, nil, "empty"},
		{"the inspection refuses", make([]byte, 2*mib), plan.None, func([]byte) error { return refused }, refused.Error()},
	}
	for _, tt := range tests {
		t.Run(tt.reason, func(t *testing.T) {
			url := serve(t, func(w http.ResponseWriter, r *http.Request) {
				http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(tt.served))
			})
			disk := newTarget(t, 4*mib)
			_, err := Image(t.Context(), plan.Image{URL: url, SHA256: digest(tt.served), Compression: tt.compression},
				disk, Options{Client: http.DefaultClient, Patience: quick, Inspect: tt.inspect})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
			if !bytes.Equal(disk.bytes(), bytes.Repeat([]byte{0xa5}, 4*mib)) {
				t.Error("the disk was written to")
			}
		})
	}
}

func FuzzContentRange(f *testing.F) {
	f.Add("bytes 0-9/10")
	f.Add("bytes 5-9/*")
	f.Fuzz(func(t *testing.T, s string) {
		start, total, err := contentRange(s)
		if err == nil && (start < 0 || total < -1) {
			t.Errorf("contentRange(%q) = %d, %d", s, start, total)
		}
	})
}

// BenchmarkImage is the throughput of the whole, beside BenchmarkFloor.
func BenchmarkImage(b *testing.B) {
	image := make([]byte, 256*mib)
	noise := rand.NewChaCha8([32]byte{1})
	for i := 0; i < len(image); i += 2 * mib { // half of it compresses well
		_, _ = noise.Read(image[i : i+mib])
	}
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		b.Fatal(err)
	}
	packed := enc.EncodeAll(image, nil)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(packed))
	}))
	defer s.Close()
	f, err := os.Create(filepath.Join(b.TempDir(), "disk"))
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	b.SetBytes(int64(len(image)))
	sum := digest(packed)
	for b.Loop() {
		_, err := Image(b.Context(), plan.Image{URL: s.URL, SHA256: sum, Compression: plan.Zstd},
			&plainFile{f}, Options{Client: http.DefaultClient})
		if err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkFloor writes the unpacked image to the same file, and nothing else.
func BenchmarkFloor(b *testing.B) {
	image := make([]byte, 256*mib)
	noise := rand.NewChaCha8([32]byte{1})
	for i := 0; i < len(image); i += 2 * mib {
		_, _ = noise.Read(image[i : i+mib])
	}
	f, err := os.Create(filepath.Join(b.TempDir(), "disk"))
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	b.SetBytes(int64(len(image)))
	for b.Loop() {
		for off := 0; off < len(image); off += mib {
			if _, err := f.WriteAt(image[off:off+mib], int64(off)); err != nil {
				b.Fatal(err)
			}
		}
		if err := f.Sync(); err != nil {
			b.Fatal(err)
		}
	}
}

type plainFile struct{ *os.File }

func (p *plainFile) Size() int64 { return 300 * mib }
func (p *plainFile) Zero(off, n int64) error {
	zeroes := make([]byte, mib)
	for ; n > 0; off, n = off+mib, n-mib {
		if _, err := p.WriteAt(zeroes[:min(n, mib)], off); err != nil {
			return err
		}
	}
	return nil
}
