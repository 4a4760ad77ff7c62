package cluster

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"k8s.io/client-go/rest"
)

// fakeAPIServer stands for an API server that is not ready: a real one that lacks
// its etcd is nothing that a test could have at will. Its answers are what a real
// one was seen to answer.
func fakeAPIServer(t *testing.T, code int, body string) *rest.Config {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/readyz" {
			t.Errorf("asked for %s", r.URL)
		}
		w.WriteHeader(code)
		fmt.Fprint(w, body)
	}))
	t.Cleanup(s.Close)
	return &rest.Config{Host: s.URL}
}

func TestReadyz(t *testing.T) {
	closed := fakeAPIServer(t, http.StatusOK, "ok")
	closed.Host = "http://127.0.0.1:1"
	tests := []struct {
		reason string
		cfg    *rest.Config
		want   string // a part; empty: nothing at all
	}{
		{"a ready one has nothing against it", fakeAPIServer(t, http.StatusOK, "ok"), ""},
		{"one that lacks something names it", fakeAPIServer(t, http.StatusInternalServerError, "[+]ping ok\n[-]etcd failed: reason withheld\nreadyz check failed\n"), "etcd failed: reason withheld"},
		{"one that names nothing is not ready all the same", fakeAPIServer(t, http.StatusServiceUnavailable, ""), "unable to handle the request"},
		{"one that does not answer is not ready", closed, "connection refused"},
	}
	for _, tc := range tests {
		t.Run(tc.reason, func(t *testing.T) {
			ask, err := readyz(tc.cfg)
			if err != nil {
				t.Fatal(err)
			}
			got := ask(t.Context())
			if (tc.want == "") != (got == "") || !strings.Contains(got, tc.want) {
				t.Errorf("it answered %q, want %q", got, tc.want)
			}
		})
	}
}
