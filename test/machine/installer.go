//go:build linux

package machine

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/rhizome-dev/rhizome/pxe"
	"github.com/rhizome-dev/rhizome/pxe/installer/plan"
	"github.com/rhizome-dev/rhizome/pxe/installer/stream"
	"github.com/rhizome-dev/rhizome/test/firmware"
)

// Client speaks from the machine; ca is what it trusts, in PEM form.
func (m *Machine) Client(ca string) *http.Client {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(ca))
	return &http.Client{Timeout: time.Minute, Transport: &http.Transport{
		DialContext: m.Host.DialContext, TLSClientConfig: &tls.Config{RootCAs: roots}, DisableKeepAlives: true,
	}}
}

// insist tries for as long as a patient installer does.
func insist(ctx context.Context, try func() error) error {
	until := time.Now().Add(3 * time.Minute)
	for {
		err := try()
		var refused *Refusal
		if err == nil || errors.As(err, &refused) || ctx.Err() != nil || time.Now().After(until) {
			return err
		}
		sleep(ctx, 200*time.Millisecond)
	}
}

// Refusal is an answer that says no: trying again does not help.
type Refusal struct{ Status, Body string }

func (r *Refusal) Error() string { return r.Status + ": " + r.Body }

// Call makes one request; claim, if it is not empty, goes with it. An answer of
// 4xx is a *Refusal.
func Call(ctx context.Context, client *http.Client, method, url, claim string, body []byte) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if claim != "" {
		request.Header.Set("Authorization", "Bearer "+claim)
	}
	answer, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	content, err := io.ReadAll(answer.Body)
	if err != nil {
		return nil, err
	}
	if answer.StatusCode >= 400 && answer.StatusCode < 500 {
		return nil, &Refusal{answer.Status, string(content)}
	}
	if answer.StatusCode >= 300 {
		return nil, errors.New(answer.Status)
	}
	return content, nil
}

// install is the in-memory installer.
func (m *Machine) install(ctx context.Context, outcome firmware.Outcome) error {
	var from string
	for _, arg := range outcome.Args {
		if value, ok := strings.CutPrefix(arg, "rhizome.init="); ok {
			from = value
		}
	}
	if from == "" {
		return fmt.Errorf("the kernel was told no init config: %q", outcome.Args)
	}
	return m.withAddress(outcome.Address, func() error {
		var p plan.Plan
		err := insist(ctx, func() error {
			document, err := Call(ctx, m.Client(""), http.MethodGet, from, "", nil)
			if err != nil {
				return err
			}
			p, err = plan.Decode(document)
			return err
		})
		if err != nil {
			return fmt.Errorf("init config: %w", err)
		}
		report := m.reporter(ctx, p)
		m.mu.Lock()
		m.served = p.Image.URL
		broken := m.broken
		m.mu.Unlock()
		if broken != "" {
			return report(pxe.Report{Stage: pxe.StageFailed, Step: "disk", Message: broken})
		}
		if err := report(pxe.Report{Stage: pxe.StageInstalling, Step: "disk", Message: "the disk is chosen", Disk: "/dev/fake"}); err != nil {
			return err
		}
		if err := m.wipe(p); err != nil {
			return err
		}
		if err := m.writeImage(ctx, p, report); err != nil {
			return err
		}
		if err := m.writeSeed(p); err != nil {
			return err
		}
		return report(pxe.Report{Stage: pxe.StageInstalled, Message: "installed"})
	})
}

// reporter posts reports to the plan's servers, in turn.
func (m *Machine) reporter(ctx context.Context, p plan.Plan) func(pxe.Report) error {
	urls := append([]string{p.ReportURL}, p.OtherReportURLs...)
	turn := 0
	return func(r pxe.Report) error {
		r.UUID = m.uuid()
		body, err := json.Marshal(r)
		if err != nil {
			return err
		}
		return insist(ctx, func() error {
			_, err := Call(ctx, m.Client(p.CA), http.MethodPost, urls[turn%len(urls)], p.Claim, body)
			var refused *Refusal
			if err != nil && !errors.As(err, &refused) {
				turn++
			}
			return err
		})
	}
}

// uuid is the machine's as the installer reads it of SMBIOS, whose first three
// fields have the least significant byte first (SMBIOS 3.7 §7.2.1).
func (m *Machine) uuid() string {
	if m.UUID == [16]byte{} {
		return ""
	}
	u := m.UUID
	return fmt.Sprintf("%02x%02x%02x%02x-%02x%02x-%02x%02x-%x-%x", u[3], u[2], u[1], u[0], u[5], u[4], u[7], u[6], u[8:10], u[10:])
}

// wipe is the point of no return: whatever was on the disk is gone.
func (m *Machine) wipe(p plan.Plan) error {
	digest := sha256.Sum256([]byte(p.Claim))
	claim := hex.EncodeToString(digest[:])
	m.mu.Lock()
	m.claims = append(m.claims, claim)
	m.mu.Unlock()
	m.Log("%s: the disk is wiped", m.Name)
	if m.Wiped != nil {
		m.Wiped(claim)
	}
	if err := os.RemoveAll(m.disk()); err != nil {
		return err
	}
	return os.MkdirAll(m.disk(), 0o755)
}

// writeImage has the installer's own code fetch and verify the image. Nobody
// reads a fake disk, so nothing of it is kept.
func (m *Machine) writeImage(ctx context.Context, p plan.Plan, report func(pxe.Report) error) error {
	if m.Image != "" && p.Image.SHA256 != m.Image {
		return fmt.Errorf("image: the init config names %s, declared is %s", p.Image.SHA256, m.Image)
	}
	if p.Image.Size <= 0 {
		return errors.New("image: the init config does not say how large it is")
	}
	if err := report(pxe.Report{Stage: pxe.StageInstalling, Step: "image", Done: 0, Total: p.Image.Size}); err != nil {
		return err
	}
	_, err := stream.Image(ctx, p.Image, nowhere{}, stream.Options{
		Client: &http.Client{Transport: &http.Transport{DialContext: m.Host.DialContext, DisableKeepAlives: true}},
		Patience: stream.Patience{FirstPause: 200 * time.Millisecond, LongestPause: 2 * time.Second,
			Silence: 10 * time.Second, GiveUp: 3 * time.Minute},
		Log: func(format string, args ...any) { m.Log(m.Name+": "+format, args...) },
	})
	if err != nil {
		return fmt.Errorf("image: %w", err)
	}
	return report(pxe.Report{Stage: pxe.StageInstalling, Step: "image", Done: p.Image.Size, Total: p.Image.Size})
}

// nowhere is a disk of a terabyte that keeps nothing.
type nowhere struct{}

func (nowhere) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }
func (nowhere) Size() int64                            { return 1 << 40 }
func (nowhere) Zero(int64, int64) error                { return nil }
func (nowhere) Sync() error                            { return nil }

// writeSeed stores the NoCloud seed, last: a disk without it boots nothing.
func (m *Machine) writeSeed(p plan.Plan) error {
	for _, name := range []string{"meta-data", "network-config", "user-data"} {
		if err := os.WriteFile(filepath.Join(m.disk(), name), []byte(p.Seed[name]), 0o600); err != nil {
			return err
		}
	}
	return nil
}

func (m *Machine) seeded() bool {
	_, err := os.Stat(filepath.Join(m.disk(), "user-data"))
	return err == nil
}
