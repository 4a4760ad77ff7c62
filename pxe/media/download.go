package media

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// download is one file on its way into the cache.
type download struct {
	cache    *Cache
	src      Source
	url      string
	progress func(done, total int64)

	part     *os.File
	sum      hash.Hash // of the first offset bytes of part
	offset   int64
	total    int64 // 0 while it is not known
	notes    notes
	furthest int64 // the greatest offset so far
	resumed  bool  // part holds bytes of an earlier answer
	noRange  bool  // ask for the whole file: a partial answer was unusable
	complete bool  // every byte has come
	html     bool  // the server called it a web page
}

// notes are kept beside a partial file: what its bytes are the beginning of.
type notes struct {
	URL          string `json:"url"` // without a password
	ETag         string `json:"etag,omitempty"`
	LastModified string `json:"lastModified,omitempty"`
}

// validator is what If-Range may carry: a strong entity tag, else the date
// (RFC 9110 section 13.1.5).
func (n notes) validator() string {
	if n.ETag != "" && !strings.HasPrefix(n.ETag, "W/") {
		return n.ETag
	}
	return n.LastModified
}

// errStalled is a server that has stopped to send.
var errStalled = errors.New("the server sends nothing any more")

func (c *Cache) download(ctx context.Context, src Source, u *url.URL, progress func(done, total int64)) error {
	part, err := os.OpenFile(c.part(src.SHA256), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return fmt.Errorf("cannot download %s: %w", src.URL, c.full(err))
	}
	defer part.Close()
	d := &download{cache: c, src: src, url: u.String(), progress: progress, part: part, sum: sha256.New()}
	if err := d.readPart(ctx); err != nil {
		return fmt.Errorf("cannot resume the download of %s: %w", src.URL, err)
	}

	for again := false; ; again = true {
		if err := d.fetchAll(ctx); err != nil {
			return err
		}
		if got := hex.EncodeToString(d.sum.Sum(nil)); got != src.SHA256 {
			wrong := &ChecksumError{URL: src.URL, Want: src.SHA256, Got: got, Size: d.offset, HTML: d.html}
			if d.resumed && !again {
				// The beginning may be of another file, or have been damaged by a crash:
				// the source is only wrong if it is so from the first byte on.
				if err := d.restart(); err != nil {
					return err
				}
				continue
			}
			_ = os.Remove(c.part(src.SHA256))
			_ = os.Remove(c.notes(src.SHA256))
			return wrong
		}
		if err := part.Sync(); err != nil {
			return fmt.Errorf("cannot download %s: %w", src.URL, c.full(err))
		}
		info, err := part.Stat()
		if err != nil {
			return err
		}
		return c.keep(c.part(src.SHA256), src.SHA256, stampOf(info))
	}
}

// readPart takes up what an earlier download left.
func (d *download) readPart(ctx context.Context) error {
	if b, err := os.ReadFile(d.cache.notes(d.src.SHA256)); err == nil {
		_ = json.Unmarshal(b, &d.notes)
	}
	if d.notes.URL != d.src.URL {
		// Another mirror has its own tags. The digest still proves the whole.
		d.notes = notes{}
	}
	n, err := io.CopyBuffer(d.sum, onlyReader{contextReader{ctx, d.part}}, make([]byte, bufferSize))
	d.offset, d.furthest, d.resumed = n, n, n > 0
	return err
}

// restart throws away what was downloaded.
func (d *download) restart() error {
	if err := d.part.Truncate(0); err != nil {
		return err
	}
	d.sum.Reset()
	d.offset, d.total, d.resumed, d.complete, d.notes = 0, 0, false, false, notes{}
	return nil
}

// fetchAll makes attempts until every byte has come, or no more sense is in it.
func (d *download) fetchAll(ctx context.Context) error {
	d.complete = false
	failures, most := 0, d.src.Attempts
	if most <= 0 {
		most = maxFailures
	}
	wait := d.cache.backOff()
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		err := d.attempt(ctx)
		if err == nil {
			return struct{}{}, nil
		}
		failures++
		if d.offset > d.furthest {
			// A server that resumes nothing and always cuts at the same byte makes no
			// progress: only new bytes count.
			d.furthest, failures = d.offset, 0
			wait.Reset()
		}
		d.resumed = d.offset > 0
		if failures >= most {
			err = backoff.Permanent(err)
		}
		return struct{}{}, err
	},
		backoff.WithBackOff(wait),
		backoff.WithMaxElapsedTime(0),
		backoff.WithNotify(func(err error, wait time.Duration) {
			if d.cache.OnRetry != nil {
				d.cache.OnRetry(d.src, err, wait)
			}
		}))
	if err == nil {
		return nil
	}
	var status *StatusError
	if errors.As(err, &status) {
		return err
	}
	var space *SpaceError
	if errors.As(err, &space) || ctx.Err() != nil {
		return fmt.Errorf("cannot download %s: %w", d.src.URL, err)
	}
	return fmt.Errorf("cannot download %s: %w; check the network and the URL, then start again: it goes on at byte %d", d.src.URL, err, d.offset)
}

// attempt makes one request and takes what comes.
func (d *download) attempt(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watchdog := time.AfterFunc(d.cache.idle, func() { cancel(errStalled) })
	defer watchdog.Stop()

	req, err := http.NewRequestWithContext(ctx, http.MethodGet, d.url, nil)
	if err != nil {
		return backoff.Permanent(withoutURL(err))
	}
	// Some servers compress by themselves what they take for text.
	req.Header.Set("Accept-Encoding", "identity")
	if d.offset > 0 && !d.noRange {
		req.Header.Set("Range", "bytes="+strconv.FormatInt(d.offset, 10)+"-")
		if v := d.notes.validator(); v != "" {
			req.Header.Set("If-Range", v)
		}
	}
	resp, err := d.cache.client.Do(req)
	if err != nil {
		return cause(ctx, err)
	}
	defer resp.Body.Close()
	if err := d.accept(resp); err != nil || d.complete {
		return err
	}
	return d.take(ctx, resp.Body, watchdog)
}

// accept judges the answer's head and places the writing position.
func (d *download) accept(resp *http.Response) error {
	switch resp.StatusCode {
	case http.StatusOK:
		if d.offset > 0 {
			if err := d.restart(); err != nil {
				return backoff.Permanent(err)
			}
		}
		d.noRange = false
		d.total = max(resp.ContentLength, 0)
	case http.StatusPartialContent:
		start, total, ok := parseContentRange(resp.Header.Get("Content-Range"))
		if !ok || start != d.offset {
			d.noRange = true
			return fmt.Errorf("the server answers a request for the bytes from %d with Content-Range %q", d.offset, resp.Header.Get("Content-Range"))
		}
		d.total = total
	case http.StatusRequestedRangeNotSatisfiable:
		// Nothing beyond what we have: either it is all, and the digest will tell,
		// or our beginning is of a longer file.
		d.complete = d.resumed
		if !d.complete {
			d.noRange = true
			return errors.New("the server has fewer bytes than it sent before")
		}
		return nil
	default:
		err := &StatusError{URL: d.src.URL, Code: resp.StatusCode, Status: resp.Status}
		if !err.temporary() {
			return backoff.Permanent(err)
		}
		return err
	}
	d.html = strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html")
	d.notes = notes{URL: d.src.URL, ETag: resp.Header.Get("ETag"), LastModified: resp.Header.Get("Last-Modified")}
	if err := d.cache.writeJSON(d.cache.notes(d.src.SHA256), d.notes); err != nil {
		return backoff.Permanent(err)
	}
	d.progress(d.offset, d.total)
	return nil
}

// take writes the body down as it comes.
func (d *download) take(ctx context.Context, body io.Reader, watchdog *time.Timer) error {
	buf := make([]byte, bufferSize)
	for {
		n, err := body.Read(buf)
		if n > 0 {
			watchdog.Reset(d.cache.idle)
			if _, err := d.part.WriteAt(buf[:n], d.offset); err != nil {
				return backoff.Permanent(d.cache.full(err))
			}
			d.sum.Write(buf[:n])
			d.offset += int64(n)
			d.progress(d.offset, d.total)
		}
		if err == io.EOF {
			if d.total > 0 && d.offset != d.total {
				return fmt.Errorf("the server closed after %d of %d bytes", d.offset, d.total)
			}
			d.complete = true
			return nil
		}
		if err != nil {
			return cause(ctx, err)
		}
	}
}

// cause is why a request ended: our watchdog, the caller, or the network.
func cause(ctx context.Context, err error) error {
	if c := context.Cause(ctx); c != nil {
		return c
	}
	return withoutURL(err)
}

// withoutURL drops the URL that net/http puts before its errors: ours names it
// already.
func withoutURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// parseContentRange reads "bytes 10-99/100"; a total of "*" is 0.
func parseContentRange(s string) (start, total int64, ok bool) {
	rest, found := strings.CutPrefix(s, "bytes ")
	span, size, slash := strings.Cut(rest, "/")
	first, _, dash := strings.Cut(span, "-")
	if !found || !slash || !dash {
		return 0, 0, false
	}
	start, err := strconv.ParseInt(first, 10, 64)
	if err != nil || start < 0 {
		return 0, 0, false
	}
	if size == "*" {
		return start, 0, true
	}
	total, err = strconv.ParseInt(size, 10, 64)
	if err != nil || total < start {
		return 0, 0, false
	}
	return start, total, true
}
