package media

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
)

// maxInline is the size of the largest content that a URL may hold itself, in bytes.
const maxInline = 64 << 10

// inlinePrefix begins the URLs of Inline (RFC 2397).
const inlinePrefix = "application/octet-stream;base64,"

// Inline is a source whose URL holds the content itself: for what is made and not
// downloaded, and is to be found by its digest all the same. Content of more than
// 64 KiB cannot be fetched.
func Inline(name string, content []byte) Source {
	sum := sha256.Sum256(content)
	return Source{
		URL:    "data:" + inlinePrefix + base64.StdEncoding.EncodeToString(content),
		SHA256: hex.EncodeToString(sum[:]),
		Name:   name,
	}
}

// unpackInline writes the content of a data URL down.
func (c *Cache) unpackInline(ctx context.Context, src Source, u *url.URL) error {
	text, ok := strings.CutPrefix(u.Opaque, inlinePrefix)
	if !ok || len(text) > base64.StdEncoding.EncodedLen(maxInline) {
		return fmt.Errorf("cannot read a data URL: want at most %d bytes of application/octet-stream in base64", maxInline)
	}
	content, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return fmt.Errorf("cannot read a data URL: %w", err)
	}
	tmp, err := os.CreateTemp(c.dir, src.SHA256+".*.tmp")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(tmp.Name()) }()
	_, err = tmp.Write(content)
	if err := errors.Join(err, tmp.Close()); err != nil {
		return c.full(err)
	}
	return c.take(ctx, tmp.Name(), src.SHA256, "a data URL")
}
