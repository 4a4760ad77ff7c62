//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// configClients ask for a small config at once, mediaClients for a large file.
	configClients = 32
	mediaClients  = 4
)

// measureHTTP has wrk ask for a config, for the same bytes as a file, and for media.
// Our service decides each time what the config says, and nginx has it as a file; the
// others are files with both. A machine asks for its config once, on a connection of
// its own, so that is measured too, beside connections that are kept. What the libraries
// do by themselves is measured with the config's text in memory.
func (b *pxeBench) measureHTTP(ctx context.Context) error {
	config := fmt.Sprintf("/boot/%s/ipxe", macOf(0))
	const file = "/loader/config.ipxe"
	image := fmt.Sprintf("/media/%s/%s", b.media.SHA256, b.media.Name)
	root := filepath.Join(b.dir, "www")
	var text []byte // of the config, as our service says it
	alone := func(library string) subject {
		return subject{library, func(ctx context.Context) (*daemon, error) {
			return startService(ctx, b.server, serviceConfig{Address: serverAddress, Text: text, Library: library})
		}}
	}
	subjects := []subject{
		{ours, func(ctx context.Context) (*daemon, error) { return b.startOurs(ctx, "http") }},
		{"nginx", func(ctx context.Context) (*daemon, error) { return b.startNginx(ctx, root) }},
		alone(fastHTTP), alone(netHTTP),
	}
	ready := func(ctx context.Context) error {
		_, err := b.get(ctx, config)
		return err
	}
	found, err := b.measureEach(ctx, subjects, ready, func(ctx context.Context, name string) (figures, error) {
		if name == ours {
			var err error
			if text, err = b.get(ctx, config); err != nil {
				return nil, err
			}
			if err := os.WriteFile(filepath.Join(b.bootFiles, filepath.FromSlash(file)), text, 0o644); err != nil {
				return nil, err
			}
			if err := b.copyTo(ctx, root, config, file, image); err != nil {
				return nil, err
			}
		}
		f := figures{}
		paths := []struct{ what, path string }{{"config", config}, {"config as a file", file}}
		alone := name == fastHTTP || name == netHTTP
		if alone {
			paths = paths[:1]
		}
		for _, small := range paths {
			for how, header := range map[string]string{"a connection each": "Connection: close", "connections kept": "Connection: keep-alive"} {
				got, err := b.wrk(ctx, configClients, small.path, "--header", header)
				if err != nil {
					return nil, err
				}
				f[small.what+", "+how+": requests/s"] = got.requests
			}
		}
		if alone {
			return f, nil
		}
		large, err := b.wrk(ctx, mediaClients, image)
		f["media: MB/s"] = large.bytes / 1e6
		return f, err
	})
	if err != nil {
		return err
	}
	b.table.compare("HTTP, ", subjects, found)
	b.table.rows = append(b.table.rows, row{"HTTP, media: MB/s", found[ours]["media: MB/s"], "raw TCP", b.floor / 1e6})
	return nil
}

// copyTo puts what our service serves under a directory.
func (b *pxeBench) copyTo(ctx context.Context, root string, paths ...string) error {
	for _, path := range paths {
		body, err := b.get(ctx, path)
		if err != nil {
			return err
		}
		file := filepath.Join(root, filepath.FromSlash(path))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(file, body, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func (b *pxeBench) get(ctx context.Context, path string) ([]byte, error) {
	client := http.Client{Transport: &http.Transport{DialContext: b.client.DialContext, DisableKeepAlives: true}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+httpAddress.String()+path, nil)
	if err != nil {
		return nil, err
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("cannot fetch %s: %s", path, response.Status)
	}
	return io.ReadAll(response.Body)
}

// fetched is what wrk says, a second.
type fetched struct{ requests, bytes float64 }

func (b *pxeBench) wrk(ctx context.Context, clients int, path string, more ...string) (fetched, error) {
	ctx, cancel := context.WithTimeout(ctx, b.duration+30*time.Second)
	defer cancel()
	args := append([]string{
		"--threads", "1", "--connections", strconv.Itoa(clients),
		"--duration", fmt.Sprintf("%.0fs", math.Floor(b.duration.Seconds())), "--timeout", "20s",
	}, more...)
	cmd, err := b.peers.command(ctx, b.client, "wrk", append(args, "http://"+httpAddress.String()+path)...)
	if err != nil {
		return fetched{}, err
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fetched{}, fmt.Errorf("wrk: %w: %s", err, out)
	}
	return parseWrk(string(out))
}

var (
	wrkRequests = regexp.MustCompile(`(?m)^Requests/sec: +([0-9.]+)$`)
	wrkTransfer = regexp.MustCompile(`(?m)^Transfer/sec: +([0-9.]+)([KMGT]?)B$`)
	wrkErrors   = regexp.MustCompile(`(?m)^ +(Socket errors|Non-2xx).*$`)
)

// parseWrk reads wrk's report, whose units are powers of 1024. A request that
// failed makes it worthless.
func parseWrk(report string) (fetched, error) {
	requests, transfer := wrkRequests.FindStringSubmatch(report), wrkTransfer.FindStringSubmatch(report)
	if bad := wrkErrors.FindString(report); bad != "" || requests == nil || transfer == nil {
		return fetched{}, fmt.Errorf("wrk had errors, or cannot be understood:\n%s", report)
	}
	perSecond, err1 := strconv.ParseFloat(requests[1], 64)
	bytes, err2 := strconv.ParseFloat(transfer[1], 64)
	unit := map[string]float64{"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}[transfer[2]]
	return fetched{perSecond, bytes * unit}, errors.Join(err1, err2)
}

// measureFloor is what the link carries: the media file sent over raw TCP by
// sendfile(2), over and over, to as many clients as fetch media.
func (b *pxeBench) measureFloor(ctx context.Context) error {
	listener, err := b.server.Listen("tcp4", httpAddress.String())
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, b.duration)
	defer cancel()
	var servers, clients sync.WaitGroup
	servers.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			servers.Go(func() { b.sendMedia(conn) })
		}
	})
	var received atomic.Int64
	errs := make([]error, mediaClients)
	begin := time.Now()
	for i := range errs {
		clients.Go(func() { errs[i] = b.receive(ctx, httpAddress, &received) })
	}
	clients.Wait()
	took := time.Since(begin)
	err = listener.Close()
	servers.Wait()
	b.floor = float64(received.Load()) / took.Seconds()
	progress("raw TCP: %.0f MB/s", b.floor/1e6)
	return errors.Join(append(errs, err)...)
}

// sendMedia sends until the client goes away.
func (b *pxeBench) sendMedia(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	for {
		file, err := os.Open(b.media.Path)
		if err != nil {
			return
		}
		_, err = io.Copy(conn, file)
		_ = file.Close()
		if err != nil {
			return
		}
	}
}

// receive counts what comes until ctx ends.
func (b *pxeBench) receive(ctx context.Context, from netip.AddrPort, received *atomic.Int64) error {
	conn, err := b.client.DialContext(ctx, "tcp4", from.String())
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	buf := make([]byte, 256<<10)
	for ctx.Err() == nil {
		n, err := conn.Read(buf)
		received.Add(int64(n))
		if err != nil {
			return err
		}
	}
	return nil
}
