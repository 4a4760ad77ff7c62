package web

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/rhizome-dev/rhizome/pxe"
)

// content is a file to send.
type content struct {
	text              []byte        // all of it, if it is in memory
	file              io.ReadSeeker // else
	close             func() error
	size              int64
	modTime           time.Time // zero: not known
	contentType, etag string
}

// send answers with a file, or with what a request's conditions say of it. seen is what
// the backend hears of it.
func (h *Handlers) send(ctx *fasthttp.RequestCtx, c content, seen pxe.Observation) {
	header := &ctx.Response.Header
	header.Set("Etag", c.etag)
	header.Set("Accept-Ranges", "bytes")
	if !c.modTime.IsZero() {
		header.SetLastModified(c.modTime)
	}
	seen.From, seen.Total = from(ctx), c.size
	wanted := conditionsOf(&ctx.Request.Header)
	if !ctx.IsGet() {
		wanted.span = nil // RFC 9110 §14.2: ranges are GET's alone
	}
	part := chosen(wanted, c.etag, c.modTime, c.size)
	if h.Logger.Enabled(context.Background(), slog.LevelDebug) {
		h.Logger.Debug("HTTP", "path", pathOf(ctx), "method", string(ctx.Method()), "from", seen.From,
			"status", part.status, "start", part.start, "bytes", part.length, "size", c.size)
	}
	ctx.SetStatusCode(part.status)
	switch part.status {
	case http.StatusRequestedRangeNotSatisfiable:
		header.Set("Content-Range", fmt.Sprintf("bytes */%d", c.size))
	case http.StatusPartialContent:
		header.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", part.start, part.start+part.length-1, c.size))
	}
	if part.status >= 300 {
		h.done(c)
		return
	}
	ctx.SetContentType(c.contentType)
	if c.text != nil {
		h.done(c)
		ctx.Response.SetBodyRaw(c.text[part.start : part.start+part.length])
		if ctx.IsGet() {
			seen.Time, seen.Done = h.Now(), part.start+part.length
			h.Backend.Observe(seen)
			h.meter().Sent(pxe.ProtocolHTTP, part.length)
		}
		return
	}
	if _, err := c.file.Seek(part.start, io.SeekStart); err != nil {
		h.done(c)
		ctx.Response.Reset()
		h.fail(ctx, err)
		return
	}
	ctx.SetBodyStream(&stream{
		Reader: c.file, close: c.close, left: part.length, at: part.start,
		conn: ctx.Conn(), backend: h.Backend, counter: h.meter(), seen: seen, now: h.Now,
	}, int(part.length))
}

func (h *Handlers) done(c content) {
	if err := c.close(); err != nil {
		h.Logger.Warn("HTTP: cannot close a file", "error", err)
	}
}

// conditions are the headers that say which part of a file is wanted, and whether
// (RFC 9110 §13.1 and §14.2). Empty: not there.
type conditions struct {
	match, noneMatch, modifiedSince, unmodifiedSince, ifRange, span []byte
}

func conditionsOf(h *fasthttp.RequestHeader) conditions {
	return conditions{
		match: h.Peek(fasthttp.HeaderIfMatch), noneMatch: h.Peek(fasthttp.HeaderIfNoneMatch),
		modifiedSince: h.Peek(fasthttp.HeaderIfModifiedSince), unmodifiedSince: h.Peek(fasthttp.HeaderIfUnmodifiedSince),
		ifRange: h.Peek(fasthttp.HeaderIfRange), span: h.Peek(fasthttp.HeaderRange),
	}
}

// part of a file, in bytes, and the status that goes with it.
type part struct {
	status        int
	start, length int64
}

// chosen weighs the conditions in the order of RFC 9110 §13.2.2.
func chosen(c conditions, etag string, modTime time.Time, size int64) part {
	switch {
	case len(c.match) > 0 && !listed(c.match, etag, false),
		len(c.match) == 0 && len(c.unmodifiedSince) > 0 && since(modTime, c.unmodifiedSince):
		return part{status: http.StatusPreconditionFailed}
	case len(c.noneMatch) > 0 && listed(c.noneMatch, etag, true),
		len(c.noneMatch) == 0 && len(c.modifiedSince) > 0 && until(modTime, c.modifiedSince):
		return part{status: http.StatusNotModified}
	}
	whole := part{http.StatusOK, 0, size}
	// Several ranges in one request are allowed to be ignored, as are other units.
	if !bytes.HasPrefix(c.span, []byte("bytes=")) || bytes.IndexByte(c.span, ',') >= 0 {
		return whole
	}
	if len(c.ifRange) > 0 && string(c.ifRange) != etag && !sameDate(modTime, c.ifRange) {
		return whole // of another version
	}
	first, last, err := fasthttp.ParseByteRange(c.span, int(size))
	if err != nil {
		return part{status: http.StatusRequestedRangeNotSatisfiable}
	}
	return part{http.StatusPartialContent, int64(first), int64(last-first) + 1}
}

// listed says whether a list of entity tags has ours. Ours are all strong.
func listed(list []byte, etag string, weak bool) bool {
	for one := range bytes.SplitSeq(list, []byte(",")) {
		one = bytes.TrimSpace(one)
		if weak {
			one = bytes.TrimPrefix(one, []byte("W/"))
		}
		if string(one) == etag || string(one) == "*" {
			return true
		}
	}
	return false
}

// The dates of HTTP have no parts of a second. A date that cannot be read, or a file
// whose time is not known, is neither since nor until.
func since(modTime time.Time, date []byte) bool {
	at, err := fasthttp.ParseHTTPDate(date)
	return err == nil && !modTime.IsZero() && modTime.Truncate(time.Second).After(at)
}

func until(modTime time.Time, date []byte) bool {
	at, err := fasthttp.ParseHTTPDate(date)
	return err == nil && !modTime.IsZero() && !modTime.Truncate(time.Second).After(at)
}

func sameDate(modTime time.Time, date []byte) bool {
	at, err := fasthttp.ParseHTTPDate(date)
	return err == nil && modTime.Truncate(time.Second).Equal(at)
}
