package web

import (
	"net/http"
	"strings"
	"testing"
)

// Whatever a machine sends for a report and a claim, it is taken under the claim as
// the JSON that it is, or refused by one of the statuses that are known.
func FuzzReport(f *testing.F) {
	f.Add("Bearer claim", []byte(`{"stage":"Installing","step":"image","done":1,"total":2}`))
	f.Add("bearer  claim", []byte(`{"stage":"Failed","message":"no disk","uuid":"x","disk":"/dev/sda"}{`))
	f.Add("Bearer", []byte(`{"stage":`))
	f.Add("Bearer clain", []byte(`null`))
	f.Add("Basic claim", []byte(`{"done":1e999}`))
	f.Add("", []byte(strings.Repeat("[", 100000)))
	f.Fuzz(func(t *testing.T, authorization string, body []byte) {
		b := &backend{}
		w := do(handlers(b).Secure(), http.MethodPost, "/v1/report", string(body), "Authorization", authorization)
		claim := strings.TrimSpace(strings.TrimLeft(authorization[min(len(authorization), len("Bearer")):], " "))
		switch w.Code {
		case http.StatusNoContent:
			if len(b.reports) != 1 || claim != "claim" {
				t.Errorf("taken under %q: %+v", authorization, b.reports)
			}
		case http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusRequestEntityTooLarge:
			if len(b.reports) != 0 {
				t.Errorf("status %d, and %+v was taken", w.Code, b.reports)
			}
		default:
			t.Errorf("status %d: %s", w.Code, w.Body)
		}
	})
}
