package tftp

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/pin/tftp/v3"

	"github.com/rhizome-dev/rhizome/pxe"
	"github.com/rhizome-dev/rhizome/pxe/bootfs"
)

type backend struct {
	mu   sync.Mutex
	seen []pxe.Observation
}

func (*backend) Decide(pxe.Machine) pxe.Decision { return pxe.Decision{} }
func (b *backend) Observe(o pxe.Observation) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.seen = append(b.seen, o)
}
func (*backend) InitConfig(context.Context, pxe.MAC, netip.Addr) (pxe.Document, error) {
	return pxe.Document{}, pxe.ErrNotFound
}
func (*backend) Report(context.Context, string, pxe.Report, netip.Addr) error { return pxe.ErrNotFound }
func (*backend) Credentials(context.Context, string, netip.Addr) ([]byte, error) {
	return nil, pxe.ErrNotFound
}

func (b *backend) observations() []pxe.Observation {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]pxe.Observation(nil), b.seen...)
}

// wait until so many observations are there: the last byte is at the client
// before the server knows.
func (b *backend) wait(t testing.TB, n int) []pxe.Observation {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if seen := b.observations(); len(seen) >= n {
			return seen
		}
	}
	t.Fatalf("only %d observations: %+v", len(b.observations()), b.observations())
	return nil
}

var image = bytes.Repeat([]byte("0123456789abcdef"), 20000)

// start serves on a port of the loopback interface until the test ends.
func start(t testing.TB) (*backend, string) {
	t.Helper()
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &backend{}
	s := &Server{
		Conn: conn, Backend: b, Logger: slog.New(slog.DiscardHandler), Now: time.Now,
		Table: &bootfs.Table{
			Files:   fstest.MapFS{"loader/snponly.efi": {Data: image}, "secret": {Data: []byte("secret")}},
			Backend: b, Server: netip.MustParseAddrPort("127.0.0.1:7480"),
		},
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	// What comes before the library has set up its socket is answered with the
	// smallest blocks.
	address := conn.LocalAddr().String()
	if _, err := get(address, "snponly.efi", 0); err != nil {
		t.Fatal(err)
	}
	b.wait(t, 1)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.seen = nil
	return b, address
}

func get(address, name string, block int) ([]byte, error) {
	client, err := tftp.NewClient(address)
	if err != nil {
		return nil, err
	}
	client.SetTimeout(2 * time.Second)
	if block > 0 {
		client.SetBlockSize(block)
	}
	client.RequestTSize(true)
	transfer, err := client.Receive(name, "octet")
	if err != nil {
		return nil, err
	}
	if size, ok := transfer.(tftp.IncomingTransfer).Size(); !ok || size != int64(len(image)) {
		return nil, fmt.Errorf("the size was told as %d, %v", size, ok)
	}
	var b bytes.Buffer
	_, err = transfer.WriteTo(&b)
	return b.Bytes(), err
}

func TestALoaderIsServedWhateverItsSpelling(t *testing.T) {
	b, address := start(t)
	for _, name := range []string{"snponly.efi", "/snponly.efi", `\loader\snponly.efi`, "loader//snponly.efi"} {
		for _, block := range []int{0, 512, 1468, 65464} {
			got, err := get(address, name, block)
			if err != nil || !bytes.Equal(got, image) {
				t.Errorf("%s by blocks of %d: %d bytes, %v", name, block, len(got), err)
			}
		}
	}
	for _, o := range b.wait(t, 16) {
		if o.Stage != pxe.StageLoader || o.Done != int64(len(image)) || o.Total != o.Done || o.From != netip.MustParseAddr("127.0.0.1") {
			t.Errorf("observed %+v", o)
		}
	}
}

func TestNothingElseIsServed(t *testing.T) {
	b, address := start(t)
	for _, name := range []string{"secret", "../secret", "loader/../secret", "", "none", "loader", strings.Repeat("x", 400), "revocations_sbat.efi"} {
		if got, err := get(address, name, 0); err == nil {
			t.Errorf("%q: served %d bytes", name, len(got))
		}
	}
	if seen := b.observations(); len(seen) != 0 {
		t.Errorf("misses were told to the backend: %+v", seen)
	}
}

func TestNothingIsWritten(t *testing.T) {
	_, address := start(t)
	client, err := tftp.NewClient(address)
	if err != nil {
		t.Fatal(err)
	}
	client.SetTimeout(time.Second)
	transfer, err := client.Send("loader/new", "octet")
	if err == nil {
		_, err = transfer.ReadFrom(strings.NewReader("x"))
	}
	if err == nil {
		t.Error("a file was taken")
	}
}

// A frame of Ethernet holds 1468 bytes of a block; larger ones would be fragmented.
func TestBlocksFitAFrame(t *testing.T) {
	_, address := start(t)
	oack := exchange(t, address, "\x00\x01snponly.efi\x00octet\x00blksize\x0065464\x00")
	if want := "\x00\x06blksize\x001468\x00"; string(oack) != want {
		t.Errorf("got %q, want %q", oack, want)
	}
}

// exchange sends a request and gives the transfer up when it is answered, as
// firmware does that wants the size only.
func exchange(t *testing.T, address, request string) []byte {
	t.Helper()
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	to, err := net.ResolveUDPAddr("udp4", address)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.WriteTo([]byte(request), to); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 2048)
	if err := conn.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	n, from, err := conn.ReadFrom(buf)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.WriteTo([]byte("\x00\x05\x00\x08User aborted the transfer\x00"), from); err != nil {
		t.Fatal(err)
	}
	return buf[:n]
}

func TestAskingForTheSizeIsNoFailure(t *testing.T) {
	b, address := start(t)
	oack := exchange(t, address, "\x00\x01snponly.efi\x00octet\x00tsize\x000\x00")
	if want := fmt.Sprintf("\x00\x06tsize\x00%d\x00", len(image)); string(oack) != want {
		t.Errorf("got %q, want %q", oack, want)
	}
	// The file itself follows, after which the probe is long over.
	if _, err := get(address, "snponly.efi", 1468); err != nil {
		t.Fatal(err)
	}
	seen := b.wait(t, 1)
	if len(seen) != 1 || seen[0].Message != "loader/snponly.efi" {
		t.Errorf("observed %+v, want the one transfer", seen)
	}
}

func TestOneAddressCannotTakeAllTransfers(t *testing.T) {
	s := &Server{}
	one, other := netip.MustParseAddr("192.168.1.77"), netip.MustParseAddr("192.168.1.78")
	for range maxTransfersEach {
		if !s.enter(one) {
			t.Fatal("refused too early")
		}
	}
	if s.enter(one) {
		t.Error("one address has more transfers than are meant for it")
	}
	if !s.enter(other) {
		t.Error("another address is refused")
	}
	s.leave(one)
	if !s.enter(one) {
		t.Error("refused after a transfer had ended")
	}
	n := s.total
	for a := netip.MustParseAddr("10.0.0.1"); s.enter(a); a = a.Next() {
		n++
	}
	if n != maxTransfers {
		t.Errorf("%d transfers at once, want %d", n, maxTransfers)
	}
}

func TestATransferEndsWithItsTimeOrTheServer(t *testing.T) {
	table := bootfs.Table{Files: fstest.MapFS{"loader/snponly.efi": {Data: image}}}
	file, err := table.Open("snponly.efi")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(0, 0)
	ctx, cancel := context.WithCancel(context.Background())
	l := &limited{ReadSeeker: newAhead(file), ctx: ctx, until: now.Add(time.Minute), now: func() time.Time { return now }}
	if _, err := l.Read(make([]byte, 1)); err != nil {
		t.Error(err)
	}
	now = now.Add(2 * time.Minute)
	if _, err := l.Read(make([]byte, 1)); err == nil {
		t.Error("read after its time")
	}
	now = time.Unix(0, 0)
	cancel()
	if _, err := l.Read(make([]byte, 1)); err == nil {
		t.Error("read after the server's end")
	}
}

func TestReadingAheadKeepsThePosition(t *testing.T) {
	content := make([]byte, 3*readAhead)
	for i := range content {
		content[i] = byte(i / 1000)
	}
	a := newAhead(bytes.NewReader(content))
	for _, c := range []struct {
		offset int64
		whence int
		want   int64 // position
	}{
		{0, io.SeekCurrent, 0},
		{5000, io.SeekStart, 5000},
		{-500, io.SeekCurrent, 5500}, // 1000 bytes were read
		{1000, io.SeekCurrent, 7500},
		{-2000, io.SeekEnd, int64(len(content)) - 2000},
		{0, io.SeekStart, 0},
	} {
		at, err := a.Seek(c.offset, c.whence)
		if err != nil || at != c.want {
			t.Fatalf("Seek(%d, %d) = %d, %v, want %d", c.offset, c.whence, at, err, c.want)
		}
		got := make([]byte, 1000)
		if _, err := io.ReadFull(a, got); err != nil || !bytes.Equal(got, content[at:at+1000]) {
			t.Fatalf("after Seek(%d, %d): the wrong bytes, %v", c.offset, c.whence, err)
		}
	}
}

// reader is a transfer of the library's that takes everything.
type reader struct{ bytes.Buffer }

func (reader) SetSize(int64)           {}
func (reader) RemoteAddr() net.UDPAddr { return net.UDPAddr{IP: net.IPv4(192, 168, 1, 77), Port: 1} }

// Whatever name is asked for, a request is answered by a file of the table or by
// an error.
func FuzzRequest(f *testing.F) {
	for _, name := range []string{"snponly.efi", `\..\secret`, "boot/525400123456/ipxe", "\x00", strings.Repeat("../", 99)} {
		f.Add(name)
	}
	b := &backend{}
	s := &Server{
		Backend: b, Logger: slog.New(slog.DiscardHandler), Now: time.Now,
		Table: &bootfs.Table{Files: fstest.MapFS{"loader/snponly.efi": {Data: []byte("ipxe")}, "secret": {Data: []byte("secret")}}, Backend: b},
	}
	f.Fuzz(func(t *testing.T, name string) {
		var to reader
		err := s.send(context.Background(), name, &to)
		if err == nil && to.String() != "ipxe" || err != nil && to.Len() > 0 {
			t.Fatalf("%q: sent %q, %v", name, to.String(), err)
		}
		if s.total != 0 || len(s.active) != 0 {
			t.Fatalf("%q: the transfer never ends", name)
		}
	})
}

// The library's own reading of packets is fuzzed too, from the outside.
func FuzzPacket(f *testing.F) {
	f.Add([]byte("\x00\x01snponly.efi\x00octet\x00tsize\x000\x00blksize\x001468\x00"))
	f.Add([]byte("\x00\x02x\x00octet\x00"))
	f.Add([]byte("\x00\x01"))
	_, address := start(f)
	f.Fuzz(func(t *testing.T, packet []byte) {
		conn, err := net.Dial("udp4", address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := conn.Write(packet[:min(len(packet), 1400)]); err != nil {
			t.Fatal(err)
		}
	})
}
