package web

import (
	"io"
	"net/http"
	"os"
	"time"

	"github.com/rhizome-dev/rhizome/pxe"
)

const (
	// tellEvery is how often the backend hears how far a transfer is.
	tellEvery = time.Second
	// stall is how long a client may take no byte at all.
	stall = time.Minute
	// piece is how much is sent at a time by the kernel, in bytes: a slow client
	// takes it in less than stall.
	piece = 256 << 10
)

// meter is a file on its way to a machine. It tells the backend how far it is,
// and ends the transfer of a client that stopped reading.
type meter struct {
	io.ReadSeeker
	backend  pxe.Backend
	seen     pxe.Observation // Time and Done are filled in
	now      func() time.Time
	response *http.ResponseController
	counter  pxe.Meter

	at   int64
	sent int64     // bytes that were read since counter was told
	told time.Time // zero: not read yet
}

// Seek implements io.Seeker.
func (m *meter) Seek(offset int64, whence int) (int64, error) {
	at, err := m.ReadSeeker.Seek(offset, whence)
	m.at = at
	return at, err
}

// Read implements io.Reader. Each read comes just before the write to the client.
func (m *meter) Read(b []byte) (int, error) {
	m.tick()
	n, err := m.ReadSeeker.Read(b)
	m.at += int64(n)
	m.sent += int64(n)
	return n, err
}

// onDisk says whether the kernel can send the file by itself.
func (m *meter) onDisk() bool {
	_, ok := m.ReadSeeker.(*os.File)
	return ok
}

// send sends the next n bytes, or less at the end of the file, by sendfile(2) if the
// response allows it.
func (m *meter) send(to http.ResponseWriter, n int64) (sent int64, err error) {
	for sent < n {
		m.tick()
		want := min(piece, n-sent)
		got, err := io.Copy(to, io.LimitReader(m.ReadSeeker, want))
		m.at += got
		m.sent += got
		sent += got
		if err != nil || got < want {
			return sent, err
		}
	}
	return sent, nil
}

// tick comes before each write to the client.
func (m *meter) tick() {
	now := m.now()
	if !m.told.IsZero() && now.Sub(m.told) < tellEvery {
		return
	}
	// A connection that knows no deadline is a test's: it cannot stall.
	_ = m.response.SetWriteDeadline(time.Now().Add(stall))
	if m.told.IsZero() {
		m.told = now
	} else {
		m.tell(now)
	}
}

// finish tells how far the file went; nothing if none of it was asked for.
func (m *meter) finish() {
	if !m.told.IsZero() {
		m.tell(m.now())
	}
}

func (m *meter) tell(now time.Time) {
	m.told = now
	m.seen.Time, m.seen.Done = now, m.at
	m.backend.Observe(m.seen)
	m.counter.Sent(pxe.ProtocolHTTP, m.sent)
	m.sent = 0
}
