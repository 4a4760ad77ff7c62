package web

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rhizome-dev/rhizome/pxe"
	"github.com/rhizome-dev/rhizome/pxe/bootfs"
)

const digest = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// backend has one machine with an open claim, "claim".
type backend struct {
	mu       sync.Mutex
	seen     []pxe.Observation
	consumed int
	reports  []pxe.Report
}

func (*backend) Decide(m pxe.Machine) pxe.Decision {
	if m.MAC == "52:54:00:12:34:56" {
		return pxe.Decision{Action: pxe.BootLocal, Reason: "no open claim"}
	}
	return pxe.Decision{}
}

func (b *backend) Observe(o pxe.Observation) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.seen = append(b.seen, o)
}

func (b *backend) InitConfig(_ context.Context, mac pxe.MAC, from netip.Addr) (pxe.Document, error) {
	switch mac {
	case "52:54:00:12:34:56":
		b.consumed++
		return pxe.Document{ContentType: "application/json", Body: []byte(`{"from":"` + from.String() + `"}`)}, nil
	case "52:54:00:12:34:57":
		return pxe.Document{}, &pxe.Refusal{Rule: "ClaimExpired", Message: "the claim has expired: open a new one"}
	case "52:54:00:12:34:58":
		return pxe.Document{}, errors.New("a secret detail")
	case "52:54:00:12:34:60":
		return pxe.Document{}, &pxe.NotNow{Message: "the image is still being fetched", After: 7 * time.Second, Err: errors.New("a secret detail")}
	}
	return pxe.Document{}, pxe.ErrNotFound
}

func (b *backend) Report(_ context.Context, claim string, r pxe.Report, _ netip.Addr) error {
	if claim != "claim" {
		return &pxe.Refusal{Rule: "ClaimUnknown", Message: "no such claim"}
	}
	b.reports = append(b.reports, r)
	return nil
}

func (*backend) Credentials(_ context.Context, claim string, _ netip.Addr) ([]byte, error) {
	if claim != "claim" {
		return nil, &pxe.Refusal{Rule: "ClaimUnknown", Message: "no such claim"}
	}
	return []byte("tar"), nil
}

type media struct{}

type closer struct{ *bytes.Reader }

func (closer) Close() error { return nil }

func (media) Open(sum string) (io.ReadSeekCloser, int64, error) {
	if sum != digest {
		return nil, 0, fs.ErrNotExist
	}
	return closer{bytes.NewReader([]byte("0123456789"))}, 10, nil
}

func handlers(b *backend) *Handlers {
	files := fstest.MapFS{
		"loader/snponly.efi":      {Data: []byte("ipxe"), ModTime: time.Unix(1700000000, 0)},
		"installer/amd64/vmlinuz": {Data: []byte("kernel"), ModTime: time.Unix(1700000000, 0)},
		"secret":                  {Data: []byte("secret")},
	}
	return &Handlers{
		Table:   &bootfs.Table{Files: files, Backend: b, Server: netip.MustParseAddrPort("192.168.1.2:7480")},
		Backend: b, Media: media{}, Logger: slog.New(slog.DiscardHandler), Now: func() time.Time { return time.Unix(1700000001, 0) },
	}
}

// do asks the side that is served over TLS.
func do(h http.Handler, method, target string, body string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "http://host"+target, strings.NewReader(body))
	r.RemoteAddr = "192.168.1.77:1234"
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// wire is a connection from 192.168.1.77 on which the client has said all that it says.
type wire struct {
	net.Conn
	in  bytes.Reader
	out bytes.Buffer
}

func (w *wire) Read(b []byte) (int, error)     { return w.in.Read(b) }
func (w *wire) Write(b []byte) (int, error)    { return w.out.Write(b) }
func (*wire) Close() error                     { return nil }
func (*wire) SetDeadline(time.Time) error      { return nil }
func (*wire) SetReadDeadline(time.Time) error  { return nil }
func (*wire) SetWriteDeadline(time.Time) error { return nil }
func (*wire) RemoteAddr() net.Addr {
	return &net.TCPAddr{IP: net.IPv4(192, 168, 1, 77), Port: 1234}
}

// exchange sends bytes to the server in the clear and returns what it answers.
func exchange(h *Handlers, request []byte) []byte {
	w := &wire{in: *bytes.NewReader(request)}
	_ = h.PlainServer().ServeConn(w) // an error of the client's is in the answer
	return w.out.Bytes()
}

// ask asks the side in the clear, with the path as it stands, which a URL parser might
// tidy up.
func ask(h *Handlers, method, target, body string, headers ...string) *httptest.ResponseRecorder {
	var request bytes.Buffer
	fmt.Fprintf(&request, "%s %s HTTP/1.1\r\nHost: host\r\nConnection: close\r\n", method, target)
	if body != "" {
		fmt.Fprintf(&request, "Content-Length: %d\r\n", len(body))
	}
	for i := 0; i < len(headers); i += 2 {
		fmt.Fprintf(&request, "%s: %s\r\n", headers[i], headers[i+1])
	}
	fmt.Fprintf(&request, "\r\n%s", body)
	answer := exchange(h, request.Bytes())
	w := httptest.NewRecorder()
	response, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(answer)), &http.Request{Method: method})
	if err != nil {
		panic(fmt.Sprintf("%v: %q", err, answer))
	}
	defer response.Body.Close()
	for name, values := range response.Header {
		w.Header()[name] = values
	}
	if response.ContentLength >= 0 {
		w.Header().Set("Content-Length", strconv.FormatInt(response.ContentLength, 10))
	}
	if response.Close {
		w.Header().Set("Connection", "close")
	}
	w.WriteHeader(response.StatusCode)
	if _, err := io.Copy(w.Body, response.Body); err != nil {
		panic(err)
	}
	return w
}

func TestWhatIsServedInTheClear(t *testing.T) {
	for _, c := range []struct {
		method, path string
		status       int
		body         string // what it begins with
	}{
		{"GET", "/loader/snponly.efi", 200, "ipxe"},
		{"HEAD", "/loader/snponly.efi", 200, ""},
		{"GET", "//loader//snponly.efi", 200, "ipxe"},
		{"GET", "/snponly.efi", 200, "ipxe"},
		{"GET", `/\loader\snponly.efi`, 200, "ipxe"},
		{"GET", `/%5Cloader%5Csnponly.efi`, 200, "ipxe"},
		{"GET", "http://host/loader/snponly.efi", 200, "ipxe"},
		{"GET", "loader/snponly.efi", 400, "not a request"},
		{"GET", "/loader/../loader/snponly.efi", 200, "ipxe"},
		{"GET", "/loader/../secret", 404, ""},
		{"GET", "/loader/", 404, ""},
		{"GET", "/secret", 404, ""},
		{"GET", "/", 404, ""},
		{"GET", "", 400, "not a request"},
		{"GET", "/installer/amd64/vmlinuz", 200, "kernel"},
		{"GET", "/boot/52-54-00-12-34-56/ipxe", 200, "#!ipxe"},
		{"GET", "/boot/52:54:00:12:34:56/grub", 200, "# 52:54"},
		{"GET", "/boot/52:54:00:12:34:99/grub", 404, ""},
		{"GET", "/boot/nonsense/grub", 404, ""},
		{"GET", "/init/52:54:00:12:34:56", 200, `{"from":"192.168.1.77"}`},
		{"GET", "//init//01-52-54-00-12-34-56", 200, `{"from":"192.168.1.77"}`},
		{"HEAD", "/init/52:54:00:12:34:56", 405, ""},
		{"GET", "/init/52:54:00:12:34:57", 403, `{"rule":"ClaimExpired","message":"the claim has expired: open a new one"}`},
		{"GET", "/init/52:54:00:12:34:58", 500, "internal error\n"},
		{"GET", "/init/52:54:00:12:34:59", 404, ""},
		{"GET", "/init/x", 404, ""},
		{"GET", "/media/" + digest + "/image.raw.zst", 200, "0123456789"},
		{"GET", "/media/" + strings.ToUpper(digest) + "/image.raw.zst", 200, "0123456789"},
		{"GET", "/media/" + strings.Repeat("0", 64) + "/x", 404, ""},
		{"GET", "/media/../" + digest, 404, ""},
		{"GET", "/media/x/x", 404, ""},
		{"POST", "/loader/snponly.efi", 405, ""},
		{"PUT", "/init/52:54:00:12:34:56", 405, ""},
		{"DELETE", "/media/" + digest + "/x", 405, ""},
		{"OPTIONS", "/boot/52:54:00:12:34:56/ipxe", 405, ""},
		{"GET", "/v1/credentials", 404, ""},
		{"POST", "/v1/report", 405, ""},
	} {
		t.Run(c.method+" "+c.path, func(t *testing.T) {
			b := &backend{}
			w := ask(handlers(b), c.method, c.path, "", "Authorization", "Bearer claim")
			if w.Code != c.status {
				t.Fatalf("status %d, want %d: %s", w.Code, c.status, w.Body)
			}
			if w.Header().Get("Location") != "" {
				t.Error("redirected, which firmware does not follow")
			}
			if c.status < 400 || c.body != "" {
				if got := w.Body.String(); !strings.HasPrefix(got, c.body) {
					t.Errorf("got %q, want %q", got, c.body)
				}
			}
			if c.method == "HEAD" && b.consumed != 0 {
				t.Error("a HEAD consumed the claim")
			}
		})
	}
}

func TestARequestWithABodyIsTurnedAway(t *testing.T) {
	for _, body := range []string{"b", "body", strings.Repeat("body", 10000)} {
		w := ask(handlers(&backend{}), "GET", "/loader/snponly.efi", body)
		if w.Code != http.StatusBadRequest || w.Header().Get("Connection") != "close" || !strings.Contains(w.Body.String(), "no body") {
			t.Errorf("a body of %d bytes: status %d, headers %v: %s", len(body), w.Code, w.Header(), w.Body)
		}
	}
}

func TestAHeaderThatIsTooLargeIsTurnedAway(t *testing.T) {
	w := ask(handlers(&backend{}), "GET", "/loader/snponly.efi", "", "X-Long", strings.Repeat("x", maxHeader))
	if w.Code != http.StatusRequestHeaderFieldsTooLarge || !strings.Contains(w.Body.String(), "8192 bytes") {
		t.Errorf("status %d: %s", w.Code, w.Body)
	}
}

// panicking is a backend with a fault.
type panicking struct{ backend }

func (*panicking) Decide(pxe.Machine) pxe.Decision { panic("a secret detail") }

func TestAFaultOfOursEndsOneRequestOnly(t *testing.T) {
	h := handlers(&backend{})
	h.Table.Backend = &panicking{}
	w := ask(h, "GET", "/boot/52:54:00:12:34:56/ipxe", "")
	if w.Code != http.StatusInternalServerError || strings.Contains(w.Body.String(), "secret") {
		t.Errorf("status %d: %s", w.Code, w.Body)
	}
}

func TestFilesAreServedInParts(t *testing.T) {
	h := handlers(&backend{})
	const script = "/boot/52:54:00:12:34:56/ipxe"
	text := ask(h, "GET", script, "", "Range", "bytes=0-").Body.String()
	for path, whole := range map[string]string{"/loader/snponly.efi": "ipxe", "/media/" + digest + "/x": "0123456789", script: text} {
		full := ask(h, "GET", path, "")
		if head := ask(h, "HEAD", path, "", "Range", "bytes=2-"); head.Code != http.StatusOK || head.Header().Get("Content-Length") != strconv.Itoa(len(whole)) {
			t.Errorf("%s: the head of a part: status %d, headers %v", path, head.Code, head.Header())
		}
		if full.Body.String() != whole || full.Header().Get("Content-Length") != strconv.Itoa(len(whole)) {
			t.Errorf("%s: %q, headers %v", path, full.Body, full.Header())
		}
		tag := full.Header().Get("ETag")
		if tag == "" || full.Header().Get("Accept-Ranges") != "bytes" {
			t.Errorf("%s: headers %v", path, full.Header())
		}
		part := ask(h, "GET", path, "", "Range", "bytes=2-", "If-Range", tag)
		if part.Code != http.StatusPartialContent || part.Body.String() != whole[2:] {
			t.Errorf("%s: status %d, %q", path, part.Code, part.Body)
		}
		if changed := ask(h, "GET", path, "", "Range", "bytes=2-", "If-Range", `"other"`); changed.Code != http.StatusOK || changed.Body.String() != whole {
			t.Errorf("%s: of another version: status %d, %q", path, changed.Code, changed.Body)
		}
		if same := ask(h, "GET", path, "", "If-None-Match", tag); same.Code != http.StatusNotModified {
			t.Errorf("%s: unchanged: status %d", path, same.Code)
		}
		if out := ask(h, "GET", path, "", "Range", "bytes=10000-"); out.Code != http.StatusRequestedRangeNotSatisfiable {
			t.Errorf("%s: behind the end: status %d", path, out.Code)
		}
	}
	if got := ask(h, "GET", "/media/"+digest+"/x", "").Header().Get("ETag"); got != `"`+digest+`"` {
		t.Errorf("the tag of a file of the cache is %s, want its digest", got)
	}
}

func TestTheBackendHearsWhatWasFetched(t *testing.T) {
	from, now := netip.MustParseAddr("192.168.1.77"), time.Unix(1700000001, 0)
	const script = "boot/52:54:00:12:34:56/grub"
	size := int64(ask(handlers(&backend{}), "GET", "/"+script, "").Body.Len())
	for _, c := range []struct {
		method, path string
		headers      []string
		want         []pxe.Observation
	}{
		{"GET", "/loader/snponly.efi", nil, []pxe.Observation{{Time: now, From: from, Stage: pxe.StageLoader, Message: "loader/snponly.efi", Done: 4, Total: 4}}},
		{"GET", "/installer/amd64/vmlinuz", nil, []pxe.Observation{{Time: now, From: from, Stage: pxe.StageKernel, Message: "installer/amd64/vmlinuz", Done: 6, Total: 6}}},
		{"GET", "/media/" + digest + "/image", []string{"Range", "bytes=2-6"}, []pxe.Observation{{Time: now, From: from, Stage: pxe.StageMedia, Message: "image", Done: 7, Total: 10}}},
		{"GET", "/" + script, nil, []pxe.Observation{{Time: now, Machine: pxe.Machine{MAC: "52:54:00:12:34:56"}, From: from, Stage: pxe.StageConfig, Message: script, Done: size, Total: size}}},
		{"HEAD", "/loader/snponly.efi", nil, nil},
		{"HEAD", "/" + script, nil, nil},
		{"GET", "/loader/none", nil, nil},
	} {
		b := &backend{}
		ask(handlers(b), c.method, c.path, "", c.headers...)
		if diff := cmp.Diff(c.want, b.seen, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
			t.Errorf("%s %s (-want +got):\n%s", c.method, c.path, diff)
		}
	}
	b := &backend{}
	ask(handlers(b), "GET", "/boot/525400123456/grub", "")
	if len(b.seen) != 1 || b.seen[0].Machine.MAC != "52:54:00:12:34:56" || b.seen[0].Stage != pxe.StageConfig {
		t.Errorf("the config: %+v", b.seen)
	}
}

func TestProgressIsToldOnceASecond(t *testing.T) {
	b := &backend{}
	now := time.Unix(0, 0)
	const size = 10 * piece
	s := &stream{
		Reader: strings.NewReader(strings.Repeat("x", size)), left: size, backend: b, seen: pxe.Observation{Total: size},
		now: func() time.Time { return now }, conn: &wire{}, counter: pxe.Unmetered, close: func() error { return nil },
	}
	// Each piece takes a slow client 400 ms.
	n, err := s.WriteTo(writer(func(p []byte) (int, error) {
		now = now.Add(400 * time.Millisecond * time.Duration(len(p)) / piece)
		return len(p), nil
	}))
	if err != nil || n != size {
		t.Fatal(n, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	var done []int64
	for _, o := range b.seen {
		done = append(done, o.Done/piece)
	}
	if diff := cmp.Diff([]int64{3, 6, 9, 10}, done); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

type writer func([]byte) (int, error)

func (w writer) Write(b []byte) (int, error) { return w(b) }

func TestWhatIsServedOverTLS(t *testing.T) {
	report, err := json.Marshal(pxe.Report{Stage: pxe.StageInstalled, Message: "done"})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, method, path, authorization, body string
		status                                  int
		want                                    string
	}{
		{"report", "POST", "/v1/report", "Bearer claim", string(report), 204, ""},
		{"report, lower case", "POST", "/v1/report", "bearer claim", string(report), 204, ""},
		{"report, wrong claim", "POST", "/v1/report", "Bearer other", string(report), 403, `{"rule":"ClaimUnknown","message":"no such claim"}`},
		{"report, no claim", "POST", "/v1/report", "", string(report), 401, ""},
		{"report, empty claim", "POST", "/v1/report", "Bearer ", string(report), 401, ""},
		{"report, other scheme", "POST", "/v1/report", "Basic claim", string(report), 401, ""},
		{"report, no JSON", "POST", "/v1/report", "Bearer claim", "x", 400, ""},
		{"report, too long", "POST", "/v1/report", "Bearer claim", `{"message":"` + strings.Repeat("x", maxReport) + `"}`, 413, ""},
		{"report by GET", "GET", "/v1/report", "Bearer claim", "", 405, ""},
		{"credentials", "POST", "/v1/credentials", "Bearer claim", "", 200, "tar"},
		{"credentials, wrong claim", "POST", "/v1/credentials", "Bearer x", "", 403, `{"rule":"ClaimUnknown","message":"no such claim"}`},
		{"credentials, no claim", "POST", "/v1/credentials", "", "", 401, ""},
		{"credentials by GET", "GET", "/v1/credentials", "Bearer claim", "", 405, ""},
		{"boot files", "GET", "/loader/snponly.efi", "", "", 404, ""},
		{"init config", "GET", "/init/52:54:00:12:34:56", "", "", 404, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := &backend{}
			w := do(handlers(b).Secure(), c.method, c.path, c.body, "Authorization", c.authorization)
			if w.Code != c.status || c.want != "" && w.Body.String() != c.want {
				t.Errorf("status %d, %q; want %d, %q", w.Code, w.Body, c.status, c.want)
			}
			if (c.status == 204) != (len(b.reports) == 1) {
				t.Errorf("reports: %+v", b.reports)
			}
		})
	}
}

// A claim is a secret: whatever happens to a request, it is not in the log.
func TestAClaimIsNeverLogged(t *testing.T) {
	var log bytes.Buffer
	h := handlers(&backend{})
	h.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	for _, path := range []string{"/v1/report", "/v1/credentials", "/v1/none"} {
		for _, body := range []string{"{}", "no JSON"} {
			do(h.Secure(), "POST", path, body, "Authorization", "Bearer very-secret")
		}
	}
	if log.Len() == 0 {
		t.Error("nothing was logged: this proves nothing")
	}
	if strings.Contains(log.String(), "very-secret") {
		t.Errorf("the claim is in the log:\n%s", &log)
	}
}

// Whatever comes, the server goes on: no redirect, no fault of ours, and no file but
// those of the table.
func FuzzRequest(f *testing.F) {
	for _, path := range []string{"/loader/snponly.efi", `\\loader\\..\\secret`, "/boot/525400123456/ipxe", "/init/x", "/media/x/y", "//", "/loader/%2e%2e/secret", "*"} {
		for _, rest := range []string{"", "Range: bytes=1-2\r\n", "If-None-Match: \"x\"\r\n", "Expect: 100-continue\r\nContent-Length: 1\r\n", "Transfer-Encoding: chunked\r\n"} {
			f.Add([]byte("GET " + path + " HTTP/1.1\r\nHost: host\r\nConnection: close\r\n" + rest + "\r\n"))
		}
		f.Add([]byte("HEAD " + path + " HTTP/1.0\r\n\r\n"))
	}
	f.Fuzz(func(t *testing.T, request []byte) {
		var log bytes.Buffer
		h := handlers(&backend{})
		h.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelError}))
		answer := exchange(h, request)
		if bytes.Contains(log.Bytes(), []byte(" stack=")) {
			t.Fatalf("%q: a handler panicked: %s", request, &log)
		}
		status, _, _ := bytes.Cut(bytes.TrimPrefix(answer, []byte("HTTP/1.1 ")), []byte(" "))
		if bytes.HasPrefix(status, []byte("3")) && string(status) != "304" || bytes.Contains(answer, []byte("secret")) {
			t.Fatalf("%q: %s", request, answer)
		}
	})
}

func TestWhatCannotBeAnsweredYetIsAskedForAgain(t *testing.T) {
	w := ask(handlers(&backend{}), "GET", "/init/52:54:00:12:34:60", "")
	if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") != "7" || !strings.Contains(w.Body.String(), "still being fetched") {
		t.Errorf("answered %d, Retry-After %q: %s", w.Code, w.Header().Get("Retry-After"), w.Body)
	}
	if strings.Contains(w.Body.String(), "secret") {
		t.Errorf("the answer tells our own error: %s", w.Body)
	}
}

// tally is a pxe.Meter.
type tally struct {
	requests map[string]int
	sent     map[pxe.Protocol]int64
}

func (*tally) Packet(string, pxe.Action, bool) {}
func (t *tally) Request(p pxe.Protocol, result string) {
	t.requests[string(p)+" "+result]++
}
func (t *tally) Sent(p pxe.Protocol, n int64) { t.sent[p] += n }

func TestRequestsAndBytesAreCounted(t *testing.T) {
	h := handlers(&backend{})
	count := &tally{map[string]int{}, map[pxe.Protocol]int64{}}
	h.Meter = count
	ask(h, "GET", "/media/"+digest+"/image", "")
	ask(h, "GET", "/media/"+digest+"/image", "", "Range", "bytes=4-")
	ask(h, "HEAD", "/media/"+digest+"/image", "")
	ask(h, "GET", "/nothing", "")
	ask(h, "GET", "/init/52:54:00:12:34:57", "")
	do(h.Secure(), "POST", "/v1/credentials", "")
	want := map[string]int{"HTTP 200": 2, "HTTP 206": 1, "HTTP 404": 1, "HTTP 403": 1, "HTTPS 401": 1}
	if diff := cmp.Diff(want, count.requests); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
	if count.sent[pxe.ProtocolHTTP] != 16 {
		t.Errorf("%d bytes sent, want 16", count.sent[pxe.ProtocolHTTP])
	}
}
