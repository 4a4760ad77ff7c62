package provision

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestARefusedDownloadIsNoChecksums(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/sums" {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		_, _ = w.Write([]byte("sums"))
	}))
	defer server.Close()
	if got, err := FetchSums(t.Context(), server.URL+"/sums"); err != nil || string(got) != "sums" {
		t.Errorf("FetchSums = %q, %v", got, err)
	}
	if _, err := FetchSums(t.Context(), server.URL+"/other"); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("error = %v, want one about 404", err)
	}
}
