package controlplane

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/rhizome-dev/rhizome/test/k3s/internal/pki"
	"github.com/rhizome-dev/rhizome/test/k3s/internal/token"
)

// settleTokens decides the passwords and writes server/token, agent-token and
// node-token in their full form, as k3s does.
func (s *Server) settleTokens() error {
	path := filepath.Join(s.dir, "token")
	given, err := s.password(s.Config.Token, token.Server)
	if err != nil {
		return err
	}
	kept, err := keptPassword(path)
	if err != nil {
		return err
	}
	switch {
	case kept != "" && given != "" && kept != given:
		return errors.New("token: not the one that this server's data was made with (k3s: \"bootstrap data already found and encrypted with different token\")")
	case given != "":
		s.serverPass = given
	case kept != "":
		s.serverPass = kept
	default:
		b := make([]byte, 16)
		if _, err := rand.Read(b); err != nil {
			return err
		}
		s.serverPass = hex.EncodeToString(b)
	}
	if s.agentPass, err = s.password(s.Config.AgentToken, token.Node); err != nil {
		return fmt.Errorf("agent-token: %w", err)
	}
	if err := os.WriteFile(path, []byte(token.Format(s.caHash, token.Server, s.serverPass)+"\n"), 0o600); err != nil {
		return err
	}
	target := "token"
	if s.agentPass != "" {
		target = "agent-token"
		full := token.Format(s.caHash, token.Node, s.agentPass)
		if err := os.WriteFile(filepath.Join(s.dir, target), []byte(full+"\n"), 0o600); err != nil {
			return err
		}
	}
	link := filepath.Join(s.dir, "node-token")
	if err := os.Remove(link); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return os.Symlink(filepath.Join(s.dir, target), link)
}

// password takes the password out of a token that was given. A hash in it
// must be that of this server's authority: one made for another authority
// could never join anything.
func (s *Server) password(given string, kind token.Kind) (string, error) {
	if given == "" {
		return "", nil
	}
	t, err := token.Parse(given)
	if err != nil {
		return "", err
	}
	if t.Kind == token.Bootstrap || (t.Kind != "" && t.Kind != kind) {
		return "", fmt.Errorf("token: a %s token where a %s token is needed", t.Kind, kind)
	}
	return t.Password, t.CheckCA(s.authority[pki.ServerCA].Bundle)
}

func keptPassword(path string) (string, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	t, err := token.Parse(string(b))
	if err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	return t.Password, nil
}

const encryptionFile = "cred/encryption-config.json"

// encryptionConfig writes the API server's encryption configuration once.
func (s *Server) encryptionConfig() (string, error) {
	path := filepath.Join(s.dir, encryptionFile)
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	key := make([]byte, 32)
	if _, err := rand.Read(key); err != nil {
		return "", err
	}
	type object = map[string]any
	b, err := json.Marshal(object{
		"apiVersion": "apiserver.config.k8s.io/v1",
		"kind":       "EncryptionConfiguration",
		"resources": []object{{
			"resources": []string{"secrets"},
			"providers": []object{
				{"aescbc": object{"keys": []object{{"name": "aescbckey", "secret": base64.StdEncoding.EncodeToString(key)}}}},
				{"identity": object{}},
			},
		}},
	})
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", err
	}
	return path, os.WriteFile(path, b, 0o600)
}
