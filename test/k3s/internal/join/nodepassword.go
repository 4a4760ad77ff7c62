package join

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/scrypt"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// errNodePassword is k3s' own wording, which its users search for.
var errNodePassword = errors.New("Node password rejected, duplicate hostname or contents of '/etc/rancher/node/password' may not match server node-passwd entry") //nolint:staticcheck

// checkNodePassword compares the password with the hash in the Secret
// <node>.node-password.k3s of kube-system, and creates that for a new node
// (https://docs.k3s.io/architecture#how-agent-node-registration-works).
func checkNodePassword(ctx context.Context, kube kubernetes.Interface, node, password string) error {
	if node == "" || password == "" {
		return fmt.Errorf("%w: node name or node password missing", errNodePassword)
	}
	secrets := kube.CoreV1().Secrets("kube-system")
	name := strings.ToLower(node) + ".node-password.k3s"
	found, err := secrets.Get(ctx, name, metav1.GetOptions{})
	switch {
	case err == nil:
		if !verify(string(found.Data["hash"]), password) {
			return errNodePassword
		}
		return nil
	case !apierrors.IsNotFound(err):
		return fmt.Errorf("cannot read the Secret %s: %w", name, err)
	}
	hash, err := hash(password)
	if err != nil {
		return err
	}
	immutable := true
	_, err = secrets.Create(ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "kube-system"},
		Immutable:  &immutable,
		Data:       map[string][]byte{"hash": []byte(hash)},
	}, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("cannot create the Secret %s: %w", name, err)
	}
	return nil
}

const (
	scryptN, scryptR, scryptP = 1 << 15, 8, 1
	keyLength                 = 64
)

func hash(password string) (string, error) {
	salt := make([]byte, 8)
	if _, err := rand.Read(salt); err != nil {
		return "", err
	}
	key, err := scrypt.Key([]byte(password), salt, scryptN, scryptR, scryptP, keyLength)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("$1:%s:15:8:1:%s", hex.EncodeToString(salt), base64.RawStdEncoding.EncodeToString(key)), nil
}

func verify(hash, password string) bool {
	parts := strings.Split(hash, ":")
	if len(parts) != 6 || strings.Join([]string{parts[0], parts[2], parts[3], parts[4]}, ":") != "$1:15:8:1" {
		return false
	}
	salt, err := hex.DecodeString(parts[1])
	if err != nil {
		return false
	}
	want, err := base64.RawStdEncoding.DecodeString(parts[5])
	if err != nil || len(want) != keyLength {
		return false
	}
	key, err := scrypt.Key([]byte(password), salt, scryptN, scryptR, scryptP, keyLength)
	return err == nil && subtle.ConstantTimeCompare(key, want) == 1
}
