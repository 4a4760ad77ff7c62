// Package web serves what machines fetch by HTTP: boot files, their scripts,
// init configs and media in the clear; reports and credentials over TLS.
package web

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/rhizome-dev/rhizome/pxe"
	"github.com/rhizome-dev/rhizome/pxe/bootfs"
)

// maxReport is the largest report that is read, in bytes.
const maxReport = 64 << 10

// Media opens a file by the SHA-256 of its content, 64 lower-case hexadecimal
// digits. An unknown one is fs.ErrNotExist, one that is still being fetched a
// *pxe.NotNow.
type Media interface {
	Open(sha256 string) (file io.ReadSeekCloser, size int64, err error)
}

// Handlers answers HTTP. All fields but Media and Meter must be set.
type Handlers struct {
	Table   *bootfs.Table
	Backend pxe.Backend
	Media   Media // nil: there are none
	Logger  *slog.Logger
	Now     func() time.Time
	Meter   pxe.Meter // nil: nobody counts
}

func (h *Handlers) meter() pxe.Meter {
	if h.Meter == nil {
		return pxe.Unmetered
	}
	return h.Meter
}

// Plain is the handler of the unencrypted side. Nothing that it serves is a
// secret but the init config, which is handed out once and only under a claim.
func (h *Handlers) Plain() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /", h.bootFile)
	mux.HandleFunc("GET /init/{mac}", h.initConfig)
	mux.HandleFunc("GET /init/{mac}/{part}", h.initConfigPart)
	mux.HandleFunc("GET /media/{sha256}/{name}", h.media)
	mux.HandleFunc("GET /tree/{sha256}/{path...}", h.treeFile)
	mux.HandleFunc("GET /tree/{sha256}", http.NotFound) // the mux would redirect
	return counted(pxe.ProtocolHTTP, h.meter(), tidyPath(mux))
}

// Secure is the handler of the side that is served over TLS only.
func (h *Handlers) Secure() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/report", h.report)
	mux.HandleFunc("POST /v1/credentials", h.credentials)
	return counted(pxe.ProtocolHTTPS, h.meter(), mux)
}

// tidyPath makes doubled and backward slashes plain before the mux sees them. The
// mux would redirect to the plain spelling, which firmware does not follow.
func tidyPath(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength != 0 {
			w.Header().Set("Connection", "close")
			http.Error(w, "a request here has no body", http.StatusBadRequest)
			return
		}
		path := "/" + bootfs.Clean(r.URL.Path)
		if path != r.URL.Path || r.URL.RawPath != "" {
			tidy := new(http.Request)
			*tidy = *r
			tidy.URL = &url.URL{Path: path, RawQuery: r.URL.RawQuery}
			r = tidy
		}
		next.ServeHTTP(w, r)
	})
}

func (h *Handlers) bootFile(w http.ResponseWriter, r *http.Request) {
	file, err := h.Table.Open(r.URL.Path)
	if err != nil {
		h.fail(w, r, err)
		return
	}
	defer func() { _ = file.Close() }()
	seen := pxe.Observation{Machine: pxe.Machine{MAC: file.MAC}, Stage: file.Stage, Message: file.Name}
	if file.MAC != "" {
		w.Header()["Cache-Control"] = noCache // the decision may change any moment
	}
	if file.Text != nil && wantsWhole(r) {
		h.sendText(w, r, file, seen)
		return
	}
	h.send(w, r, content{
		ReadSeeker: body(file), size: file.Size(), modTime: file.ModTime,
		contentType: file.ContentType, etag: file.ETag,
	}, seen)
}

// Headers that are the same in every answer; net/http changes none.
var noCache, inBytes = []string{"no-cache"}, []string{"bytes"}

// wantsWhole says whether a request is for a file, without more, as those of boot
// loaders are.
func wantsWhole(r *http.Request) bool {
	if r.Method != http.MethodGet {
		return false
	}
	for _, condition := range [...]string{"Range", "If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since"} {
		if _, ok := r.Header[condition]; ok {
			return false
		}
	}
	return true
}

// sendText answers as send does. Of a text in memory most of the work of
// http.ServeContent is for nothing, and it is felt when hundreds of machines boot.
func (h *Handlers) sendText(w http.ResponseWriter, r *http.Request, file *bootfs.File, seen pxe.Observation) {
	header := w.Header()
	header["Content-Type"] = []string{file.ContentType}
	header["Etag"] = []string{file.ETag}
	header["Accept-Ranges"] = inBytes
	header["Content-Length"] = []string{strconv.Itoa(len(file.Text))}
	n, err := w.Write(file.Text)
	if err != nil {
		h.Logger.Warn("HTTP: a client went away", "path", r.URL.Path, "from", remote(r), "error", err)
	}
	seen.Time, seen.From, seen.Done, seen.Total = h.Now(), remote(r), int64(n), int64(len(file.Text))
	h.Backend.Observe(seen)
	h.meter().Sent(pxe.ProtocolHTTP, int64(n))
}

// sendable is the size in bytes from which on the kernel is left to send a file: less
// is sent faster together with its header.
const sendable = 64 << 10

// body is a boot file, as the file on the disk if it is served as it lies there and
// is large.
func body(file *bootfs.File) io.ReadSeeker {
	reader, offset, size := file.Outer()
	if onDisk, ok := reader.(*os.File); ok && offset == 0 && size == file.Size() && size >= sendable {
		return onDisk
	}
	return file
}

func (h *Handlers) media(w http.ResponseWriter, r *http.Request) {
	digest, ok := digestOf(r)
	if h.Media == nil || !ok {
		http.NotFound(w, r)
		return
	}
	file, size, err := h.Media.Open(digest)
	if err != nil {
		h.fail(w, r, err)
		return
	}
	defer func() { _ = file.Close() }()
	h.send(w, r, content{
		ReadSeeker: file, size: size, contentType: "application/octet-stream", etag: `"` + digest + `"`,
	}, pxe.Observation{Stage: pxe.StageMedia, Message: r.PathValue("name")})
}

// digestOf is the digest in a request's path.
func digestOf(r *http.Request) (string, bool) {
	digest := strings.ToLower(r.PathValue("sha256"))
	return digest, len(digest) == 64 && strings.Trim(digest, "0123456789abcdef") == ""
}

// content is a file to send.
type content struct {
	io.ReadSeeker
	size              int64
	modTime           time.Time
	contentType, etag string
}

func (h *Handlers) send(w http.ResponseWriter, r *http.Request, c content, seen pxe.Observation) {
	seen.From, seen.Total = remote(r), c.size
	m := &meter{
		ReadSeeker: c.ReadSeeker, backend: h.Backend, seen: seen, now: h.Now,
		response: http.NewResponseController(w), counter: h.meter(),
	}
	w.Header().Set("Content-Type", c.contentType)
	w.Header().Set("ETag", c.etag)
	http.ServeContent(w, r, "", c.modTime, m)
	m.finish()
	if h.Logger.Enabled(r.Context(), slog.LevelDebug) {
		h.Logger.Debug("HTTP", "path", r.URL.Path, "method", r.Method, "from", seen.From, "range", r.Header.Get("Range"), "end", m.at, "size", c.size)
	}
}

// initConfig hands out the init config, which consumes the claim: so there is no
// HEAD for it.
func (h *Handlers) initConfig(w http.ResponseWriter, r *http.Request) {
	h.handOut(w, r, func(doc pxe.Document) (pxe.Document, bool) { return doc, true })
}

// handOut gives out what choose takes of the init config.
func (h *Handlers) handOut(w http.ResponseWriter, r *http.Request, choose func(pxe.Document) (pxe.Document, bool)) {
	if r.Method != http.MethodGet {
		w.Header().Set("Allow", http.MethodGet)
		http.Error(w, "the init config is handed out by GET only", http.StatusMethodNotAllowed)
		return
	}
	mac, err := pxe.ParseMAC(r.PathValue("mac"))
	if err != nil {
		http.NotFound(w, r)
		return
	}
	doc, err := h.Backend.InitConfig(r.Context(), mac, remote(r))
	if err != nil {
		h.fail(w, r, err)
		return
	}
	doc, ok := choose(doc)
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", doc.ContentType)
	w.Header().Set("Cache-Control", "no-store")
	h.write(w, r, doc.Body)
}

func (h *Handlers) report(w http.ResponseWriter, r *http.Request) {
	claim, ok := bearer(r)
	if !ok {
		unauthorized(w)
		return
	}
	var report pxe.Report
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxReport)).Decode(&report); err != nil {
		status := http.StatusBadRequest
		if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
			status = http.StatusRequestEntityTooLarge
		}
		http.Error(w, "the body is not a report as JSON: "+err.Error(), status)
		return
	}
	if err := h.Backend.Report(r.Context(), claim, report, remote(r)); err != nil {
		h.fail(w, r, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (h *Handlers) credentials(w http.ResponseWriter, r *http.Request) {
	claim, ok := bearer(r)
	if !ok {
		unauthorized(w)
		return
	}
	archive, err := h.Backend.Credentials(r.Context(), claim, remote(r))
	if err != nil {
		h.fail(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/x-tar")
	w.Header().Set("Cache-Control", "no-store")
	h.write(w, r, archive)
}

func (h *Handlers) write(w http.ResponseWriter, r *http.Request, body []byte) {
	if _, err := io.Copy(w, bytes.NewReader(body)); err != nil {
		h.Logger.Warn("HTTP: a client went away", "path", r.URL.Path, "from", remote(r), "error", err)
	}
}

// fail answers an error: a refusal with its rule, for the machine to show; what
// cannot be answered yet with 503; an unknown name with 404; ours without its text,
// which may tell too much.
func (h *Handlers) fail(w http.ResponseWriter, r *http.Request, err error) {
	var refusal *pxe.Refusal
	var later *pxe.NotNow
	switch {
	case errors.As(err, &refusal):
		h.Logger.Info("HTTP: refused", "path", r.URL.Path, "from", remote(r), "rule", refusal.Rule)
		body, err := json.Marshal(struct {
			Rule    string `json:"rule"`
			Message string `json:"message"`
		}{refusal.Rule, refusal.Message})
		if err != nil {
			body = []byte(`{"rule":"Refused"}`)
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusForbidden)
		h.write(w, r, body)
	case errors.As(err, &later):
		h.Logger.Info("HTTP: not now", "path", r.URL.Path, "from", remote(r), "reason", err)
		after := later.After
		if after <= 0 {
			after = 5 * time.Second
		}
		w.Header().Set("Retry-After", strconv.Itoa(max(1, int(after.Round(time.Second).Seconds()))))
		http.Error(w, later.Message, http.StatusServiceUnavailable)
	case errors.Is(err, pxe.ErrNotFound), errors.Is(err, fs.ErrNotExist):
		h.Logger.Debug("HTTP: not found", "path", r.URL.Path, "from", remote(r))
		http.NotFound(w, r)
	default:
		h.Logger.Error("HTTP: cannot answer", "path", r.URL.Path, "from", remote(r), "error", err)
		http.Error(w, "internal error", http.StatusInternalServerError)
	}
}

// bearer reads the claim (RFC 6750 §2.1). It is a secret: it goes to the backend
// and nowhere else.
func bearer(r *http.Request) (string, bool) {
	scheme, claim, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	claim = strings.TrimSpace(claim)
	return claim, ok && strings.EqualFold(scheme, "Bearer") && claim != ""
}

func unauthorized(w http.ResponseWriter) {
	w.Header().Set("WWW-Authenticate", "Bearer")
	http.Error(w, "the claim is missing: send it as Authorization: Bearer", http.StatusUnauthorized)
}

func remote(r *http.Request) netip.Addr {
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return from.Addr().Unmap()
}
