package server

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

func TestAConnectionMoreThanTheLimitWaits(t *testing.T) {
	tcp, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := newLimitListener(tcp.(*net.TCPListener), 1)
	type accepted struct {
		conn net.Conn
		err  error
	}
	accept := make(chan accepted)
	go func() {
		for {
			conn, err := l.Accept()
			accept <- accepted{conn, err}
			if err != nil {
				return
			}
		}
	}()
	for range 2 {
		client, err := net.Dial("tcp4", tcp.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
	}
	first := <-accept
	if first.err != nil {
		t.Fatal(first.err)
	}
	if _, ok := first.conn.(io.ReaderFrom); !ok {
		t.Error("the kernel cannot send files by itself")
	}
	select {
	case a := <-accept:
		t.Fatalf("a second connection was accepted beside the first: %v", a)
	case <-time.After(50 * time.Millisecond):
	}
	for range 2 { // a second Close frees no second place
		_ = first.conn.Close()
	}
	second := <-accept
	if second.err != nil {
		t.Fatal(second.err)
	}
	defer second.conn.Close()
	// Those that are open are cut off, and their places are free.
	third, err := net.Dial("tcp4", tcp.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer third.Close()
	l.cutOff()
	if _, err := second.conn.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a connection that was cut off: %v", err)
	}
	next := <-accept
	if next.err != nil {
		t.Fatal(next.err)
	}
	defer next.conn.Close()
	// Accept waits for a place now, and ends with the listener.
	if err := errors.Join(l.Close(), l.Close()); err != nil {
		t.Error(err)
	}
	if a := <-accept; !errors.Is(a.err, net.ErrClosed) {
		t.Errorf("after Close: %v", a.err)
	}
}
