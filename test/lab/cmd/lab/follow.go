//go:build linux

package main

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/rhizome-dev/rhizome/test/lab"
)

// follower is a fake of Argo CD: it applies what is committed to the lab's git
// repository to the cluster, and takes nothing away. It is there until the
// operator installs the real one.
type follower struct {
	dir       string // the lab's
	namespace string
	logger    *slog.Logger

	applied string // the commit that the cluster has
	failed  string // what was last said to have failed
}

// run follows until ctx ends.
func (f *follower) run(ctx context.Context) {
	for {
		commit, err := f.step(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil && err.Error() != f.failed:
			f.failed = err.Error()
			f.logger.Warn("cannot follow the repository", "error", err)
		case err == nil && commit != f.applied:
			f.applied, f.failed = commit, ""
			f.logger.Info("applied", "commit", commit)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Second):
		}
	}
}

// step applies the newest commit unless it is applied, and returns it.
func (f *follower) step(ctx context.Context) (string, error) {
	repository := filepath.Join(f.dir, repositoryDir)
	if !exists(filepath.Join(repository, ".git")) || !exists(filepath.Join(f.dir, kubeconfig)) {
		return f.applied, nil // there is no cluster yet
	}
	head, err := git(ctx, repository, "rev-parse", "HEAD")
	if err != nil || head == f.applied {
		return head, err
	}
	checkout := filepath.Join(f.dir, "checkout")
	if err := os.RemoveAll(checkout); err != nil {
		return "", err
	}
	// A clone, not the work tree: what counts is what is committed.
	if _, err := git(ctx, f.dir, "clone", "--quiet", "--shared", repository, checkout); err != nil {
		return "", err
	}
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	apply := lab.CommandIn(ctx, f.namespace, self, "kubectl-inside", "apply", "--server-side",
		"--field-manager=lab-git", "--request-timeout=30s", "--recursive", "--filename="+filepath.Join(checkout, manifestsDir))
	apply.Env = append(os.Environ(), "KUBECONFIG="+filepath.Join(f.dir, kubeconfig))
	if out, err := apply.CombinedOutput(); err != nil {
		return "", fmt.Errorf("kubectl apply of %.12s: %w: %s", head, err, strings.TrimSpace(string(out)))
	}
	return head, nil
}

// commit commits everything in the lab's repository, which is made if need be.
// Nothing to commit is no error.
func commit(ctx context.Context, repository, message string) error {
	if !exists(filepath.Join(repository, ".git")) {
		if _, err := git(ctx, repository, "init", "--quiet", "--initial-branch=main"); err != nil {
			return err
		}
	}
	if _, err := git(ctx, repository, "add", "--all"); err != nil {
		return err
	}
	if _, err := git(ctx, repository, "diff", "--cached", "--quiet"); err == nil {
		return nil
	}
	_, err := git(ctx, repository, "commit", "--quiet", "--message="+message)
	return err
}

func git(ctx context.Context, dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", append([]string{"-C", dir, "-c", "user.name=lab", "-c", "user.email=lab@localhost"}, args...)...)
	var out, failed bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &failed
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("git %s: %w: %s", args[0], err, strings.TrimSpace(failed.String()))
	}
	return strings.TrimSpace(out.String()), nil
}
