package web

import (
	"io"
	"net"
	"time"

	"github.com/rhizome-dev/rhizome/pxe"
)

const (
	// tellEvery is how often the backend hears how far a transfer is.
	tellEvery = time.Second
	// stall is how long a client may take no byte at all.
	stall = time.Minute
	// piece is how much is sent between two looks at the clock, in bytes: a slow client
	// takes it in less than stall. Larger ones are no faster (measured up to 4 MiB).
	piece = 256 << 10
)

// stream is a file on its way to a machine. It tells the backend how far it is, and
// ends the transfer of a client that stopped reading.
type stream struct {
	io.Reader
	close    func() error
	at, left int64 // bytes: how far the file is read, and what is left to send of it

	conn    net.Conn
	backend pxe.Backend
	counter pxe.Meter
	seen    pxe.Observation // Time and Done are filled in
	now     func() time.Time

	sent int64     // bytes since counter was told
	told time.Time // zero: nothing was sent yet
}

// WriteTo implements io.WriterTo. A file on the disk is sent by sendfile(2), piece by
// piece.
func (s *stream) WriteTo(to io.Writer) (sent int64, err error) {
	for s.left > 0 {
		s.tick()
		want := min(piece, s.left)
		n, err := io.Copy(to, io.LimitReader(s.Reader, want))
		s.at, s.left, s.sent, sent = s.at+n, s.left-n, s.sent+n, sent+n
		if err == nil && n < want {
			err = io.ErrUnexpectedEOF // the file has become shorter
		}
		if err != nil {
			return sent, err
		}
	}
	return sent, nil
}

// tick comes before each piece.
func (s *stream) tick() {
	now := s.now()
	_ = s.conn.SetWriteDeadline(time.Now().Add(stall)) // of a connection that is closed: the write will say so
	if s.told.IsZero() {
		s.told = now
	} else if now.Sub(s.told) >= tellEvery {
		s.tell(now)
	}
}

// Close tells how far the file went, unless none of it was asked for.
func (s *stream) Close() error {
	if !s.told.IsZero() {
		s.tell(s.now())
	}
	return s.close()
}

func (s *stream) tell(now time.Time) {
	s.told = now
	s.seen.Time, s.seen.Done = now, s.at
	s.backend.Observe(s.seen)
	s.counter.Sent(pxe.ProtocolHTTP, s.sent)
	s.sent = 0
}
