// Package source looks at the repositories that a cluster may follow: at a branch
// of any git server, and at the Gitea that hosts one.
package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/format/packfile"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/capability"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/sideband"
	"github.com/go-git/go-git/v5/plumbing/storer"
	"github.com/go-git/go-git/v5/plumbing/transport"
	"github.com/go-git/go-git/v5/plumbing/transport/client"
	"github.com/go-git/go-git/v5/storage/memory"
)

// DefaultMaxPack bounds what one look may receive, in bytes. Of servers that can
// filter, which all that matter can, no file's content is fetched: this is the
// history of a very large repository.
const DefaultMaxPack = 512 << 20

// ErrNoBranch says that the server was reached, and has no such branch.
var ErrNoBranch = errors.New("there is no such branch")

// Branch follows a branch of a git repository. It keeps commits and directories in
// memory, without files' contents where the server can leave them out, and fetches
// what is new since the last look. It may be used by several goroutines.
type Branch struct {
	url, name string
	maxPack   int64

	mu    sync.Mutex
	store *memory.Storage
	head  plumbing.Hash // complete in store; zero: none
}

// NewBranch follows the branch of the repository at a URL. Nothing is fetched yet.
func NewBranch(url, name string) *Branch {
	return &Branch{url: url, name: name, maxPack: DefaultMaxPack, store: memory.NewStorage()}
}

// URL is the repository's, and Name the branch's.
func (b *Branch) URL() string { return b.url }

// Name of the branch.
func (b *Branch) Name() string { return b.name }

// Tree is what a branch shows of itself.
type Tree struct {
	// Head is the commit, in hexadecimal.
	Head string
	// Directories are all paths of directories, sorted.
	Directories []string
	// Files counts the files of the top directory.
	Files int
}

// Matching are the directories that a pattern matches, in the sense of Argo CD's
// git generator: of path.Match, whole paths, and none that begins with a dot.
func (t Tree) Matching(pattern string) []string {
	var all []string
	for _, d := range t.Directories {
		if ok, err := path.Match(pattern, d); err == nil && ok {
			all = append(all, d)
		}
	}
	return all
}

// Look asks the server where the branch is, fetches what is missing and returns
// what is there. An error that is ErrNoBranch says that the server was reached.
func (b *Branch) Look(ctx context.Context, auth transport.AuthMethod) (Tree, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	session, refs, err := connect(ctx, b.url, auth)
	if err != nil {
		return Tree{}, err
	}
	// It reports again what a read has reported before.
	defer func() { _ = session.Close() }()
	head, ok := refs.References[plumbing.NewBranchReferenceName(b.name).String()]
	if !ok {
		return Tree{}, ErrNoBranch
	}
	if head != b.head {
		if err := b.fetch(ctx, session, refs, head); err != nil {
			return Tree{}, fmt.Errorf("cannot fetch %s: %w", head, clean(err))
		}
		b.head = head
	}
	return b.tree()
}

// connect asks a server for its references. The caller closes the session.
func connect(ctx context.Context, url string, auth transport.AuthMethod) (transport.UploadPackSession, *packp.AdvRefs, error) {
	endpoint, err := transport.NewEndpoint(url)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot understand the URL: %w", clean(err))
	}
	if endpoint.Protocol == "file" {
		return nil, nil, errors.New("a path of this machine is no repository that Argo CD could read")
	}
	git, err := client.NewClient(endpoint)
	if err != nil {
		return nil, nil, clean(err)
	}
	session, err := git.NewUploadPackSession(endpoint, auth)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot connect: %w", clean(err))
	}
	refs, err := session.AdvertisedReferencesContext(ctx)
	if err == nil {
		return session, refs, nil
	}
	_ = session.Close() // what it would report is in err
	if errors.Is(err, transport.ErrEmptyRemoteRepository) {
		return nil, nil, ErrNoBranch
	}
	return nil, nil, fmt.Errorf("cannot list the branches: %w", clean(err))
}

// fetch receives the commits and directories up to head.
func (b *Branch) fetch(ctx context.Context, session transport.UploadPackSession, refs *packp.AdvRefs, head plumbing.Hash) error {
	req := packp.NewUploadPackRequestFromCapabilities(refs.Capabilities)
	req.Wants = []plumbing.Hash{head}
	if !b.head.IsZero() {
		req.Haves = []plumbing.Hash{b.head}
	}
	if refs.Capabilities.Supports(capability.Filter) {
		if err := req.Capabilities.Set(capability.Filter); err != nil {
			return err
		}
		req.Filter = packp.FilterBlobNone()
	}
	answer, err := session.UploadPack(ctx, req)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Close() }()
	limited := &limitedReader{r: answer, left: b.maxPack}
	var pack io.Reader = limited
	switch {
	case req.Capabilities.Supports(capability.Sideband64k):
		pack = sideband.NewDemuxer(sideband.Sideband64k, limited)
	case req.Capabilities.Supports(capability.Sideband):
		pack = sideband.NewDemuxer(sideband.Sideband, limited)
	}
	if err := packfile.UpdateObjectStorage(b.store, pack); err != nil {
		return err
	}
	_, err = object.GetCommit(b.store, head)
	return err
}

// limitedReader ends with an error, not with an end, so that a pack that was cut
// is not taken for one that was short.
type limitedReader struct {
	r    io.Reader
	left int64
}

func (l *limitedReader) Read(p []byte) (int, error) {
	if l.left <= 0 {
		return 0, errors.New("the repository is too large to be looked at")
	}
	n, err := l.r.Read(p[:min(int64(len(p)), l.left)])
	l.left -= int64(n)
	return n, err
}

// tree reads the head's directories.
func (b *Branch) tree() (Tree, error) {
	commit, err := object.GetCommit(b.store, b.head)
	if err != nil {
		return Tree{}, fmt.Errorf("cannot read the commit %s: %w", b.head, err)
	}
	t := Tree{Head: b.head.String()}
	var walk func(at plumbing.Hash, prefix string) error
	walk = func(at plumbing.Hash, prefix string) error {
		dir, err := object.GetTree(b.store, at)
		if err != nil {
			return fmt.Errorf("cannot read the directory %q of %s: %w", prefix, b.head, err)
		}
		for _, e := range dir.Entries {
			switch {
			case e.Mode != filemode.Dir:
				if prefix == "" {
					t.Files++
				}
			case strings.HasPrefix(e.Name, "."):
				// Argo CD passes over them.
			default:
				full := path.Join(prefix, e.Name)
				t.Directories = append(t.Directories, full)
				if err := walk(e.Hash, full); err != nil {
					return err
				}
			}
		}
		return nil
	}
	if err := walk(commit.TreeHash, ""); err != nil {
		return Tree{}, err
	}
	slices.Sort(t.Directories)
	return t, nil
}

// Relation is how a branch stands to a commit.
type Relation int

const (
	// Unknown says that not enough is known of the commit; take it for Behind.
	Unknown Relation = iota
	// Contains says that the commit is in the branch's history.
	Contains
	// Behind says that the commit builds on the branch's head.
	Behind
	// Diverged says that neither builds on the other.
	Diverged
)

// Relate says how the branch, as it was at the last look, stands to a commit. Where
// the branch's own objects do not know the commit, those of others are asked.
func (b *Branch) Relate(commit string, others ...*Branch) Relation {
	hash := plumbing.NewHash(commit)
	b.mu.Lock()
	head := b.head
	if head.IsZero() || hash.IsZero() {
		b.mu.Unlock()
		return Unknown
	}
	within, _ := isAncestor(b.store, hash, head)
	b.mu.Unlock()
	if within {
		return Contains
	}
	known := false
	for _, o := range append([]*Branch{b}, others...) {
		o.mu.Lock()
		builds, whole := isAncestor(o.store, head, hash)
		o.mu.Unlock()
		if builds {
			return Behind
		}
		known = known || whole
	}
	if known {
		return Diverged
	}
	return Unknown
}

// isAncestor says whether the history of a commit has another one, or is it. whole
// says that all of the history is there, so that a no is a no.
func isAncestor(store storer.EncodedObjectStorer, ancestor, of plumbing.Hash) (is, whole bool) {
	seen := map[plumbing.Hash]bool{}
	queue := []plumbing.Hash{of}
	whole = true
	for len(queue) > 0 {
		next := queue[len(queue)-1]
		queue = queue[:len(queue)-1]
		if next == ancestor {
			return true, true
		}
		if seen[next] {
			continue
		}
		seen[next] = true
		commit, err := object.GetCommit(store, next)
		if err != nil {
			whole = false
			continue
		}
		queue = append(queue, commit.ParentHashes...)
	}
	return false, whole
}

// clean takes what a URL may hold of credentials out of an error.
func clean(err error) error {
	var e *transportError
	if errors.As(err, &e) {
		return err
	}
	return &transportError{err}
}

type transportError struct{ err error }

func (e *transportError) Error() string { return Redact(e.err.Error()) }
func (e *transportError) Unwrap() error { return e.err }
