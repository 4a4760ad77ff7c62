// Package report tells the PXE service how the installation goes.
package report

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/rhizome-dev/rhizome/pxe"
	"github.com/rhizome-dev/rhizome/pxe/installer/plan"
)

// Client posts reports over HTTPS, to a server that the plan's certificate
// authority vouches for. It is safe for concurrent use.
type Client struct {
	// UUID of the machine, sent along with every report.
	UUID string
	// Log is told of attempts that failed. It may be nil.
	Log func(format string, args ...any)

	claim string
	http  *http.Client
	urls  []string
	// turn counts the attempts that failed: each next one asks the next server.
	turn atomic.Int64
}

// attempt bounds one request.
const attempt = 20 * time.Second

// maxMessage bounds the message of a report in bytes; the server takes 64 KiB in
// all.
const maxMessage = 16 << 10

// New makes a client for the plan's report URLs, claim and authority.
func New(p plan.Plan) (*Client, error) {
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(p.CA)) {
		return nil, errors.New("the plan's ca holds no certificate in PEM form")
	}
	return &Client{
		urls: append([]string{p.ReportURL}, p.OtherReportURLs...), claim: p.Claim,
		http: &http.Client{
			Timeout: attempt,
			Transport: &http.Transport{
				TLSClientConfig:     &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
				TLSHandshakeTimeout: attempt / 2,
				MaxIdleConns:        1,
			},
			CheckRedirect: func(*http.Request, []*http.Request) error {
				return errors.New("the server redirects: the claim goes to no other")
			},
		},
	}, nil
}

// Once posts a report without trying again. The error is a *pxe.Refusal when the
// server refused by a rule. After another error the next report goes to the next
// server.
func (c *Client) Once(ctx context.Context, r pxe.Report) error {
	turn := c.turn.Load()
	err := c.post(ctx, c.urls[int(turn)%len(c.urls)], r)
	var refusal *pxe.Refusal
	if err != nil && !errors.As(err, &refusal) {
		c.turn.CompareAndSwap(turn, turn+1)
	}
	return err
}

func (c *Client) post(ctx context.Context, url string, r pxe.Report) error {
	r.UUID = c.UUID
	if len(r.Message) > maxMessage {
		r.Message = r.Message[:maxMessage]
	}
	r.Message = strings.ToValidUTF8(r.Message, "")
	body, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("cannot write a report: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("cannot report to %s: %w", url, err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+c.claim)
	resp, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("cannot report: %w", err)
	}
	answer, readErr := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err := errors.Join(readErr, resp.Body.Close()); err != nil {
		return fmt.Errorf("cannot read the answer to a report: %w", err)
	}
	switch {
	case resp.StatusCode/100 == 2:
		return nil
	case resp.StatusCode == http.StatusForbidden:
		return ParseRefusal(answer)
	}
	return fmt.Errorf("cannot report to %s: the server answered %s", url, resp.Status)
}

// Until posts a report until it is taken, refused, or the time is up.
func (c *Client) Until(ctx context.Context, limit time.Duration, r pxe.Report) error {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval, b.MaxInterval = 500*time.Millisecond, 15*time.Second
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		err := c.Once(ctx, r)
		var refusal *pxe.Refusal
		if errors.As(err, &refusal) {
			return struct{}{}, backoff.Permanent(err)
		}
		return struct{}{}, err
	}, backoff.WithBackOff(b), backoff.WithMaxElapsedTime(limit), backoff.WithNotify(func(err error, next time.Duration) {
		if c.Log != nil {
			c.Log("%v: trying again in %s", err, next.Round(100*time.Millisecond))
		}
	}))
	return err
}

// ParseRefusal reads the body of an answer with status 403. One that cannot be
// read is a refusal all the same.
func ParseRefusal(body []byte) *pxe.Refusal {
	var answer struct{ Rule, Message string }
	if err := json.Unmarshal(body, &answer); err != nil || answer.Rule == "" {
		return &pxe.Refusal{Rule: "Forbidden", Message: "the server refused and did not say by which rule"}
	}
	return &pxe.Refusal{Rule: answer.Rule, Message: answer.Message}
}
