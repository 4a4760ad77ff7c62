package host

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// snapshotPrefix is that of the files that are ours to delete.
const snapshotPrefix = "rhizome-"

// snapshotPatience bounds the whole of it, and askPatience a question to etcd.
const (
	snapshotPatience = 5 * time.Minute
	askPatience      = 15 * time.Second
)

// SnapshotCommand is the command `etcd-snapshot`.
func SnapshotCommand() *cobra.Command {
	s := snapshot{now: time.Now}
	cmd := &cobra.Command{
		Use:   "etcd-snapshot",
		Short: "Save etcd to a file",
		Long: `Save etcd to a file, from the member on this host, read it back and compare its
digest. The operator runs it in a pod on a server before it takes another one out of
etcd. The file is of etcd's own form: k3s restores it by --cluster-reset-restore-path.`,
		Args:   cobra.NoArgs,
		Hidden: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), snapshotPatience)
			defer cancel()
			said, err := s.save(ctx)
			if err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), said)
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&s.endpoint, "endpoint", etcdEndpoint, "`URL` of the member")
	f.StringVar(&s.tls, "tls", etcdTLS, "`directory` with client.crt, client.key and server-ca.crt")
	f.StringVar(&s.dir, "dir", "/var/lib/rancher/k3s/server/db/snapshots", "`directory` that the file is put in")
	f.StringVar(&s.name, "name", "snapshot", "`name` of the file; the time is added")
	f.IntVar(&s.keep, "keep", 5, "how many files of this command stay; the oldest go")
	return cmd
}

// snapshot is one saving.
type snapshot struct {
	endpoint, tls, dir, name string
	keep                     int
	now                      func() time.Time
}

// save writes the file and returns what it is, for people.
func (s snapshot) save(ctx context.Context) (string, error) {
	if s.name == "" || strings.ContainsAny(s.name, "/\\") || s.name != filepath.Base(s.name) {
		return "", fmt.Errorf("--name is %q: want the name of a file", s.name)
	}
	c, err := dialEtcd(s.tls, s.endpoint)
	if err != nil {
		return "", err
	}
	defer func() { _ = c.Close() }()
	asked, cancel := context.WithTimeout(ctx, askPatience)
	defer cancel()
	status, err := c.Status(asked, s.endpoint)
	if err != nil {
		return "", fmt.Errorf("cannot ask etcd at %s for its state: %w", s.endpoint, err)
	}
	members, err := list(asked, c)
	if err != nil {
		return "", err
	}
	stream, err := c.Snapshot(ctx)
	if err != nil {
		return "", fmt.Errorf("cannot read etcd at %s: %w", s.endpoint, err)
	}
	defer stream.Close()
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return "", fmt.Errorf("cannot make the directory of snapshots: %w", err)
	}
	path := filepath.Join(s.dir, snapshotPrefix+s.name+"-"+s.now().UTC().Format("20060102t150405"))
	size, err := store(stream, path)
	if err != nil {
		return "", err
	}
	if err := s.prune(); err != nil {
		return "", err
	}
	var who []string
	for _, m := range members {
		who = append(who, m.Name)
	}
	return fmt.Sprintf("%s, %d bytes, revision %d of etcd, digest compared; its members: %s",
		path, size, status.Header.GetRevision(), strings.Join(who, ", ")), nil
}

// store writes the stream to a file that is there whole or not at all.
func store(stream io.Reader, path string) (int64, error) {
	part := path + ".part"
	f, err := os.OpenFile(part, os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
	if err != nil {
		return 0, fmt.Errorf("cannot save etcd: %w", err)
	}
	defer os.Remove(part)
	defer f.Close()
	size, err := io.Copy(f, stream)
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = verify(f, size)
	}
	if err == nil {
		err = os.Rename(part, path)
	}
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		return 0, fmt.Errorf("cannot save etcd to %s: %w", path, err)
	}
	return size, nil
}

// verify reads a snapshot back: etcd ends it with the digest of what is before, and
// all that is in pages of 512 bytes at least. (etcd, server/etcdserver/api/v3rpc)
func verify(f io.ReadSeeker, size int64) error {
	const digest = sha256.Size
	if size <= digest || size%512 != digest {
		return fmt.Errorf("it is cut off: %d bytes", size)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	h := sha256.New()
	if _, err := io.CopyN(h, f, size-digest); err != nil {
		return err
	}
	want, err := io.ReadAll(io.LimitReader(f, digest))
	if err != nil {
		return err
	}
	if !bytes.Equal(h.Sum(nil), want) {
		return errors.New("its digest is not the one that it ends with")
	}
	return nil
}

// prune deletes the oldest files of this command. Their names end with their time.
func (s snapshot) prune() error {
	all, err := filepath.Glob(filepath.Join(s.dir, snapshotPrefix+"*"))
	if err != nil {
		return err
	}
	all = slices.DeleteFunc(all, func(path string) bool { return strings.HasSuffix(path, ".part") })
	at := func(path string) string { return path[strings.LastIndex(path, "-")+1:] }
	slices.SortFunc(all, func(a, b string) int { return strings.Compare(at(b), at(a)) })
	for _, old := range all[min(max(s.keep, 1), len(all)):] {
		if err := os.Remove(old); err != nil {
			return fmt.Errorf("cannot delete an old snapshot: %w", err)
		}
	}
	return nil
}
