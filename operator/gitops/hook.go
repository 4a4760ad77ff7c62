package gitops

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	ctrl "sigs.k8s.io/controller-runtime"
)

// HookPath is where Gitea tells of pushes.
const HookPath = "/v1/push"

// hookMost bounds what is read of a request, in bytes. Gitea lists the commits of a
// push, of which nothing is used.
const hookMost = 1 << 20

// push is what is read of what Gitea tells.
type push struct {
	Ref        string `json:"ref"`
	After      string `json:"after"`
	Repository struct {
		FullName string `json:"full_name"`
	} `json:"repository"`
}

// branch that was pushed; empty: it was something else.
func (p push) branch() string {
	b, ok := strings.CutPrefix(p.Ref, "refs/heads/")
	if !ok {
		return ""
	}
	return b
}

// refusal is why a request is not believed.
type refusal struct {
	code int
	why  string
}

// readPush believes a body that carries the signature of the secret, the HMAC with
// SHA-256 in hexadecimal of Gitea's header X-Gitea-Signature, and reads it.
func readPush(body []byte, signature string, secret []byte) (push, *refusal) {
	given, err := hex.DecodeString(signature)
	mac := hmac.New(sha256.New, secret)
	mac.Write(body)
	// Without a secret everybody could sign.
	if err != nil || len(secret) == 0 || !hmac.Equal(given, mac.Sum(nil)) {
		return push{}, &refusal{http.StatusForbidden, "the signature does not fit"}
	}
	var p push
	if err := json.Unmarshal(body, &p); err != nil {
		return push{}, &refusal{http.StatusBadRequest, "it is no JSON of a push"}
	}
	return p, nil
}

// hook hears of pushes. It listens on every replica: what follows from a push is
// written into annotations, which anybody may do.
type hook struct {
	address string
	// secret is asked for at most every few seconds.
	secret func(context.Context) ([]byte, error)
	pushed func(context.Context, push)
	// now is the clock.
	now func() time.Time

	mu      sync.Mutex
	known   []byte
	knownAt time.Time
}

// NeedLeaderElection implements manager.LeaderElectionRunnable.
func (h *hook) NeedLeaderElection() bool { return false }

// Start implements manager.Runnable.
func (h *hook) Start(ctx context.Context) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", h.address)
	if err != nil {
		return fmt.Errorf("cannot listen for pushes on %s: %w", h.address, err)
	}
	server := &http.Server{
		Handler: h, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 15 * time.Second, WriteTimeout: 15 * time.Second,
		IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
	}
	ended := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer ended()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("cannot hear of pushes: %w", err)
	}
	return nil
}

func (h *hook) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path != HookPath:
		http.NotFound(w, r)
		return
	case r.Method != http.MethodPost:
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, "POST only", http.StatusMethodNotAllowed)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, hookMost))
	if err != nil {
		http.Error(w, "cannot read the body, or it is too large", http.StatusRequestEntityTooLarge)
		return
	}
	secret, err := h.key(r.Context())
	if err != nil {
		ctrl.Log.WithName("gitops").Error(err, "cannot read the secret of the webhook")
		http.Error(w, "not ready", http.StatusServiceUnavailable)
		return
	}
	p, refused := readPush(body, r.Header.Get("X-Gitea-Signature"), secret)
	if refused != nil {
		http.Error(w, refused.why, refused.code)
		return
	}
	if p.branch() != "" {
		h.pushed(r.Context(), p)
	}
	w.WriteHeader(http.StatusNoContent)
}

func (h *hook) key(ctx context.Context) ([]byte, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if now := h.now(); h.known == nil || now.Sub(h.knownAt) > 10*time.Second || now.Before(h.knownAt) {
		secret, err := h.secret(ctx)
		if err != nil {
			return nil, err
		}
		h.known, h.knownAt = secret, now
	}
	return h.known, nil
}
