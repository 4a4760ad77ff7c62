package web

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/rhizome-dev/rhizome/pxe"
	"github.com/rhizome-dev/rhizome/pxe/bootfs"
	"github.com/rhizome-dev/rhizome/pxe/media/tree"
)

const (
	// maxHeader is the largest header of a request, in bytes.
	maxHeader = 8 << 10
	// maxBody of a request, in bytes. None has a body; zero would be the library's default.
	maxBody = 1
	// readTimeout is how long a request may take to arrive, and idle how long a
	// connection is kept for the next one.
	readTimeout, idle = 10 * time.Second, time.Minute
)

// PlainServer serves the unencrypted side within its limits of time and size. Nothing
// that it serves is a secret but the init config, which is handed out once and only
// under a claim.
func (h *Handlers) PlainServer() *fasthttp.Server {
	return &fasthttp.Server{
		Handler:      h.plain,
		ErrorHandler: h.unreadable,
		Logger:       slog.NewLogLogger(h.Logger.Handler(), slog.LevelDebug),
		// Only what we send may take longer: a stream lengthens it while the client takes
		// something.
		ReadTimeout: readTimeout, IdleTimeout: idle, WriteTimeout: stall,
		ReadBufferSize: maxHeader, MaxRequestBodySize: maxBody, DisablePreParseMultipartForm: true,
		NoDefaultServerHeader: true, NoDefaultContentType: true,
	}
}

// plain answers one request. Bytes of the request are copied before they are kept: the
// library uses them again for the next one.
func (h *Handlers) plain(ctx *fasthttp.RequestCtx) {
	defer func() {
		// The library lets a panic end the program.
		if fault := recover(); fault != nil {
			h.Logger.Error("HTTP: cannot answer", "path", pathOf(ctx), "from", from(ctx), "error", fault, "stack", string(debug.Stack()))
			ctx.Response.Reset()
			respond(ctx, text(http.StatusInternalServerError, "internal error"))
			ctx.SetConnectionClose()
		}
		h.meter().Request(pxe.ProtocolHTTP, strconv.Itoa(ctx.Response.StatusCode()))
	}()
	switch {
	case len(ctx.Request.Body()) > 0:
		ctx.SetConnectionClose()
		respond(ctx, text(http.StatusBadRequest, "a request here has no body"))
		return
	case !ctx.IsGet() && !ctx.IsHead():
		ctx.Response.Header.Set("Allow", "GET, HEAD")
		respond(ctx, text(http.StatusMethodNotAllowed, "files are fetched by GET"))
		return
	}
	path := pathOf(ctx)
	first, rest, _ := strings.Cut(path, "/")
	switch first {
	case "init":
		h.initConfig(ctx, rest)
	case "media":
		h.media(ctx, rest)
	case "tree":
		h.treeFile(ctx, rest)
	default:
		h.bootFile(ctx, path)
	}
}

// unreadable answers what is no request, or too large a one, or one that does not end.
func (h *Handlers) unreadable(ctx *fasthttp.RequestCtx, err error) {
	a := text(http.StatusBadRequest, "not a request of HTTP")
	var tooLong *fasthttp.ErrSmallBuffer
	var timeout net.Error
	switch {
	case errors.As(err, &tooLong):
		a = text(http.StatusRequestHeaderFieldsTooLarge, fmt.Sprintf("the header has more than %d bytes", maxHeader))
	case errors.Is(err, fasthttp.ErrBodyTooLarge):
		a = text(http.StatusBadRequest, "a request here has no body")
	case errors.As(err, &timeout) && timeout.Timeout():
		a = text(http.StatusRequestTimeout, "the request took too long")
	}
	h.Logger.Debug("HTTP: not a request", "from", from(ctx), "error", err)
	respond(ctx, a)
	h.meter().Request(pxe.ProtocolHTTP, strconv.Itoa(a.status))
}

// pathOf is the path of a request in the table's spelling.
func pathOf(ctx *fasthttp.RequestCtx) string { return bootfs.Clean(string(ctx.Path())) }

func from(ctx *fasthttp.RequestCtx) netip.Addr {
	if a, ok := ctx.RemoteAddr().(*net.TCPAddr); ok {
		return a.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}

func respond(ctx *fasthttp.RequestCtx, a answer) {
	ctx.SetStatusCode(a.status)
	ctx.SetContentType(a.contentType)
	if a.retryAfter != "" {
		ctx.Response.Header.Set("Retry-After", a.retryAfter)
	}
	ctx.Response.SetBodyRaw(a.body)
}

func (h *Handlers) fail(ctx *fasthttp.RequestCtx, err error) {
	respond(ctx, h.answerTo(err, pathOf(ctx), from(ctx)))
}

func (h *Handlers) bootFile(ctx *fasthttp.RequestCtx, path string) {
	file, err := h.Table.Open(path)
	if err != nil {
		h.fail(ctx, err)
		return
	}
	if file.MAC != "" {
		ctx.Response.Header.Set("Cache-Control", "no-cache") // the decision may change any moment
	}
	h.send(ctx, content{
		text: file.Text, file: body(file), close: file.Close, size: file.Size(), modTime: file.ModTime,
		contentType: file.ContentType, etag: file.ETag,
	}, pxe.Observation{Machine: pxe.Machine{MAC: file.MAC}, Stage: file.Stage, Message: file.Name})
}

// body is a boot file, as the file on the disk if it is served as it lies there: that
// the kernel can send by itself.
func body(file *bootfs.File) io.ReadSeeker {
	reader, offset, size := file.Outer()
	if onDisk, ok := reader.(*os.File); ok && offset == 0 && size == file.Size() {
		return onDisk
	}
	return file
}

// media serves <sha256>/<name>. The name is for people.
func (h *Handlers) media(ctx *fasthttp.RequestCtx, path string) {
	digest, name, ok := digestOf(path)
	if h.Media == nil || !ok || strings.Contains(name, "/") {
		respond(ctx, notFound())
		return
	}
	file, size, err := h.Media.Open(digest)
	if err != nil {
		h.fail(ctx, err)
		return
	}
	h.send(ctx, content{
		file: file, close: file.Close, size: size, contentType: "application/octet-stream", etag: `"` + digest + `"`,
	}, pxe.Observation{Stage: pxe.StageMedia, Message: name})
}

// treeFile serves <sha256>/<path>, a file of an installer: out of an ISO, or of those
// that a listing names. Both are named by their digests.
func (h *Handlers) treeFile(ctx *fasthttp.RequestCtx, path string) {
	digest, name, ok := digestOf(path)
	if h.Media == nil || !ok {
		respond(ctx, notFound())
		return
	}
	file, err := tree.Open(h.Media.Open, digest, name)
	if err != nil {
		h.fail(ctx, fmt.Errorf("tree %s: %w", digest, err))
		return
	}
	h.send(ctx, content{
		file: file, close: file.Close, size: file.Size, contentType: "application/octet-stream", etag: `"` + file.ID + `"`,
	}, pxe.Observation{Stage: pxe.StageMedia, Message: name})
}

// digestOf is the digest in front of a path, and what comes behind it.
func digestOf(path string) (digest, rest string, ok bool) {
	digest, rest, ok = strings.Cut(path, "/")
	digest = strings.ToLower(digest)
	return digest, rest, ok && len(digest) == 64 && strings.Trim(digest, "0123456789abcdef") == ""
}

// initConfig hands out <mac>, an init config, or <mac>/<part>, one of its documents if
// it has several. The first of these requests consumes the claim, so there is no HEAD;
// for the claim's grace the machine may ask for the others.
func (h *Handlers) initConfig(ctx *fasthttp.RequestCtx, path string) {
	if !ctx.IsGet() {
		ctx.Response.Header.Set("Allow", http.MethodGet)
		respond(ctx, text(http.StatusMethodNotAllowed, "the init config is handed out by GET only"))
		return
	}
	spelling, part, several := strings.Cut(path, "/")
	mac, err := pxe.ParseMAC(spelling)
	if err != nil || strings.Contains(part, "/") {
		respond(ctx, notFound())
		return
	}
	// Not the request's own context: the library uses it again, for the next request.
	own, cancel := context.WithTimeout(context.Background(), stall)
	defer cancel()
	doc, err := h.Backend.InitConfig(own, mac, from(ctx))
	if err != nil {
		h.fail(ctx, err)
		return
	}
	if several {
		if doc, several = doc.Parts[part]; !several {
			respond(ctx, notFound())
			return
		}
	}
	ctx.SetContentType(doc.ContentType)
	ctx.Response.Header.Set("Cache-Control", "no-store")
	ctx.Response.SetBodyRaw(doc.Body)
}
