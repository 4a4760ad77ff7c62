package web

import (
	"io"
	"net/http"
	"strconv"

	"github.com/rhizome-dev/rhizome/pxe"
)

// counted tells the meter of every request that has ended.
func counted(protocol pxe.Protocol, meter pxe.Meter, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s := &statusWriter{ResponseWriter: w, status: http.StatusOK}
		// Deferred, for a handler that gives up by a panic.
		defer func() { meter.Request(protocol, strconv.Itoa(s.status)) }()
		next.ServeHTTP(s, r)
	})
}

// statusWriter remembers the status. It hides nothing of the ResponseWriter that a
// fast copy needs.
type statusWriter struct {
	http.ResponseWriter
	status int
}

// WriteHeader implements http.ResponseWriter.
func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// ReadFrom implements io.ReaderFrom. A file on its way is sent by the kernel where
// that is possible.
func (w *statusWriter) ReadFrom(r io.Reader) (int64, error) {
	if part, ok := r.(*io.LimitedReader); ok {
		if m, ok := part.R.(*meter); ok && m.onDisk() {
			n, err := m.send(w.ResponseWriter, part.N)
			part.N -= n
			return n, err
		}
	}
	// The response's own ReadFrom would send the header apart from the body.
	return io.Copy(struct{ io.Writer }{w.ResponseWriter}, r)
}

// Unwrap is for http.ResponseController.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
