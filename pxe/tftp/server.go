// Package tftp serves the boot files that firmware cannot fetch by HTTP.
package tftp

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/pin/tftp/v3"

	"github.com/rhizome-dev/rhizome/pxe"
	"github.com/rhizome-dev/rhizome/pxe/bootfs"
)

// Port is TFTP's (RFC 1350).
const Port = 69

const (
	// maxBlock fills an Ethernet frame: 1500 less the headers of IP, UDP and TFTP.
	maxBlock = 1468
	// readAhead is how much of a file is read at a time, in bytes.
	readAhead = 32 << 10
	// maxTransfers at once, in all and to one address. Firmware needs one or two.
	maxTransfers, maxTransfersEach = 256, 8
	// maxDuration of a transfer. The largest loader takes a second.
	maxDuration = 5 * time.Minute
	// timeout and retries for one block: firmware asks again by itself.
	timeout, retries = 2 * time.Second, 5
	// grace is how long Serve waits for transfers when it is told to end.
	grace = 3 * time.Second
)

// Server serves the boot table, read-only. All fields but Meter must be set.
type Server struct {
	Conn    net.PacketConn // bound to our address and Port
	Table   *bootfs.Table
	Backend pxe.Backend
	Logger  *slog.Logger
	Now     func() time.Time
	Meter   pxe.Meter // nil: nobody counts

	mu     sync.Mutex
	active map[netip.Addr]int
	total  int
}

// Serve answers until ctx ends, then closes Conn.
func (s *Server) Serve(ctx context.Context) error {
	server := tftp.NewServer(func(name string, to io.ReaderFrom) error { return s.send(ctx, name, to) }, nil)
	// Each transfer has a port of its own: the library's mode with one port for
	// all of them clamps blocks to 512 bytes.
	server.SetBlockSize(maxBlock)
	server.SetTimeout(timeout)
	server.SetRetries(retries)

	stopped := make(chan struct{})
	go func() {
		<-ctx.Done()
		server.Shutdown()
		close(stopped)
	}()
	err := server.Serve(s.Conn)
	if ctx.Err() == nil {
		return fmt.Errorf("the TFTP server ended: %w", err)
	}
	select {
	case <-stopped:
	case <-time.After(grace):
		s.Logger.Info("left unfinished TFTP transfers behind")
	}
	return nil
}

// send answers one read request. The error is told to the client.
func (s *Server) send(ctx context.Context, name string, to io.ReaderFrom) error {
	var from netip.Addr
	if t, ok := to.(tftp.OutgoingTransfer); ok {
		remote := t.RemoteAddr()
		from = remote.AddrPort().Addr().Unmap()
	}
	if !s.enter(from) {
		s.meter().Request(pxe.ProtocolTFTP, pxe.TFTPBusy)
		return errors.New("too many transfers: try again")
	}
	defer s.leave(from)

	file, err := s.Table.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		s.meter().Request(pxe.ProtocolTFTP, pxe.TFTPMissing)
		// shim probes for files that are optional; their absence is no event.
		s.Logger.Debug("TFTP: no such file", "file", name, "from", from)
		return errors.New("file not found")
	}
	if err != nil {
		s.meter().Request(pxe.ProtocolTFTP, pxe.TFTPFailed)
		s.Logger.Error("TFTP: cannot serve a file", "file", name, "from", from, "error", err)
		return errors.New("cannot serve the file")
	}
	defer func() { _ = file.Close() }()

	start := s.Now()
	n, err := to.ReadFrom(newAhead(&limited{ReadSeeker: file, ctx: ctx, until: start.Add(maxDuration), now: s.Now}))
	s.meter().Sent(pxe.ProtocolTFTP, n)
	seen := pxe.Observation{
		Time: s.Now(), Machine: pxe.Machine{MAC: file.MAC}, From: from, Stage: file.Stage,
		Message: file.Name, Done: n, Total: file.Size(),
	}
	switch {
	case n == 0 && err != nil && strings.Contains(err.Error(), "sending block 0: code="):
		// The client wanted the size (RFC 2349 tsize) and aborts with an ERROR, mostly
		// of code 8, to ask again for the file itself.
		s.meter().Request(pxe.ProtocolTFTP, pxe.TFTPSize)
		s.Logger.Debug("TFTP: told the size of a file", "file", file.Name, "from", from)
		return nil
	case err != nil:
		s.meter().Request(pxe.ProtocolTFTP, pxe.TFTPFailed)
		s.Logger.Warn("TFTP: a transfer failed", "file", file.Name, "from", from, "sent", n, "error", err)
		seen.Message += " by TFTP, which failed: " + err.Error()
	default:
		s.meter().Request(pxe.ProtocolTFTP, pxe.TFTPSent)
		s.Logger.Debug("TFTP: sent a file", "file", file.Name, "from", from, "bytes", n, "took", s.Now().Sub(start))
	}
	s.Backend.Observe(seen)
	return err
}

func (s *Server) meter() pxe.Meter {
	if s.Meter == nil {
		return pxe.Unmetered
	}
	return s.Meter
}

func (s *Server) enter(from netip.Addr) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.active == nil {
		s.active = map[netip.Addr]int{}
	}
	if s.total >= maxTransfers || s.active[from] >= maxTransfersEach {
		return false
	}
	s.total++
	s.active[from]++
	return true
}

func (s *Server) leave(from netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.total--
	if s.active[from]--; s.active[from] == 0 {
		delete(s.active, from)
	}
}

// limited is a file that can no longer be read when its time is up. It keeps
// Seek, by which the library learns the size.
type limited struct {
	io.ReadSeeker
	ctx   context.Context
	until time.Time
	now   func() time.Time
}

// Read implements io.Reader.
func (l *limited) Read(b []byte) (int, error) {
	if l.ctx.Err() != nil {
		return 0, errors.New("the server is ending")
	}
	if l.now().After(l.until) {
		return 0, fmt.Errorf("the transfer took longer than %v", maxDuration)
	}
	return l.ReadSeeker.Read(b)
}

// ahead reads a file in larger pieces than blocks: a system call for each block is
// felt.
type ahead struct {
	file   io.ReadSeeker
	buffer *bufio.Reader
}

func newAhead(file io.ReadSeeker) *ahead {
	return &ahead{file: file, buffer: bufio.NewReaderSize(file, readAhead)}
}

// Read implements io.Reader.
func (a *ahead) Read(b []byte) (int, error) { return a.buffer.Read(b) }

// Seek implements io.Seeker.
func (a *ahead) Seek(offset int64, whence int) (int64, error) {
	if whence == io.SeekCurrent {
		offset -= int64(a.buffer.Buffered())
	}
	at, err := a.file.Seek(offset, whence)
	a.buffer.Reset(a.file)
	return at, err
}
