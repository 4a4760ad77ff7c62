//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/rhizome-dev/rhizome/test/bmc"
	"github.com/rhizome-dev/rhizome/test/lab"
)

// wipeable is a machine whose disks can be taken away.
type wipeable interface{ Wipe() error }

// serveBoard puts the board on the lab's network. It ends with ctx.
func serveBoard(ctx context.Context, network *lab.Network, board *bmc.Controller) (boardState, error) {
	address := network.Laptop.Next()
	host, err := network.Attach("board", netip.PrefixFrom(address, network.LAN.Bits()), netip.Addr{})
	if err != nil {
		return boardState{}, err
	}
	listener, err := host.Listen("tcp4", netip.AddrPortFrom(address, 443).String())
	if err != nil {
		return boardState{}, fmt.Errorf("cannot start the machines' board: %w", err)
	}
	fingerprint, err := board.Fingerprint()
	if err != nil {
		return boardState{}, err
	}
	go func() { _ = board.Serve(ctx, listener) }() // its clients say when it does not answer
	return boardState{Endpoint: "https://" + address.String(), Fingerprint: fingerprint, Username: board.Username, Password: board.Password}, nil
}

// control is what the keeper does to machines when another command asks for it.
func control(machines map[string]wipeable, resets func() []string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /machines/{name}/wipe", func(w http.ResponseWriter, r *http.Request) {
		m := machines[r.PathValue("name")]
		if m == nil {
			http.Error(w, "the lab has no machine of this name", http.StatusNotFound)
			return
		}
		if err := m.Wipe(); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("GET /resets", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(resets()) // or the client is gone
	})
	return mux
}

// serveControl answers on a socket that only its owner may use, until ctx ends.
func serveControl(ctx context.Context, path string, handler http.Handler) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "unix", path)
	if err != nil {
		return fmt.Errorf("cannot make the keeper's socket: %w", err)
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	go func() { _ = server.Serve(listener) }()
	return nil
}

// keeper asks the process that owns the lab.
type keeper struct{ socket string }

// wipe pulls a machine's plug and makes its disks blank.
func (k keeper) wipe(ctx context.Context, name string) error {
	_, err := k.ask(ctx, http.MethodPost, "/machines/"+name+"/wipe")
	return err
}

// resets are what the board was told, each as "MACHINE ResetType".
func (k keeper) resets(ctx context.Context) (all []string, err error) {
	answer, err := k.ask(ctx, http.MethodGet, "/resets")
	if err != nil {
		return nil, err
	}
	return all, json.Unmarshal(answer, &all)
}

func (k keeper) ask(ctx context.Context, method, path string) ([]byte, error) {
	client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", k.socket)
		},
	}}
	request, err := http.NewRequestWithContext(ctx, method, "http://keeper"+path, nil)
	if err != nil {
		return nil, err
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("cannot ask the lab's keeper: %w", err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode >= 300 {
		err = errors.New(string(bytes.TrimSpace(answer)))
	}
	if err != nil {
		return nil, fmt.Errorf("the lab's keeper: %s %s: %w", method, path, err)
	}
	return answer, nil
}
