package power

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// maxAnswer bounds the body of an answer. A ComputerSystem has some tens of
// kilobytes.
const maxAnswer = 1 << 20

// guarded carries requests to one controller, and lets no answer of it do harm:
// requests end with the context of what is being done and within a time of their
// own, go nowhere else, and what comes back is bounded and of the form that its
// readers expect.
type guarded struct {
	base    http.RoundTripper
	host    string
	request time.Duration

	mu  sync.Mutex
	ctx context.Context
}

// guard carries requests to the host of endpoint, over TLS.
func guard(endpoint string, config *tls.Config, request time.Duration) (*guarded, error) {
	u, err := url.Parse(endpoint)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil {
		return nil, errors.New("it is no https URL without user name and password")
	}
	return &guarded{
		host: u.Host, request: request,
		// No proxy: controllers are on networks that proxies do not reach, and are to
		// be asked by nobody else.
		base: &http.Transport{TLSClientConfig: config, TLSHandshakeTimeout: request, ResponseHeaderTimeout: request, MaxIdleConns: 2, IdleConnTimeout: 30 * time.Second},
	}, nil
}

// use makes ctx the one with which requests end.
func (g *guarded) use(ctx context.Context) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.ctx = ctx
}

func (g *guarded) current() context.Context {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ctx == nil {
		return context.Background()
	}
	return g.ctx
}

func (g *guarded) close() {
	if t, ok := g.base.(*http.Transport); ok {
		t.CloseIdleConnections()
	}
}

// client follows no redirections: those of a POST lose what was posted, and a
// token must not go where a controller says.
func (g *guarded) client() *http.Client {
	return &http.Client{Transport: g, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// RoundTrip implements http.RoundTripper. The answer's body has been read.
func (g *guarded) RoundTrip(req *http.Request) (*http.Response, error) {
	// Links are a controller's own words, and are joined to its URL as they are.
	if req.URL.Scheme != "https" || req.URL.Host != g.host || req.URL.User != nil {
		return nil, fmt.Errorf("it links to another place, %s: not followed", req.URL.Redacted())
	}
	ctx, cancel := context.WithTimeout(g.current(), g.request)
	defer cancel()
	resp, err := g.base.RoundTrip(req.WithContext(ctx))
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return nil, fmt.Errorf("cannot read its answer: %w", err)
	}
	if len(body) > maxAnswer {
		return nil, fmt.Errorf("its answer is longer than %d bytes", maxAnswer)
	}
	if resp.StatusCode >= 200 && resp.StatusCode < 300 && len(bytes.TrimSpace(body)) > 0 && !isObject(body) {
		// Of null, gofish makes an object that is not there.
		return nil, fmt.Errorf("its answer (HTTP %d) is no JSON object", resp.StatusCode)
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	resp.ContentLength = int64(len(body))
	return resp, nil
}

func isObject(body []byte) bool {
	trimmed := bytes.TrimSpace(body)
	return len(trimmed) > 0 && trimmed[0] == '{' && json.Valid(trimmed)
}
