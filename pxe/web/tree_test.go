package web

import (
	"bytes"
	"context"
	"io"
	"io/fs"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/rhizome-dev/rhizome/pxe"
	"github.com/rhizome-dev/rhizome/pxe/media/tree"
)

// shelf has files by their digests.
type shelf map[string]string

func (s shelf) Open(sum string) (io.ReadSeekCloser, int64, error) {
	body, ok := s[sum]
	if !ok {
		return nil, 0, fs.ErrNotExist
	}
	return closer{bytes.NewReader([]byte(body))}, int64(len(body)), nil
}

func TestTheFilesOfAnInstallerAreServedAsATree(t *testing.T) {
	kernel, listing := strings.Repeat("1", 64), strings.Repeat("2", 64)
	body, err := tree.Listing([]tree.Entry{{Path: "images/linux", SHA256: kernel}, {Path: "gone", SHA256: strings.Repeat("3", 64)}})
	if err != nil {
		t.Fatal(err)
	}
	b := &backend{}
	h := handlers(b)
	h.Media = shelf{kernel: "the kernel", listing: string(body), strings.Repeat("4", 64): "no tree"}
	for path, want := range map[string]int{
		"/tree/" + listing + "/images/linux":                  http.StatusOK,
		"/tree/" + strings.ToUpper(listing) + "/images/linux": http.StatusOK,
		"//tree/" + listing + "//images\\linux":               http.StatusOK,
		"/tree/" + listing + "/images":                        http.StatusNotFound,
		"/tree/" + listing + "/gone":                          http.StatusNotFound,
		"/tree/" + listing + "/":                              http.StatusNotFound,
		"/tree/" + listing:                                    http.StatusNotFound,
		"/tree/" + listing + "/../../../etc/passwd":           http.StatusNotFound,
		"/tree/" + strings.Repeat("5", 64) + "/linux":         http.StatusNotFound,
		"/tree/x/linux":                                       http.StatusNotFound,
		"/tree/" + strings.Repeat("4", 64) + "/linux":         http.StatusInternalServerError,
	} {
		r := ask(h, http.MethodGet, path, "")
		if r.Code != want || r.Code == http.StatusOK && r.Body.String() != "the kernel" {
			t.Errorf("%s: %d %q, want %d", path, r.Code, r.Body, want)
		}
		if r.Code != http.StatusOK && strings.Contains(r.Body.String(), "ISO") {
			t.Errorf("%s: tells what it should not: %s", path, r.Body)
		}
	}
	r := ask(h, http.MethodGet, "/tree/"+listing+"/images/linux", "", "Range", "bytes=4-9")
	if r.Code != http.StatusPartialContent || r.Body.String() != "kernel" || r.Header().Get("ETag") != `"`+kernel+`"` {
		t.Errorf("a part: %d %q, ETag %s", r.Code, r.Body, r.Header().Get("ETag"))
	}
	if last := b.seen[len(b.seen)-1]; last.Stage != pxe.StageMedia || last.Message != "images/linux" {
		t.Errorf("observed %+v", last)
	}
}

// several is a backend whose init config has several documents.
type several struct{ backend }

func (s *several) InitConfig(ctx context.Context, mac pxe.MAC, from netip.Addr) (pxe.Document, error) {
	doc, err := s.backend.InitConfig(ctx, mac, from)
	doc.Parts = map[string]pxe.Document{"user-data": {ContentType: "text/plain", Body: []byte("#cloud-config\n")}}
	return doc, err
}

func TestAnInitConfigMayHaveSeveralDocuments(t *testing.T) {
	h := handlers(&backend{})
	h.Backend = &several{}
	for path, want := range map[string]int{
		"/init/52:54:00:12:34:56/user-data":   http.StatusOK,
		"/init/52-54-00-12-34-56//user-data":  http.StatusOK,
		"/init/52:54:00:12:34:56/vendor-data": http.StatusNotFound,
		"/init/52:54:00:12:34:56/a/b":         http.StatusNotFound,
		"/init/52:54:00:12:34:57/user-data":   http.StatusForbidden,
		"/init/52:54:00:12:34:99/user-data":   http.StatusNotFound,
		"/init/nobody/user-data":              http.StatusNotFound,
	} {
		r := ask(h, http.MethodGet, path, "")
		if r.Code != want || want == http.StatusOK && (r.Body.String() != "#cloud-config\n" || r.Header().Get("Cache-Control") != "no-store") {
			t.Errorf("%s: %d %q, want %d", path, r.Code, r.Body, want)
		}
	}
	if r := ask(h, http.MethodHead, "/init/52:54:00:12:34:56/user-data", ""); r.Code != http.StatusMethodNotAllowed {
		t.Errorf("HEAD consumes the claim: %d", r.Code)
	}
}
