package media

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestMain lets the test binary be another process that fetches.
func TestMain(m *testing.M) {
	if url := os.Getenv("MEDIA_TEST_FETCH"); url != "" {
		os.Exit(fetchProcess(url, os.Getenv("MEDIA_TEST_SHA256"), os.Getenv("MEDIA_TEST_DIR")))
	}
	os.Exit(m.Run())
}

func fetchProcess(url, sha, dir string) int {
	if err := prepareProcess(dir); err != nil {
		fmt.Println("cannot prepare:", err)
		return 3
	}
	c, err := Open(dir)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	f, err := c.Fetch(context.Background(), Source{URL: url, SHA256: sha}, func(done, total int64) {
		fmt.Println("progress", done, total)
	})
	if err != nil {
		fmt.Println("error:", err)
		return 1
	}
	fmt.Println("fetched", f.Size)
	return 0
}

func fetchCommand(t *testing.T, url, sha, dir string) (*exec.Cmd, io.Reader) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), "MEDIA_TEST_FETCH="+url, "MEDIA_TEST_SHA256="+sha, "MEDIA_TEST_DIR="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	return cmd, out
}

func TestADownloadGoesOnAfterItsProcessWasKilled(t *testing.T) {
	body := content(4 << 20)
	half := len(body) / 2
	stop := func(o *origin, w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", o.etag)
		w.Header().Set("Content-Length", fmt.Sprint(len(body)))
		_, _ = w.Write(body[:half])
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}
	o := newOrigin(t, body, stop)
	dir := t.TempDir()
	cmd, out := fetchCommand(t, o.URL, digest(body), dir)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if lines.Text() == fmt.Sprintf("progress %d %d", half, len(body)) {
			break
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()

	c := testCache(t, dir)
	if _, err := c.Fetch(t.Context(), Source{URL: o.URL, SHA256: digest(body)}, nil); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"", rangeFrom(half)}, o.requests); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
	if o.sent != int64(len(body)-half) {
		t.Errorf("the second process was sent %d bytes, want the %d that were missing", o.sent, len(body)-half)
	}
	assertContent(t, c, digest(body), body)
	assertNoRemains(t, c)
}

func TestTwoProcessesFetchOneFileOnce(t *testing.T) {
	body := content(1 << 20)
	arrived, release := make(chan struct{}), make(chan struct{})
	hold := func(o *origin, w http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-release
		o.serve(w, r)
	}
	o := newOrigin(t, body, hold)
	dir := t.TempDir()
	results := make(chan error, 3)
	start := func() {
		cmd, out := fetchCommand(t, o.URL, digest(body), dir)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		go func() {
			said, _ := io.ReadAll(out)
			err := cmd.Wait()
			if err != nil {
				err = fmt.Errorf("%w: %s", err, said)
			} else if !strings.Contains(string(said), fmt.Sprintf("fetched %d", len(body))) {
				err = fmt.Errorf("the process said %q", said)
			}
			results <- err
		}()
	}
	start()
	<-arrived
	start()
	c := testCache(t, dir)
	go func() {
		_, err := c.Fetch(t.Context(), Source{URL: o.URL, SHA256: digest(body)}, nil)
		results <- err
	}()
	close(release)
	for range 3 {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	if len(o.requests) != 1 {
		t.Errorf("%d requests, want 1", len(o.requests))
	}
}
