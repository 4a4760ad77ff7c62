package stream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// Patience says how long a download puts up with a server that does not answer.
// A zero field means the value in its comment.
type Patience struct {
	// Silence of a connection after which it counts as broken: 30 s.
	Silence time.Duration
	// GiveUp when not one byte came for this long, over all connections: 15 min.
	GiveUp time.Duration
	// FirstPause before a broken connection is made again, doubled each time in
	// vain, with jitter: 250 ms.
	FirstPause time.Duration
	// LongestPause between two attempts: 15 s.
	LongestPause time.Duration
}

func (p Patience) withDefaults() Patience {
	set := func(d *time.Duration, to time.Duration) {
		if *d == 0 {
			*d = to
		}
	}
	set(&p.Silence, 30*time.Second)
	set(&p.GiveUp, 15*time.Minute)
	set(&p.FirstPause, 250*time.Millisecond)
	set(&p.LongestPause, 15*time.Second)
	return p
}

// download is the body of one file, read from its first byte to its last whatever
// happens to the connections in between: a broken one is replaced by a request
// for the rest (RFC 9110 section 14.2), under the condition that the file is
// still the same (section 13.1.5), at the file's next URL if it has several.
type download struct {
	ctx      context.Context
	client   *http.Client
	urls     []string
	turn     int   // counts the attempts that failed: each asks the next URL
	refused  int   // how many URLs in a row said that they will not have the file
	size     int64 // in all; -1: not known yet
	patience Patience
	log      func(format string, args ...any)
	received func(done, total int64)

	body    io.ReadCloser // of the present connection, nil when there is none
	cancel  context.CancelFunc
	silence *time.Timer
	offset  int64
	etag    string // strong validator of the file, empty when the server has none
	backoff *backoff.ExponentialBackOff
	lastGot time.Time
}

// permanent is an answer that asking again would not change.
type permanent struct{ error }

func newDownload(ctx context.Context, client *http.Client, urls []string, size int64, p Patience) *download {
	p = p.withDefaults()
	b := backoff.NewExponentialBackOff()
	b.InitialInterval, b.MaxInterval = p.FirstPause, p.LongestPause
	if size == 0 {
		size = -1
	}
	return &download{
		ctx: ctx, client: client, urls: urls, size: size, patience: p, backoff: b,
		log: func(string, ...any) {}, received: func(int64, int64) {},
		lastGot: time.Now(),
	}
}

// Read implements io.Reader. An error is final.
func (d *download) Read(p []byte) (int, error) {
	for {
		n, err := d.readOnce(p)
		if n > 0 {
			d.offset += int64(n)
			d.lastGot = time.Now()
			d.refused = 0
			d.backoff.Reset()
			d.received(d.offset, d.size)
			return n, nil
		}
		if err == nil {
			continue
		}
		d.disconnect()
		if errors.Is(err, io.EOF) && (d.size < 0 || d.offset == d.size) {
			return 0, io.EOF
		}
		if err := d.again(err); err != nil {
			return 0, err
		}
	}
}

// Close ends the download.
func (d *download) Close() error {
	d.disconnect()
	return nil
}

func (d *download) readOnce(p []byte) (int, error) {
	if d.size >= 0 && d.offset == d.size {
		return 0, io.EOF
	}
	if d.body == nil {
		if err := d.connect(); err != nil {
			return 0, err
		}
	}
	if d.size >= 0 && int64(len(p)) > d.size-d.offset {
		p = p[:d.size-d.offset]
	}
	d.silence.Reset(d.patience.Silence)
	n, err := d.body.Read(p)
	// A disk that is slow to take what came is not the connection's silence.
	d.silence.Stop()
	return n, err
}

// again waits before the next attempt, or says why there is none.
func (d *download) again(cause error) error {
	if err := d.ctx.Err(); err != nil {
		return context.Cause(d.ctx)
	}
	url := d.url()
	d.turn++
	var final permanent
	if errors.As(cause, &final) {
		if d.refused++; d.refused >= len(d.urls) {
			return fmt.Errorf("cannot download %s: %w", url, final.error)
		}
		d.log("cannot download %s: %v: asking %s", url, final.error, d.url())
		return nil
	}
	d.refused = 0
	if errors.Is(cause, io.EOF) || errors.Is(cause, io.ErrUnexpectedEOF) {
		cause = errors.New("the server closed the connection early")
	}
	quiet := time.Since(d.lastGot)
	if quiet >= d.patience.GiveUp {
		return fmt.Errorf("cannot download %s: nothing came for %s, given up at byte %d: %w",
			url, quiet.Round(time.Second), d.offset, cause)
	}
	pause := min(d.backoff.NextBackOff(), d.patience.GiveUp-quiet)
	d.log("download broken at byte %d (%v): asking for the rest in %s, giving up in %s",
		d.offset, cause, pause.Round(10*time.Millisecond), (d.patience.GiveUp - quiet).Round(time.Second))
	select {
	case <-d.ctx.Done():
		return context.Cause(d.ctx)
	case <-time.After(pause):
		return nil
	}
}

// url is the one whose turn it is.
func (d *download) url() string { return d.urls[d.turn%len(d.urls)] }

func (d *download) disconnect() {
	if d.cancel != nil {
		d.silence.Stop()
		d.cancel()
		d.cancel = nil
	}
	if d.body != nil {
		_ = d.body.Close() // of a connection that is of no use any more
		d.body = nil
	}
}

func (d *download) connect() error {
	ctx, cancel := context.WithCancel(d.ctx)
	d.cancel = cancel
	d.silence = time.AfterFunc(d.patience.Silence, cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, d.url(), nil)
	if err != nil {
		return permanent{err}
	}
	// The digest is that of the file as it is: no transfer compression.
	req.Header.Set("Accept-Encoding", "identity")
	if d.offset > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", d.offset))
		// A validator is of one server's making; another's answer with 206 is vouched
		// for by the digest.
		if d.etag != "" && len(d.urls) == 1 {
			req.Header.Set("If-Range", d.etag)
		}
	}
	resp, err := d.client.Do(req) //nolint:bodyclose // disconnect closes it
	if err != nil {
		return err
	}
	d.body = resp.Body
	return d.accept(resp)
}

// accept checks that the answer goes on where the download stands.
func (d *download) accept(resp *http.Response) error {
	etag := resp.Header.Get("ETag")
	if strings.HasPrefix(etag, "W/") {
		etag = "" // a weak validator does not promise the same bytes
	}
	if d.etag != "" && etag != "" && etag != d.etag && len(d.urls) == 1 {
		return permanent{fmt.Errorf("the file changed on the server while it was being written (%s, was %s): install again", etag, d.etag)}
	}
	d.etag = etag
	total := resp.ContentLength
	switch resp.StatusCode {
	case http.StatusOK:
		// The whole file: also from a server that knows no ranges. What was had
		// already is read again and dropped; the digest vouches for the rest.
		if err := d.haveSize(total); err != nil {
			return err
		}
		return d.skip(d.offset)
	case http.StatusPartialContent:
		start, total, err := contentRange(resp.Header.Get("Content-Range"))
		if err != nil {
			return permanent{err}
		}
		if start != d.offset {
			return permanent{fmt.Errorf("the server sent bytes from %d on, asked for from %d on", start, d.offset)}
		}
		return d.haveSize(total)
	}
	err := fmt.Errorf("the server answered %s", resp.Status)
	switch {
	case resp.StatusCode >= 500,
		resp.StatusCode == http.StatusRequestTimeout, resp.StatusCode == http.StatusTooManyRequests:
		return err
	}
	return permanent{err}
}

// haveSize compares the size that an answer tells, -1 for none, with what is known.
func (d *download) haveSize(total int64) error {
	if total < 0 {
		return nil
	}
	if d.size >= 0 && d.size != total {
		return permanent{fmt.Errorf("the file has %d bytes on the server, expected %d", total, d.size)}
	}
	d.size = total
	return nil
}

func (d *download) skip(n int64) error {
	buf := make([]byte, 256<<10)
	for n > 0 {
		d.silence.Reset(d.patience.Silence)
		got, err := d.body.Read(buf[:min(n, int64(len(buf)))])
		n -= int64(got)
		if err != nil && n > 0 {
			return err
		}
	}
	return nil
}

// contentRange reads "bytes 5-9/10"; total is -1 for an unknown size.
func contentRange(s string) (start, total int64, err error) {
	bad := func() (int64, int64, error) {
		return 0, 0, fmt.Errorf("the server sent a Content-Range that cannot be read: %q", s)
	}
	span, ok := strings.CutPrefix(s, "bytes ")
	if !ok {
		return bad()
	}
	span, size, ok := strings.Cut(span, "/")
	if !ok {
		return bad()
	}
	first, _, ok := strings.Cut(span, "-")
	if !ok {
		return bad()
	}
	if start, err = strconv.ParseInt(first, 10, 64); err != nil || start < 0 {
		return bad()
	}
	if size == "*" {
		return start, -1, nil
	}
	if total, err = strconv.ParseInt(size, 10, 64); err != nil || total < 0 {
		return bad()
	}
	return start, total, nil
}
