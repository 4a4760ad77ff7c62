package source

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
	"unicode"
)

// answers gives every request the same answer.
type answers struct {
	code       int
	kind, body string
}

// RoundTrip implements http.RoundTripper.
func (a answers) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{
		StatusCode: a.code, Header: http.Header{"Content-Type": {a.kind}}, Request: r,
		Body: io.NopCloser(bytes.NewReader([]byte(a.body))), ContentLength: int64(len(a.body)),
	}, nil
}

// Whatever answers in the place of a Gitea, only one that tells a version that can be
// used is taken for one, and what people are shown of it is a line.
func FuzzGiteaVersion(f *testing.F) {
	f.Add(200, "application/json", `{"version":"1.24.6+gitea-1.24.0"}`)
	f.Add(200, "application/json; charset=utf-8", `{"version":"1.19.0"}`)
	f.Add(200, "text/html", `<html>`)
	f.Add(503, ";", ``)
	f.Add(200, "application/json", `{"version":"`+strings.Repeat("9", 99)+`.1.1"}`)
	f.Fuzz(func(t *testing.T, code int, kind, body string) {
		g := Gitea{URL: "http://gitea.test", Client: &http.Client{Transport: answers{code, kind, body}}}
		state, why := g.version(t.Context())
		if strings.ContainsFunc(why, unicode.IsControl) || len(why) > 1024 {
			t.Errorf("%d %q %q is told as %q", code, kind, body, why)
		}
		if state == Present && (code != http.StatusOK || !strings.Contains(body, "ersion")) {
			t.Errorf("%d %q %q is taken for a Gitea", code, kind, body)
		}
	})
}
