// Package web serves what machines fetch by HTTP: boot files, their scripts,
// init configs and media in the clear; reports and credentials over TLS.
//
// The side in the clear stands on fasthttp, for it is the one that hundreds of machines
// ask at once; the other on net/http.
package web

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"github.com/rhizome-dev/rhizome/pxe"
	"github.com/rhizome-dev/rhizome/pxe/bootfs"
)

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

// answer is what a request gets that gets no file.
type answer struct {
	status      int
	contentType string
	body        []byte
	retryAfter  string // seconds; empty: not said
}

const plainText = "text/plain; charset=utf-8"

func text(status int, body string) answer {
	return answer{status: status, contentType: plainText, body: []byte(body + "\n")}
}

func notFound() answer { return text(http.StatusNotFound, "404 page not found") }

// answerTo answers an error: a refusal with its rule, for the machine to show; what
// cannot be answered yet with 503; an unknown name with 404; ours without its text,
// which may tell too much.
func (h *Handlers) answerTo(err error, path string, from netip.Addr) answer {
	var refusal *pxe.Refusal
	var later *pxe.NotNow
	switch {
	case errors.As(err, &refusal):
		h.Logger.Info("HTTP: refused", "path", path, "from", from, "rule", refusal.Rule)
		body, err := json.Marshal(struct {
			Rule    string `json:"rule"`
			Message string `json:"message"`
		}{refusal.Rule, refusal.Message})
		if err != nil {
			body = []byte(`{"rule":"Refused"}`)
		}
		return answer{status: http.StatusForbidden, contentType: "application/json", body: body}
	case errors.As(err, &later):
		h.Logger.Info("HTTP: not now", "path", path, "from", from, "reason", err)
		after := later.After
		if after <= 0 {
			after = 5 * time.Second
		}
		a := text(http.StatusServiceUnavailable, later.Message)
		a.retryAfter = strconv.Itoa(max(1, int(after.Round(time.Second).Seconds())))
		return a
	case errors.Is(err, pxe.ErrNotFound), errors.Is(err, fs.ErrNotExist):
		h.Logger.Debug("HTTP: not found", "path", path, "from", from)
		return notFound()
	}
	h.Logger.Error("HTTP: cannot answer", "path", path, "from", from, "error", err)
	return text(http.StatusInternalServerError, "internal error")
}
