package bootfs

import (
	"crypto/sha256"
	"encoding/hex"
	"sync"

	"github.com/rhizome-dev/rhizome/pxe"
)

// maxScripts bounds the memory of scripts: two for each of a thousand machines take
// about a megabyte.
const maxScripts = 4096

// scripts remembers what was written, since a machine asks for the same script again
// and again. A script is only served for the very decision that it was written for:
// it saves the writing, never the deciding. The zero value is empty.
type scripts struct {
	mu      sync.Mutex
	written map[scriptKey]*script
}

type scriptKey struct {
	mac  pxe.MAC
	kind string
}

type script struct {
	decision pxe.Decision
	text     []byte // never changed
	etag     string
}

// get returns the script for the decision, which write writes if need be.
func (s *scripts) get(key scriptKey, d pxe.Decision, write func() ([]byte, error)) (*script, error) {
	s.mu.Lock()
	old, ok := s.written[key]
	s.mu.Unlock()
	if ok && old.decision.Equal(&d) {
		return old, nil
	}
	text, err := write()
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(text)
	made := &script{d, text, `"` + hex.EncodeToString(sum[:16]) + `"`}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.written == nil || len(s.written) >= maxScripts {
		s.written = map[scriptKey]*script{}
	}
	s.written[key] = made
	return made, nil
}
