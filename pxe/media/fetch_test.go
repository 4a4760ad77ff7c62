package media

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestADownloadSurvivesFaults(t *testing.T) {
	body := content(1 << 20)
	cases := map[string]struct {
		faults []fault
		want   []string // the Range of each request
	}{
		"no fault":                            {nil, []string{""}},
		"cut in the middle, resumed":          {[]fault{cutAfter(400_000)}, []string{"", rangeFrom(400_000)}},
		"cut twice, resumed twice":            {[]fault{cutAfter(400_000), cutAfter(100_000)}, []string{"", rangeFrom(400_000), rangeFrom(500_000)}},
		"200 in place of 206: from the start": {[]fault{cutAfter(400_000), whole}, []string{"", rangeFrom(400_000)}},
		"503 and 429, then fine":              {[]fault{status(503), status(429)}, []string{"", "", ""}},
		"another range than was asked for":    {[]fault{cutAfter(400_000), shifted}, []string{"", rangeFrom(400_000), ""}},
		"416: the digest decides":             {[]fault{cutAfter(400_000), status(416)}, []string{"", rangeFrom(400_000), ""}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			o := newOrigin(t, body, tc.faults...)
			c := testCache(t, t.TempDir())
			var last, total int64
			f, err := c.Fetch(t.Context(), Source{URL: o.URL + "/a/image.raw", SHA256: digest(body)}, func(d, n int64) { last, total = d, n })
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, o.requests); diff != "" {
				t.Errorf("requests (-want +got):\n%s", diff)
			}
			if last != int64(len(body)) || total != int64(len(body)) {
				t.Errorf("progress ended at %d of %d, want %d", last, total, len(body))
			}
			want := File{Path: filepath.Join(c.dir, digest(body)), Name: "image.raw", SHA256: digest(body), Size: int64(len(body))}
			if f != want {
				t.Errorf("got %+v, want %+v", f, want)
			}
			assertContent(t, c, digest(body), body)
			assertNoRemains(t, c)
		})
	}
}

func TestAFileThatChangedAtItsSourceIsNotGlued(t *testing.T) {
	old, body := content(1<<20), append([]byte("new"), content(1<<20)...)
	change := func(o *origin, w http.ResponseWriter, r *http.Request) {
		o.body, o.etag = body, `"two"`
		o.serve(w, r)
	}
	changeAndIgnore := func(o *origin, w http.ResponseWriter, r *http.Request) {
		o.body, o.etag = body, `"two"`
		ignoreIfRange(o, w, r)
	}
	for name, tc := range map[string]struct {
		second fault
		want   []string
	}{
		"the server honours If-Range": {change, []string{"", rangeFrom(400_000)}},
		"the server ignores If-Range": {changeAndIgnore, []string{"", rangeFrom(400_000), ""}},
		"the server cannot do ranges": {func(o *origin, w http.ResponseWriter, r *http.Request) { o.body = body; whole(o, w, r) }, []string{"", rangeFrom(400_000)}},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOrigin(t, old, cutAfter(400_000), tc.second)
			c := testCache(t, t.TempDir())
			if _, err := c.Fetch(t.Context(), Source{URL: o.URL, SHA256: digest(body), Name: "x"}, nil); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, o.requests); diff != "" {
				t.Errorf("requests (-want +got):\n%s", diff)
			}
			assertContent(t, c, digest(body), body)
		})
	}
}

func TestACachedFileIsNotFetchedAgain(t *testing.T) {
	body := content(1000)
	o := newOrigin(t, body)
	c := testCache(t, t.TempDir())
	src := Source{URL: o.URL + "/x", SHA256: digest(body)}
	for range 2 {
		if _, err := c.Fetch(t.Context(), src, nil); err != nil {
			t.Fatal(err)
		}
	}
	if len(o.requests) != 1 {
		t.Fatalf("%d requests, want 1", len(o.requests))
	}
	// Touched but unchanged: read anew, not fetched anew.
	if err := os.Chtimes(c.path(src.SHA256), time.Time{}, time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	assertContent(t, c, src.SHA256, body)
	if _, err := c.Fetch(t.Context(), src, nil); err != nil || len(o.requests) != 1 {
		t.Fatalf("%d requests, error %v, want 1 request", len(o.requests), err)
	}
	// Damaged: no longer served, and fetched anew.
	if err := os.WriteFile(c.path(src.SHA256), content(1001), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.Open(src.SHA256); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("a damaged file opens with %v, want not found", err)
	}
	if _, err := c.Fetch(t.Context(), src, nil); err != nil || len(o.requests) != 2 {
		t.Fatalf("%d requests, error %v, want 2 requests", len(o.requests), err)
	}
	assertContent(t, c, src.SHA256, body)
}

func TestErrorsNameWhatIsWrongAndWhatToDo(t *testing.T) {
	body := content(1000)
	other := digest([]byte("other"))
	serveHTML := func(_ *origin, w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = io.WriteString(w, "<html>Please log in</html>")
	}
	always := func(f fault) []fault {
		fs := make([]fault, 50)
		for i := range fs {
			fs[i] = f
		}
		return fs
	}
	cases := map[string]struct {
		faults   []fault
		sha      string
		requests int
		want     []string
	}{
		"wrong checksum":       {nil, other, 1, []string{"URL", "expected SHA-256 " + other, "got " + digest(body), "1000 bytes", "do not use this source"}},
		"a login page":         {[]fault{serveHTML}, other, 1, []string{"web page", "captive portal"}},
		"404":                  {[]fault{status(404)}, other, 1, []string{"URL", "404 Not Found", "correct the URL"}},
		"403":                  {[]fault{status(403)}, other, 1, []string{"403 Forbidden", "needs no login"}},
		"503 for ever":         {always(status(503)), other, maxFailures, []string{"503 Service Unavailable", "try again later"}},
		"cut for ever at once": {always(cutAfter(0)), other, maxFailures, []string{"URL", "start again"}},
		"digest in upper case": {nil, strings.ToUpper(other), 0, []string{"64 lower-case hexadecimal digits"}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			o := newOrigin(t, body, tc.faults...)
			c := testCache(t, t.TempDir())
			_, err := c.Fetch(t.Context(), Source{URL: o.URL + "/x", SHA256: tc.sha}, nil)
			if err == nil {
				t.Fatal("no error")
			}
			for _, want := range tc.want {
				if want == "URL" {
					want = o.URL + "/x"
				}
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q does not say %q", err, want)
				}
			}
			if len(o.requests) != tc.requests {
				t.Errorf("%d requests, want %d", len(o.requests), tc.requests)
			}
			if _, _, err := c.Open(other); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("Open gives %v, want not found", err)
			}
		})
	}
}

func TestAServerThatAlwaysCutsAtTheSameByteIsGivenUp(t *testing.T) {
	body := content(1000)
	faults := make([]fault, 100)
	for i := range faults {
		faults[i] = func(o *origin, w http.ResponseWriter, r *http.Request) {
			r.Header.Del("Range")
			cutAfter(500)(o, w, r)
		}
	}
	o := newOrigin(t, body, faults...)
	c := testCache(t, t.TempDir())
	if _, err := c.Fetch(t.Context(), Source{URL: o.URL, SHA256: digest(body)}, nil); err == nil {
		t.Fatal("no error")
	}
	if len(o.requests) != maxFailures+1 {
		t.Errorf("%d requests, want %d", len(o.requests), maxFailures+1)
	}
}

func TestASilentServerIsGivenUpAndTriedAgain(t *testing.T) {
	body := content(1000)
	o := newOrigin(t, body, nothing)
	c := testCache(t, t.TempDir())
	c.idle = 50 * time.Millisecond
	var said []error
	c.OnRetry = func(_ Source, err error, _ time.Duration) { said = append(said, err) }
	if _, err := c.Fetch(t.Context(), Source{URL: o.URL, SHA256: digest(body)}, nil); err != nil {
		t.Fatal(err)
	}
	if len(said) != 1 || !errors.Is(said[0], errStalled) {
		t.Errorf("retries said %v, want that the server sends nothing", said)
	}
}

func TestAPasswordInAURLIsNotShown(t *testing.T) {
	c := testCache(t, t.TempDir())
	o := newOrigin(t, nil, status(404))
	_, err := c.Fetch(t.Context(), Source{URL: strings.Replace(o.URL, "//", "//me:sesame@", 1), SHA256: digest(nil)}, nil)
	if err == nil || strings.Contains(err.Error(), "sesame") {
		t.Errorf("error is %v", err)
	}
}

func TestCancellingEndsAFetchAndKeepsWhatCame(t *testing.T) {
	body := content(1 << 20)
	ctx, cancel := context.WithCancel(t.Context())
	slow := func(o *origin, w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write(body[:300_000])
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}
	o := newOrigin(t, body, slow)
	c := testCache(t, t.TempDir())
	src := Source{URL: o.URL, SHA256: digest(body)}
	_, err := c.Fetch(ctx, src, func(done, _ int64) {
		if done == 300_000 {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("error is %v, want context canceled", err)
	}
	if _, err := c.Fetch(t.Context(), src, nil); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"", rangeFrom(300_000)}, o.requests); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}

func assertContent(t *testing.T, c *Cache, sha string, want []byte) {
	t.Helper()
	r, size, err := c.Open(sha)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	got, err := io.ReadAll(r)
	if err != nil || !bytes.Equal(got, want) || size != int64(len(want)) {
		t.Fatalf("read %d bytes of %d (%v), want the %d that were published", len(got), size, err, len(want))
	}
}

// assertNoRemains: beside the file, its stamp and its lock nothing is left.
func assertNoRemains(t *testing.T, c *Cache) {
	t.Helper()
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		switch filepath.Ext(e.Name()) {
		case "", ".stamp", ".lock":
		default:
			t.Errorf("%s was left behind", e.Name())
		}
	}
}

func TestASourceMayBeGivenFewAttempts(t *testing.T) {
	var asked int
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked++
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	defer server.Close()
	c, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Fetch(t.Context(), Source{URL: server.URL + "/file", SHA256: strings.Repeat("a", 64), Attempts: 1}, nil)
	var status *StatusError
	if !errors.As(err, &status) || status.Code != http.StatusServiceUnavailable || asked != 1 {
		t.Errorf("asked %d times: %v", asked, err)
	}
}
