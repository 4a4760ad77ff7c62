package web

import (
	"io"
	"net/http"
	"time"

	"github.com/rhizome-dev/rhizome/pxe"
)

const (
	// tellEvery is how often the backend hears how far a transfer is.
	tellEvery = time.Second
	// stall is how long a client may take no byte at all.
	stall = time.Minute
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
	now := m.now()
	if m.told.IsZero() || now.Sub(m.told) >= tellEvery {
		// A connection that knows no deadline is a test's: it cannot stall.
		_ = m.response.SetWriteDeadline(time.Now().Add(stall))
		if m.told.IsZero() {
			m.told = now
		} else {
			m.tell(now)
		}
	}
	n, err := m.ReadSeeker.Read(b)
	m.at += int64(n)
	m.sent += int64(n)
	return n, err
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
