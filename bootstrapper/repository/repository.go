// Package repository writes the git repository that a new cluster begins with.
package repository

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/rhizome-dev/rhizome/examples"
	"github.com/rhizome-dev/rhizome/internal/inventory"
	"github.com/rhizome-dev/rhizome/internal/manifests"
)

// Options are what a new repository says of the machines at hand.
type Options struct {
	CIDR    netip.Prefix
	Gateway netip.Addr
	// Nodes, of which the first is the one to seed. None: one whose MAC is left to
	// fill in.
	Nodes []Node
	// Image and its SHA-256. Empty: the example's, and left to fill in.
	Image, SHA256 string
	// Repository is the URL of the git repository that the files are to be pushed to,
	// and Branch the branch that the cluster follows. Without Repository the cluster
	// follows none: its GitOps is written commented out. Without Branch: main.
	Repository, Branch string
	// RepositorySecret names the Secret with which the repository is read. Empty:
	// everybody may.
	RepositorySecret string
	// HomeURL is the base URL of the cluster's own Gitea, seen from within. Empty: that
	// of the example's platform/gitea.
	HomeURL string
	// Taken are addresses that no machine may be given, such as our own.
	Taken []netip.Addr
}

// Node is a machine. What is empty is chosen, or left to fill in.
type Node struct {
	Name, MAC, Role, Architecture string
	Address                       netip.Addr
}

// The places of the example.
const (
	root       = "homelab"
	cluster    = "bootstrap/cluster/cluster.yaml"
	kustomize  = "bootstrap/cluster/kustomization.yaml"
	nodeFile   = "bootstrap/cluster/nodes/node1.yaml"
	systemFile = "bootstrap/cluster/operatingsystems/debian-12.yaml"
	gitOps     = "bootstrap/cluster/gitops.yaml"
	nodeLine   = "  - nodes/node1.yaml\n"
	gitOpsLine = "  - gitops.yaml\n"
	secretLine = "    # credentials: {name: seed}\n"
	toFill     = "FILL-IN"
)

// InvalidError is a repository that would not pass the checks.
type InvalidError struct{ Findings []inventory.Finding }

// Error implements error.
func (e *InvalidError) Error() string {
	lines := make([]string, len(e.Findings))
	for i, f := range e.Findings {
		lines[i] = f.String()
	}
	return "cannot write a repository that the checks would refuse:\n  " + strings.Join(lines, "\n  ")
}

// ConflictError is a directory that holds files already.
type ConflictError struct{ Files []string }

// Error implements error.
func (e *ConflictError) Error() string {
	return fmt.Sprintf("nothing was written: %s exists already; move it away or name another directory", strings.Join(e.Files, ", "))
}

// Files are the repository's files by their slash-separated paths. An
// *InvalidError says that they would not pass the checks, beside what is left to
// fill in.
func Files(o Options) (map[string][]byte, error) {
	files := map[string][]byte{}
	err := fs.WalkDir(examples.Homelab, root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := examples.Homelab.ReadFile(path)
		files[strings.TrimPrefix(path, root+"/")] = content
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("cannot read the example: %w", err)
	}
	edit := func(file, value string, path ...string) {
		if err == nil {
			files[file], err = set(files[file], value, path...)
		}
	}
	edit(cluster, o.CIDR.Masked().String(), "spec", "network", "cidr")
	edit(cluster, o.Gateway.String(), "spec", "network", "gateway")
	if o.Image != "" {
		edit(systemFile, o.Image, "spec", "media", "url")
	}
	if o.SHA256 != "" {
		edit(systemFile, o.SHA256, "spec", "media", "sha256")
	}
	switch {
	case o.Repository != "":
		edit(gitOps, o.Repository, "spec", "seed", "url")
		if o.Branch != "" {
			edit(gitOps, o.Branch, "spec", "seed", "branch")
		}
		if o.HomeURL != "" {
			edit(gitOps, o.HomeURL, "spec", "home", "url")
		}
		if o.RepositorySecret != "" {
			line := "    credentials: {name: " + o.RepositorySecret + "}\n"
			files[gitOps] = bytes.Replace(files[gitOps], []byte(secretLine), []byte(line), 1)
		}
	case o.Branch != "" || o.RepositorySecret != "" || o.HomeURL != "":
		return nil, errors.New("a branch, a Secret or a home of no repository means nothing: say the repository too")
	default:
		files[gitOps] = commentedOut(files[gitOps])
		files[kustomize] = bytes.Replace(files[kustomize], []byte(gitOpsLine), []byte("  # - gitops.yaml\n"), 1)
	}
	template := files[nodeFile]
	delete(files, nodeFile)
	var lines strings.Builder
	for _, n := range complete(o) {
		file := "bootstrap/cluster/nodes/" + n.Name + ".yaml"
		if _, twice := files[file]; twice {
			return nil, fmt.Errorf("two nodes have the name %q: name each once", n.Name)
		}
		files[file] = template
		edit(file, n.Name, "metadata", "name")
		edit(file, n.Role, "spec", "role")
		edit(file, n.MAC, "spec", "mac")
		edit(file, n.Address.String(), "spec", "address")
		edit(file, n.Architecture, "spec", "architecture")
		fmt.Fprintf(&lines, "  - nodes/%s.yaml\n", n.Name)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot fill in the example: %w", err)
	}
	files[kustomize] = bytes.Replace(files[kustomize], []byte(nodeLine), []byte(lines.String()), 1)
	return files, judge(files)
}

// howToFollow is above a GitOps that is commented out.
const howToFollow = `# Once this repository is pushed somewhere, the cluster can follow it: write its URL
# below, take the first "# " of each line away, and that in kustomization.yaml; commit,
# push, and run once: kubectl apply -f bootstrap/cluster/gitops.yaml
#
`

// commentedOut is a document that declares nothing, and says how to change that.
func commentedOut(content []byte) []byte {
	var out bytes.Buffer
	out.WriteString(howToFollow)
	for line := range bytes.Lines(content) {
		if len(bytes.TrimSpace(line)) == 0 {
			out.WriteString("#\n")
			continue
		}
		out.WriteString("# ")
		out.Write(line)
	}
	return out.Bytes()
}

// judge refuses what the checks would find, except for what is left to fill in.
func judge(files map[string][]byte) error {
	var all bytes.Buffer
	for path, content := range files {
		if filepath.Ext(path) == ".yaml" {
			fmt.Fprintf(&all, "---\n%s\n", content)
		}
	}
	r := manifests.Parse("", all.Bytes())
	r.Judge()
	findings := slices.DeleteFunc(r.Findings, func(f inventory.Finding) bool {
		return f.Severity != inventory.Error || strings.HasSuffix(f.Message, "still to be filled in")
	})
	for i := range findings {
		findings[i].File, findings[i].Line = "", 0 // not written yet
	}
	if len(findings) > 0 {
		return &InvalidError{findings}
	}
	return nil
}

// complete chooses what the options leave open. Addresses are the first ones
// from the network's tenth on that nothing is known to have; many routers hand
// out only higher ones.
func complete(o Options) []Node {
	nodes := slices.Clone(o.Nodes)
	if len(nodes) == 0 {
		nodes = []Node{{}}
	}
	taken := map[netip.Addr]bool{o.Gateway: true}
	for _, a := range o.Taken {
		taken[a] = true
	}
	for _, n := range nodes {
		taken[n.Address] = true
	}
	next := o.CIDR.Masked().Addr()
	for range 10 {
		next = next.Next()
	}
	for i := range nodes {
		n := &nodes[i]
		if n.Name == "" {
			n.Name = fmt.Sprintf("node%d", i+1)
		}
		if n.MAC == "" {
			n.MAC = toFill
		}
		if n.Architecture == "" {
			n.Architecture = "amd64"
		}
		if n.Role == "" {
			n.Role = "Worker"
			if i == 0 {
				n.Role = "ControlPlane"
			}
		}
		if !n.Address.IsValid() {
			for taken[next] {
				next = next.Next()
			}
			n.Address = next
			taken[next] = true
		}
	}
	return nodes
}

// Write writes files into a directory, which is made if need be. It never
// overwrites: if any of them is there already it writes none, and the error is a
// *ConflictError that names them.
func Write(dir string, files map[string][]byte) error {
	paths := make([]string, 0, len(files))
	for path := range files {
		paths = append(paths, path)
	}
	slices.Sort(paths)
	if info, err := os.Stat(dir); err == nil && !info.IsDir() {
		return fmt.Errorf("cannot write the repository: %s is not a directory: name another", dir)
	}
	var there []string
	for _, path := range paths {
		_, err := os.Lstat(filepath.Join(dir, filepath.FromSlash(path)))
		switch {
		case err == nil:
			there = append(there, filepath.Join(dir, filepath.FromSlash(path)))
		case !errors.Is(err, fs.ErrNotExist):
			return fmt.Errorf("cannot write the repository: %w", err)
		}
	}
	if len(there) > 0 {
		return &ConflictError{there}
	}
	for _, path := range paths {
		if err := write(filepath.Join(dir, filepath.FromSlash(path)), files[path]); err != nil {
			return fmt.Errorf("cannot write the repository: %w", err)
		}
	}
	return nil
}

func write(path string, content []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	return errors.Join(err, f.Close())
}
