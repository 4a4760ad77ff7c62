package lock

import (
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"time"

	"github.com/rhizome-dev/rhizome/pxe/media"
)

// maxSums bounds a publisher's checksums, in bytes; Debian's have about 100 kB.
const maxSums = 4 << 20

// Locker fills in the digests that manifests lack.
type Locker struct {
	// Cache is where what is downloaded stays: seed finds it there.
	Cache *media.Cache
	// Dir is a directory for what is still being downloaded.
	Dir string
	// Client of what has no digest yet.
	Client *http.Client
	// Say is told what is done with each file, in one line.
	Say func(format string, args ...any)
	// Progress is told of every download. It may be nil.
	Progress func(name string, done, total int64)
	// Unpublished allows to pin a file that no publisher's checksums name: what is
	// downloaded now is then what is trusted.
	Unpublished bool
}

// File locks one manifest: it is written anew, in one step, once every digest that
// was missing is known. It returns how many were.
func (l *Locker) File(ctx context.Context, name string) (int, error) {
	content, err := os.ReadFile(name)
	if err != nil {
		return 0, fmt.Errorf("cannot read the manifest: %w", err)
	}
	all, err := places(content)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", name, err)
	}
	digests := map[position]string{}
	for _, p := range all {
		if !p.missing() {
			l.Say("%s: OperatingSystem/%s: %s has its digest already", name, p.system, p.url)
			continue
		}
		digest, err := l.digest(ctx, p)
		if err != nil {
			return 0, fmt.Errorf("%s: OperatingSystem/%s: %w", name, p.system, err)
		}
		digests[p.key()] = digest
	}
	if len(digests) == 0 {
		return 0, nil
	}
	locked, err := fill(content, digests, all)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", name, err)
	}
	return len(digests), replace(name, locked)
}

// replace writes a file in one step, with the permissions that it had.
func replace(name string, content []byte) error {
	info, err := os.Stat(name)
	if err != nil {
		return fmt.Errorf("cannot write the manifest: %w", err)
	}
	tmp, err := os.CreateTemp(filepath.Dir(name), ".lock-*")
	if err != nil {
		return fmt.Errorf("cannot write the manifest: %w", err)
	}
	defer func() { _ = os.Remove(tmp.Name()) }()
	_, err = tmp.Write(content)
	if err = errors.Join(err, tmp.Chmod(info.Mode().Perm()), tmp.Sync(), tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), name)
	}
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", name, err)
	}
	return nil
}

// digest downloads a file, and says what it must be from now on.
func (l *Locker) digest(ctx context.Context, p place) (string, error) {
	want, err := l.published(ctx, p)
	if err != nil {
		return "", err
	}
	if want == (published{}) && !l.Unpublished {
		const fix = "name the checksums' URL in the annotation rhizome.dev/checksums, or trust what is downloaded now with --unpublished"
		if len(p.sums) == 0 {
			return "", fmt.Errorf("%s: nothing says what it should be: %s", p.url, fix)
		}
		return "", fmt.Errorf("%s: the publisher's checksums do not name it: %s", p.url, fix)
	}
	progress := func(done, total int64) {
		if l.Progress != nil {
			l.Progress(path.Base(p.url), done, total)
		}
	}
	if want.sha256 != "" {
		if _, err := l.Cache.Fetch(ctx, media.Source{URL: p.url, SHA256: want.sha256}, progress); err != nil {
			return "", err
		}
		l.Say("%s is what its publisher says: %s", p.url, want.sha256)
		return want.sha256, nil
	}
	got, err := l.download(ctx, p.url, progress)
	if err != nil {
		return "", err
	}
	switch {
	case want.sha512 == "":
		l.Say("%s is trusted as it was downloaded: %s", p.url, got.sha256)
	case want.sha512 != got.sha512:
		return "", fmt.Errorf("%s is not what its publisher says: expected SHA-512 %s, got %s; try again later or name another mirror", p.url, want.sha512, got.sha512)
	default:
		l.Say("%s is what its publisher says (SHA-512): %s", p.url, got.sha256)
	}
	return got.sha256, nil
}

// published is what the publisher's checksums say of a file. They are only worth
// something if they come from whom they should: by HTTPS, or from this machine.
func (l *Locker) published(ctx context.Context, p place) (published, error) {
	for _, address := range p.sums {
		u, err := url.Parse(address)
		if err != nil || u.Scheme != "https" && u.Scheme != "file" {
			return published{}, fmt.Errorf("the checksums %s: want an https URL", address)
		}
		body, err := l.open(ctx, u)
		if err != nil {
			return published{}, fmt.Errorf("cannot read the publisher's checksums: %w", err)
		}
		sums, err := io.ReadAll(io.LimitReader(body, maxSums))
		if err := errors.Join(err, body.Close()); err != nil {
			return published{}, fmt.Errorf("cannot read the publisher's checksums %s: %w", address, err)
		}
		if found := lookUp(sums, p.url); found != (published{}) {
			return found, nil
		}
	}
	return published{}, nil
}

// open opens a file of the web, or of this machine.
func (l *Locker) open(ctx context.Context, u *url.URL) (io.ReadCloser, error) {
	if u.Scheme == "file" {
		return os.Open(filepath.FromSlash(u.Path))
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	answer, err := l.Client.Do(request)
	if err != nil {
		return nil, err
	}
	if answer.StatusCode != http.StatusOK {
		_ = answer.Body.Close()
		return nil, fmt.Errorf("%s: the server answers %s", u.Redacted(), answer.Status)
	}
	return answer.Body, nil
}

// download downloads a file of which no SHA-256 digest is known, into the cache. It
// is begun anew if it breaks: there is nothing yet that could tell the two halves of
// a file apart from those of two files.
func (l *Locker) download(ctx context.Context, address string, progress func(done, total int64)) (published, error) {
	u, err := url.Parse(address)
	if err != nil {
		return published{}, err
	}
	body, err := l.open(ctx, u)
	if err != nil {
		return published{}, fmt.Errorf("cannot download: %w", err)
	}
	defer func() { _ = body.Close() }()
	tmp, err := os.CreateTemp(l.Dir, "lock-*")
	if err != nil {
		return published{}, fmt.Errorf("cannot download %s: %w", u.Redacted(), err)
	}
	defer func() { _ = os.Remove(tmp.Name()) }()
	one, other := sha256.New(), sha512.New()
	_, err = io.Copy(io.MultiWriter(tmp, one, other), &told{Reader: body, progress: progress})
	if err := errors.Join(err, tmp.Close()); err != nil {
		return published{}, fmt.Errorf("cannot download %s: %w", u.Redacted(), err)
	}
	name := path.Base(u.Path)
	if _, err := l.Cache.Add(ctx, tmp.Name(), name); err != nil {
		return published{}, err
	}
	return published{hex.EncodeToString(one.Sum(nil)), hex.EncodeToString(other.Sum(nil))}, nil
}

// told tells how much was read, a few times a second.
type told struct {
	io.Reader
	progress func(done, total int64)
	done     int64
	last     time.Time
}

func (t *told) Read(b []byte) (int, error) {
	n, err := t.Reader.Read(b)
	t.done += int64(n)
	if now := time.Now(); now.Sub(t.last) > 200*time.Millisecond || err != nil {
		t.last = now
		t.progress(t.done, 0)
	}
	return n, err
}
