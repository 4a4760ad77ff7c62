package gitops

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

var hookKey = []byte("a secret of the test")

const pushBody = `{"ref":"refs/heads/main","after":"` + commitA + `","repository":{"full_name":"home/lab"},"commits":[{"id":"x"}]}`

func sign(body string, key []byte) string {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(body))
	return hex.EncodeToString(mac.Sum(nil))
}

func TestOnlySignedPushesAreHeard(t *testing.T) {
	tests := []struct {
		reason, method, path, body, signature string
		key                                   []byte
		keyError                              error
		code                                  int
		heard                                 bool
	}{
		{"a push", http.MethodPost, HookPath, pushBody, sign(pushBody, hookKey), hookKey, nil, http.StatusNoContent, true},
		{"a tag", http.MethodPost, HookPath, `{"ref":"refs/tags/v1"}`, sign(`{"ref":"refs/tags/v1"}`, hookKey), hookKey, nil, http.StatusNoContent, false},
		{"no signature", http.MethodPost, HookPath, pushBody, "", hookKey, nil, http.StatusForbidden, false},
		{"a signature that is no hexadecimal", http.MethodPost, HookPath, pushBody, "sha256=zz", hookKey, nil, http.StatusForbidden, false},
		{"another key's", http.MethodPost, HookPath, pushBody, sign(pushBody, []byte("guess")), hookKey, nil, http.StatusForbidden, false},
		{"another body's", http.MethodPost, HookPath, pushBody + " ", sign(pushBody, hookKey), hookKey, nil, http.StatusForbidden, false},
		{"signed with nothing, while there is no secret", http.MethodPost, HookPath, pushBody, sign(pushBody, nil), nil, nil, http.StatusForbidden, false},
		{"signed nonsense", http.MethodPost, HookPath, `[`, sign(`[`, hookKey), hookKey, nil, http.StatusBadRequest, false},
		{"too large", http.MethodPost, HookPath, strings.Repeat("x", hookMost+1), "00", hookKey, nil, http.StatusRequestEntityTooLarge, false},
		{"a page", http.MethodGet, HookPath, "", "", hookKey, nil, http.StatusMethodNotAllowed, false},
		{"another path", http.MethodPost, "/", pushBody, sign(pushBody, hookKey), hookKey, nil, http.StatusNotFound, false},
		{"the secret cannot be read", http.MethodPost, HookPath, pushBody, sign(pushBody, hookKey), nil, errors.New("no"), http.StatusServiceUnavailable, false},
	}
	for _, tc := range tests {
		t.Run(tc.reason, func(t *testing.T) {
			heard := false
			h := &hook{
				now:    func() time.Time { return noon },
				secret: func(context.Context) ([]byte, error) { return tc.key, tc.keyError },
				pushed: func(_ context.Context, p push) {
					heard = true
					if p.branch() != "main" || p.After != commitA || p.Repository.FullName != "home/lab" {
						t.Errorf("heard %+v", p)
					}
				},
			}
			req := httptest.NewRequestWithContext(t.Context(), tc.method, tc.path, strings.NewReader(tc.body))
			req.Header.Set("X-Gitea-Signature", tc.signature)
			answer := httptest.NewRecorder()
			h.ServeHTTP(answer, req)
			if answer.Code != tc.code || heard != tc.heard {
				t.Errorf("answered %d, heard %t; want %d, %t", answer.Code, heard, tc.code, tc.heard)
			}
		})
	}
}

func FuzzReadPush(f *testing.F) {
	f.Add([]byte(pushBody), sign(pushBody, hookKey))
	f.Add([]byte(`{"ref":7}`), sign(`{"ref":7}`, hookKey))
	f.Add([]byte(`null`), "")
	f.Fuzz(func(t *testing.T, body []byte, signature string) {
		p, refused := readPush(body, signature, hookKey)
		if refused != nil && p != (push{}) {
			t.Errorf("refused, and read %+v", p)
		}
		if refused == nil && !strings.EqualFold(signature, sign(string(body), hookKey)) {
			t.Errorf("believed the signature %q", signature)
		}
		// Whoever has the key may say anything, and is read or refused.
		if _, refused := readPush(body, sign(string(body), hookKey), hookKey); refused != nil && refused.code != http.StatusBadRequest {
			t.Errorf("a signed body is refused: %+v", refused)
		}
	})
}
