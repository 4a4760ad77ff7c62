//go:build linux

package firmware

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"github.com/pin/tftp/v3"
)

// tftp fetches a file as EDK2 does: first its size, then, from the begin, itself.
func (s *session) tftp(ctx context.Context, server netip.Addr, name string) ([]byte, error) {
	to := netip.AddrPortFrom(server, 69)
	size, err := s.tftpSize(ctx, to, name)
	if err != nil {
		return nil, fmt.Errorf("cannot learn the size of %s from %s: %w", name, to, err)
	}
	var file bytes.Buffer
	// The library opens its socket in Receive.
	var transfer io.WriterTo
	if err := s.host.Do(func() (err error) {
		client, err := tftp.NewClient(to.String())
		if err != nil {
			return err
		}
		client.SetBlockSize(1468)
		client.SetTimeout(s.Waits[0])
		transfer, err = client.Receive(name, "octet")
		return err
	}); err != nil {
		return nil, fmt.Errorf("cannot fetch %s from %s: %w", name, to, err)
	}
	if _, err := transfer.WriteTo(&file); err != nil {
		return nil, fmt.Errorf("cannot fetch %s from %s: %w", name, to, err)
	}
	if file.Len() != size {
		return nil, fmt.Errorf("%s: the server said %d bytes and sent %d", name, size, file.Len())
	}
	return file.Bytes(), nil
}

// tftpSize asks with the option tsize (RFC 2349) and gives the transfer up with
// error 8 (RFC 2347) once it is told.
func (s *session) tftpSize(ctx context.Context, server netip.AddrPort, name string) (int, error) {
	var conn *net.UDPConn
	if err := s.host.Do(func() (err error) {
		conn, err = net.ListenUDP("udp4", &net.UDPAddr{IP: s.out.Address.Addr().AsSlice()})
		return err
	}); err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close() }()
	request := []byte("\x00\x01" + name + "\x00octet\x00tsize\x000\x00blksize\x001468\x00")
	buf := make([]byte, 2048)
	for _, wait := range s.Waits {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		if _, err := conn.WriteToUDPAddrPort(request, server); err != nil {
			return 0, err
		}
		if err := conn.SetReadDeadline(time.Now().Add(wait)); err != nil {
			return 0, err
		}
		n, from, err := conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			continue
		}
		if _, err := conn.WriteToUDPAddrPort([]byte("\x00\x05\x00\x08User aborted the transfer\x00"), from); err != nil {
			return 0, err
		}
		return tsizeOf(buf[:n])
	}
	return 0, errors.New("no answer")
}

// tsizeOf reads an OACK. EDK2 knows no size without one.
func tsizeOf(p []byte) (int, error) {
	if len(p) < 4 {
		return 0, errors.New("the answer is too short")
	}
	switch code := binary.BigEndian.Uint16(p); code {
	case 6:
	case 5:
		return 0, fmt.Errorf("error %d: %s", binary.BigEndian.Uint16(p[2:]), bytes.TrimRight(p[4:], "\x00"))
	default:
		return 0, fmt.Errorf("the answer is of type %d, not OACK", code)
	}
	fields := bytes.Split(p[2:], []byte{0})
	for i := 0; i+1 < len(fields); i += 2 {
		if string(fields[i]) == "tsize" {
			return strconv.Atoi(string(fields[i+1]))
		}
	}
	return 0, errors.New("the OACK lacks tsize")
}

// http fetches a URL and follows no redirect.
func (s *session) http(ctx context.Context, method, url string) ([]byte, error) {
	response, err := s.ask(ctx, method, url)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, fmt.Errorf("cannot fetch %s: %w", url, err)
	}
	return body, nil
}

// stream is http for what is only passed on, such as a kernel: hundreds of machines
// have no room for it.
func (s *session) stream(ctx context.Context, url string) (Fetched, error) {
	response, err := s.ask(ctx, http.MethodGet, url)
	if err != nil {
		return Fetched{}, err
	}
	defer response.Body.Close()
	sum := sha256.New()
	n, err := io.Copy(sum, response.Body)
	if err != nil {
		return Fetched{}, fmt.Errorf("cannot fetch %s: %w", url, err)
	}
	return Fetched{URL: url, Size: n, SHA256: hex.EncodeToString(sum.Sum(nil))}, nil
}

// ask returns a good answer, whose body is to be closed.
func (s *session) ask(ctx context.Context, method, url string) (*http.Response, error) {
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: s.out.Address.Addr().AsSlice()}, Timeout: s.Waits[0]}
	client := &http.Client{
		Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, network, address string) (conn net.Conn, err error) {
				err = s.host.Do(func() error {
					conn, err = dialer.DialContext(ctx, network, address)
					return err
				})
				return conn, err
			},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	request, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return nil, err
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		_ = response.Body.Close()
		return nil, fmt.Errorf("cannot fetch %s: %s", url, response.Status)
	}
	if response.ContentLength < 0 {
		_ = response.Body.Close()
		return nil, fmt.Errorf("the answer for %s has no length: firmware wants one", url)
	}
	return response, nil
}
