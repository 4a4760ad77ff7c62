//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/rhizome-dev/rhizome/test/lab/repository"
)

// growing is what happens once the bootstrapper has ended: the cluster does it all.
type growing struct {
	dir      string // the lab's
	state    state
	patience time.Duration
	byHand   bool // a person commits
	phases   *phases
}

// follow waits until Argo CD runs in the cluster and has applied what is committed.
func (g growing) follow(ctx context.Context) error {
	fmt.Printf("The bootstrapper has ended. The operator installs Argo CD, which follows %s\n(%s).\n\n", g.tree(), g.state.Repository)
	return g.phases.run("Argo CD", func() error { return g.await(ctx) })
}

// grow has the lab's other machines committed and waits until they are members.
func (g growing) grow(ctx context.Context) error {
	var names []string
	for _, m := range g.state.Machines[1:] {
		names = append(names, m.Name)
		file := filepath.Join(g.tree(), manifestsDir, repository.NodeFile(m.Name))
		if exists(file) {
			continue
		}
		if err := repository.WriteNode(filepath.Dir(file), m.node()); err != nil {
			return err
		}
		fmt.Printf("Declared %s (%s, %s firmware) in %s\n", m.Name, m.Role, m.Firmware, filepath.Join(manifestsDir, repository.NodeFile(m.Name)))
	}
	if err := g.commit(ctx, "More machines"); err != nil {
		return err
	}
	fmt.Println()
	return g.phases.run("growth", func() error { return g.await(ctx, names...) })
}

// commit commits what was written, or waits for the person who does.
func (g growing) commit(ctx context.Context, message string) error {
	command := fmt.Sprintf("git -C %[1]s add --all && git -C %[1]s commit --message=%[2]q", g.tree(), message)
	if !g.byHand {
		fmt.Printf("Committed: %s\n", command)
		return commit(ctx, g.tree(), message)
	}
	for said := false; ; {
		clean, err := unchanged(ctx, g.tree())
		if err != nil || clean {
			return err
		}
		if !said {
			fmt.Printf("Waiting for a commit. Commit it: %s\n", command)
			said = true
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
		}
	}
}

func (g growing) tree() string { return filepath.Join(g.dir, repositoryDir) }

// await waits, on the lab's network, until the newest commit is applied and the nodes
// are members.
func (g growing) await(ctx context.Context, nodes ...string) error {
	commit, err := head(ctx, g.tree())
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	args := append([]string{self, "await-inside", "--patience=" + g.patience.String(), "--commit=" + commit, "--lab=" + shortest(self)}, nodes...)
	return runInside(g.dir, g.state, args...)
}

// phases keeps how long each phase took.
type phases struct {
	lines []string
	now   func() time.Time
}

func (p *phases) run(name string, phase func() error) error {
	began := p.now()
	err := phase()
	p.lines = append(p.lines, fmt.Sprintf("  %-10s %s", name, p.now().Sub(began).Round(time.Second)))
	return err
}
