package web

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/netip"
	"strconv"
	"strings"

	"github.com/rhizome-dev/rhizome/pxe"
)

// maxReport is the largest report that is read, in bytes.
const maxReport = 64 << 10

// Secure is the handler of the side that is served over TLS only.
func (h *Handlers) Secure() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/report", h.report)
	mux.HandleFunc("POST /v1/credentials", h.credentials)
	return counted(h.meter(), mux)
}

// counted tells the meter of every request that has ended.
func counted(meter pxe.Meter, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s := &statusWriter{ResponseWriter: w, status: http.StatusOK}
		// Deferred, for a handler that gives up by a panic.
		defer func() { meter.Request(pxe.ProtocolHTTPS, strconv.Itoa(s.status)) }()
		next.ServeHTTP(s, r)
	})
}

// statusWriter remembers the status.
type statusWriter struct {
	http.ResponseWriter
	status int
}

// WriteHeader implements http.ResponseWriter.
func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

func (h *Handlers) report(w http.ResponseWriter, r *http.Request) {
	claim, ok := bearer(r)
	if !ok {
		h.unauthorized(w, r)
		return
	}
	var report pxe.Report
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxReport)).Decode(&report); err != nil {
		status := http.StatusBadRequest
		if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
			status = http.StatusRequestEntityTooLarge
		}
		h.write(w, r, text(status, "the body is not a report as JSON: "+err.Error()))
		return
	}
	if err := h.Backend.Report(r.Context(), claim, report, remote(r)); err != nil {
		h.write(w, r, h.answerTo(err, r.URL.Path, remote(r)))
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (h *Handlers) credentials(w http.ResponseWriter, r *http.Request) {
	claim, ok := bearer(r)
	if !ok {
		h.unauthorized(w, r)
		return
	}
	archive, err := h.Backend.Credentials(r.Context(), claim, remote(r))
	if err != nil {
		h.write(w, r, h.answerTo(err, r.URL.Path, remote(r)))
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	h.write(w, r, answer{status: http.StatusOK, contentType: "application/x-tar", body: archive})
}

func (h *Handlers) write(w http.ResponseWriter, r *http.Request, a answer) {
	w.Header().Set("Content-Type", a.contentType)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if a.retryAfter != "" {
		w.Header().Set("Retry-After", a.retryAfter)
	}
	w.WriteHeader(a.status)
	if _, err := w.Write(a.body); err != nil {
		h.Logger.Warn("HTTP: a client went away", "path", r.URL.Path, "from", remote(r), "error", err)
	}
}

// bearer reads the claim (RFC 6750 §2.1). It is a secret: it goes to the backend
// and nowhere else.
func bearer(r *http.Request) (string, bool) {
	scheme, claim, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	claim = strings.TrimSpace(claim)
	return claim, ok && strings.EqualFold(scheme, "Bearer") && claim != ""
}

func (h *Handlers) unauthorized(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("WWW-Authenticate", "Bearer")
	h.write(w, r, text(http.StatusUnauthorized, "the claim is missing: send it as Authorization: Bearer"))
}

func remote(r *http.Request) netip.Addr {
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return from.Addr().Unmap()
}
