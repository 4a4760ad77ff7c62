//go:build linux

package main

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
)

// identity of the lab's commits. A person's own are theirs.
var identity = []string{"-c", "user.name=lab", "-c", "user.email=lab@localhost"}

// commit commits everything in the lab's repository, which is made if need be.
// Nothing to commit is no error.
func commit(ctx context.Context, repository, message string) error {
	if !committed(repository) {
		if _, err := git(ctx, repository, "init", "--quiet", "--initial-branch=main"); err != nil {
			return err
		}
	}
	if _, err := git(ctx, repository, "add", "--all"); err != nil {
		return err
	}
	if clean, err := unchanged(ctx, repository); err != nil || clean {
		return err
	}
	_, err := git(ctx, repository, "commit", "--quiet", "--message="+message)
	return err
}

// committed: there is a repository, so that what it says is its owner's.
func committed(repository string) bool { return exists(filepath.Join(repository, ".git")) }

// unchanged: all that is there is committed.
func unchanged(ctx context.Context, repository string) (bool, error) {
	changes, err := git(ctx, repository, "status", "--porcelain")
	return changes == "", err
}

// head is the newest commit.
func head(ctx context.Context, repository string) (string, error) {
	return git(ctx, repository, "rev-parse", "HEAD")
}

func git(ctx context.Context, dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", append(append([]string{"-C", dir}, identity...), args...)...)
	var out, failed bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &failed
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("git %s: %w: %s", args[0], err, strings.TrimSpace(failed.String()))
	}
	return strings.TrimSpace(out.String()), nil
}
