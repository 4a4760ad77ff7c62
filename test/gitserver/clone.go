//go:build linux

package gitserver

import (
	"os"
	"path/filepath"
	"testing"
)

// Clone is a checkout of the branch main of a repository, anywhere. One
// goroutine at a time uses it.
type Clone struct {
	dir string
}

// NewClone clones a repository, which may be empty. The URL may hold
// credentials: they end with the test.
func NewClone(t testing.TB, url string) *Clone {
	t.Helper()
	c := &Clone{dir: t.TempDir()}
	run(t, c.dir, "-c", "init.defaultBranch=main", "clone", "--quiet", url, ".")
	return c
}

// Commit writes the files, by path below the repository's root, removes those
// whose content is empty, pushes, and returns the commit's hash. It says nothing
// of what others have pushed: see Pull.
func (c *Clone) Commit(t testing.TB, message string, files map[string]string) string {
	t.Helper()
	hash := c.CommitOnly(t, message, files)
	c.Push(t)
	return hash
}

// CommitOnly is Commit without the push.
func (c *Clone) CommitOnly(t testing.TB, message string, files map[string]string) string {
	t.Helper()
	for name, content := range files {
		path := filepath.Join(c.dir, name)
		if content == "" {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	run(t, c.dir, "add", "--all")
	run(t, c.dir, "commit", "--quiet", "--allow-empty", "--message", message)
	return c.Head(t)
}

// Head is the commit that is checked out.
func (c *Clone) Head(t testing.TB) string {
	t.Helper()
	return run(t, c.dir, "rev-parse", "HEAD")
}

// Push pushes what is checked out to the branch main where it was cloned from.
func (c *Clone) Push(t testing.TB) {
	t.Helper()
	run(t, c.dir, "push", "--quiet", "origin", "HEAD:refs/heads/main")
}

// ForcePush is Push over whatever the branch has, as a person does who rewrites
// history.
func (c *Clone) ForcePush(t testing.TB) {
	t.Helper()
	run(t, c.dir, "push", "--quiet", "--force", "origin", "HEAD:refs/heads/main")
}

// Reset checks out another commit: the next one has it as its parent.
func (c *Clone) Reset(t testing.TB, commit string) {
	t.Helper()
	run(t, c.dir, "reset", "--quiet", "--hard", commit)
}

// Pull checks out what the branch main has where the clone came from.
func (c *Clone) Pull(t testing.TB) {
	t.Helper()
	run(t, c.dir, "fetch", "--quiet", "origin", "main")
	c.Reset(t, "FETCH_HEAD")
}
