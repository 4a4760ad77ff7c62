package media

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// origin is a real HTTP server for one file, with faults that are used up one a
// request.
type origin struct {
	*httptest.Server

	mu       sync.Mutex
	body     []byte
	etag     string
	faults   []fault
	requests []string // the Range header of each
	sent     int64    // bytes of bodies
}

// fault answers a request in place of the origin, or changes how it answers.
type fault func(o *origin, w http.ResponseWriter, r *http.Request)

func newOrigin(t *testing.T, body []byte, faults ...fault) *origin {
	t.Helper()
	o := &origin{body: body, etag: `"one"`, faults: faults}
	o.Server = httptest.NewServer(o)
	t.Cleanup(o.Close)
	return o
}

func (o *origin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	o.mu.Lock()
	o.requests = append(o.requests, r.Header.Get("Range"))
	var f fault
	if len(o.faults) > 0 {
		f, o.faults = o.faults[0], o.faults[1:]
	}
	o.mu.Unlock()
	if f != nil {
		f(o, w, r)
		return
	}
	o.serve(w, r)
}

func (o *origin) serve(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("ETag", o.etag)
	http.ServeContent(&counter{w, o}, r, "", time.Time{}, bytes.NewReader(o.body))
}

type counter struct {
	http.ResponseWriter
	o *origin
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.ResponseWriter.Write(p)
	c.o.mu.Lock()
	c.o.sent += int64(n)
	c.o.mu.Unlock()
	return n, err
}

// cutAfter sends n bytes of the asked range and cuts the connection.
func cutAfter(n int) fault {
	return func(o *origin, w http.ResponseWriter, r *http.Request) {
		o.serve(&cutter{ResponseWriter: w, left: n}, r)
	}
}

type cutter struct {
	http.ResponseWriter
	left int
}

func (c *cutter) Write(p []byte) (int, error) {
	if len(p) >= c.left {
		_, _ = c.ResponseWriter.Write(p[:c.left])
		c.ResponseWriter.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
	c.left -= len(p)
	return c.ResponseWriter.Write(p)
}

// status answers with a code and no file.
func status(code int) fault {
	return func(_ *origin, w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", code) }
}

// whole answers with the whole file, whatever range was asked for.
func whole(o *origin, w http.ResponseWriter, r *http.Request) {
	r.Header.Del("Range")
	o.serve(w, r)
}

// ignoreIfRange answers with the range although the file has changed.
func ignoreIfRange(o *origin, w http.ResponseWriter, r *http.Request) {
	r.Header.Del("If-Range")
	o.serve(w, r)
}

// shifted answers with another range than the one that was asked for.
func shifted(o *origin, w http.ResponseWriter, r *http.Request) {
	r.Header.Set("Range", "bytes=1-")
	r.Header.Del("If-Range")
	o.serve(w, r)
}

// nothing stays silent until the client goes away.
func nothing(_ *origin, w http.ResponseWriter, r *http.Request) {
	w.WriteHeader(http.StatusOK)
	w.(http.Flusher).Flush()
	<-r.Context().Done()
}

func testCache(t *testing.T, dir string) *Cache {
	t.Helper()
	c, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	c.backOff = func() backoff.BackOff { return backoff.NewConstantBackOff(time.Millisecond) }
	return c
}

func content(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(b)
	return b
}

func digest(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

func rangeFrom(n int) string { return fmt.Sprintf("bytes=%d-", n) }
