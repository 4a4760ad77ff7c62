package web

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rhizome-dev/rhizome/pxe"
)

// Files on the disk take another way to the client than all others: over a real
// connection, by pieces.
func TestFilesOnTheDiskArriveWhole(t *testing.T) {
	kernel := make([]byte, 3*piece+1234)
	for i := range kernel {
		kernel[i] = byte(i / 1000)
	}
	dir := t.TempDir()
	for name, content := range map[string][]byte{"loader/snponly.efi": []byte("ipxe"), "installer/amd64/vmlinuz": kernel} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name, path, span string
		status           int
		want             []byte
		stage            pxe.Stage
		done             int64
	}{
		{"whole", "/installer/amd64/vmlinuz", "", 200, kernel, pxe.StageKernel, int64(len(kernel))},
		{"the rest", "/installer/amd64/vmlinuz", "bytes=300000-", 206, kernel[300000:], pxe.StageKernel, int64(len(kernel))},
		{"a part", "/installer/amd64/vmlinuz", "bytes=7-262150", 206, kernel[7:262151], pxe.StageKernel, 262151},
		{"less than a piece", "/snponly.efi", "", 200, []byte("ipxe"), pxe.StageLoader, 4},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := &backend{}
			h := handlers(b)
			h.Table.Files = os.DirFS(dir)
			ticks := 0
			h.Now = func() time.Time { // each piece is told of
				ticks++
				return time.Unix(int64(ticks), 0)
			}
			l, err := net.Listen("tcp4", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			server, ended := h.PlainServer(), make(chan error, 1)
			go func() { ended <- server.Serve(l) }()
			request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+l.Addr().String()+c.path, nil)
			if err != nil {
				t.Fatal(err)
			}
			if c.span != "" {
				request.Header.Set("Range", c.span)
			}
			response, err := http.DefaultClient.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			got, err := io.ReadAll(response.Body)
			if err != nil {
				t.Fatal(err)
			}
			if response.StatusCode != c.status || !bytes.Equal(got, c.want) {
				t.Errorf("status %d and %d bytes, want %d and %d", response.StatusCode, len(got), c.status, len(c.want))
			}
			// Waits for the handler.
			if err := errors.Join(server.Shutdown(), <-ended); err != nil {
				t.Fatal(err)
			}
			last := b.seen[len(b.seen)-1]
			if last.Stage != c.stage || last.Done != c.done || last.Total < c.done {
				t.Errorf("observed last: %+v", last)
			}
			if pieces := (len(c.want) + piece - 1) / piece; len(b.seen) != pieces {
				t.Errorf("told of %d times, want %d", len(b.seen), pieces)
			}
		})
	}
}
