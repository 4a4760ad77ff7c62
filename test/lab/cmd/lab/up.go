//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/rhizome-dev/rhizome/test/argocd/chart"
	"github.com/rhizome-dev/rhizome/test/lab"
	"github.com/rhizome-dev/rhizome/test/lab/repository"
)

// operatorArchive is the operator's image as make leaves it.
const operatorArchive = "rhizome-operator.oci.tar"

// upOptions are the flags of `lab up`. Paths that are empty are looked for beside
// this program, where `make` puts things.
type upOptions struct {
	bootstrapper, operatorImage, bootFiles, k3s, argoCD, firmware, loader string
	machines, servers                                                     int
	byHand                                                                bool
	patience                                                              time.Duration
}

func upCommand() *cobra.Command {
	var o upOptions
	cmd := &cobra.Command{
		Use:   "up [-- SEED FLAG...]",
		Short: "Start the lab, seed a cluster and let it grow; run again, it goes on where it was",
		Long: `Starts a private network with a home router and blank machines, and runs
"bootstrapper seed" in it: the first machine is turned on by Wake-on-LAN, boots from
the network and becomes a cluster, in which the operator installs Argo CD. Then the
other machines are committed to the git repository that it follows, and the cluster
adds them by itself. The lab stays up until "lab down".

K3S_VERSION, such as v1.33.5+k3s1, takes that release of k3s from the internet in
place of the stand-in of test/k3s.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return up(cmd.Context(), o, args)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.bootstrapper, "bootstrapper", "", "the bootstrapper (default: beside this program)")
	f.StringVar(&o.operatorImage, "operator-image", "", "OCI archive of the operator (default: rhizome-operator.oci.tar beside this program, if it is there)")
	f.StringVar(&o.bootFiles, "boot-files", "", "boot loaders and installer (default: the bootstrapper's own choice)")
	f.StringVar(&o.k3s, "k3s", "", "a built stand-in for k3s (default: test/k3s/build.sh of the working directory builds it)")
	f.StringVar(&o.argoCD, "argocd", "", "a built image of Argo CD (default: test/argocd/image/build.sh of the working directory builds it)")
	f.BoolVar(&o.byHand, "by-hand", false, "leave committing the other machines to you: the command is printed, and waited for")
	f.StringVar(&o.firmware, "firmware", string(lab.UEFI), "UEFI or BIOS, of the first machine")
	f.IntVar(&o.machines, "machines", 3, "how many machines: the first is seeded, the others grown, every second one of them by BIOS")
	f.IntVar(&o.servers, "servers", 1, "how many of them are servers, the first ones: 1, 3 or 5")
	f.DurationVar(&o.patience, "patience", 2*time.Hour, "how long Argo CD may take, and the growing after it")
	f.StringVar(&o.loader, "loader", "Auto", "boot loader: Auto, IPXE or GRUB")
	return cmd
}

func up(ctx context.Context, o upOptions, seedFlags []string) error {
	if os.Geteuid() != 0 {
		return errors.New("the lab makes network namespaces and needs root: run it with sudo")
	}
	if err := o.check(); err != nil {
		return err
	}
	seed, err := o.seedCommand()
	if err != nil {
		return err
	}
	dir, s, err := readState()
	running := err == nil
	if err != nil && !errors.Is(err, errNoLab) {
		return err
	}
	unlock, err := lockUp(dir)
	if err != nil {
		return err
	}
	defer unlock()

	image, err := lab.BuildImage(ctx, os.Stderr)
	if err != nil {
		return err
	}
	release, err := o.release(ctx)
	if err != nil {
		return err
	}
	argoCD, err := o.argo(ctx)
	if err != nil {
		return err
	}
	release.Images = append(release.Images, argoCD.Image)

	if running {
		fmt.Println("The lab is up already: going on with it.")
	} else {
		// What is there is of a lab that was not shut down; nothing of it runs.
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
		kept := keepOptions{firmware: o.firmware, machines: o.machines, servers: o.servers, serve: release.Paths()}
		kept.serve = append(kept.serve, image.Path)
		if s, err = startKeeper(ctx, dir, kept); err != nil {
			return err
		}
	}
	for _, path := range append(release.Paths(), image.Path) {
		if s.Served[path] == "" {
			return fmt.Errorf("%s is newer than this lab: `lab down`, then `lab up`", path)
		}
	}
	slow, err := emulated(ctx)
	if err != nil {
		return err
	}
	if err := chart.Write(filepath.Join(dir, chartsDir), argoCD.Manifests, slow); err != nil {
		return err
	}
	tree := filepath.Join(dir, repositoryDir)
	manifests := filepath.Join(tree, manifestsDir)
	// Once it is a repository, it says what the cluster is, and not this program.
	if !committed(tree) {
		options := repository.Options{Release: release, Image: image, Loader: o.loader, GitOps: &repository.GitOps{ArgoCD: argoCD}}
		if slow {
			options.AtOnce = onEmulated
		}
		if err := errors.Join(s.writeRepository(manifests, options), repository.WriteApp(tree)); err != nil {
			return err
		}
		if err := commit(ctx, tree, "The cluster and its first machine"); err != nil {
			return err
		}
	}
	m := s.seeded()
	fmt.Printf("Lab network %s; machine %s (%s firmware), MAC %s.\n", s.LAN, m.Name, m.Firmware, m.MAC)
	fmt.Printf("Serial console: %s\n\n", m.Serial)

	seed = append(seed,
		"--state="+filepath.Join(dir, seedDir), "--cache="+filepath.Join(dir, mediaDir),
		"--kubeconfig="+filepath.Join(dir, kubeconfig))
	if slow {
		values := filepath.Join(dir, valuesFile)
		if err := os.WriteFile(values, []byte(valuesOnEmulated), 0o600); err != nil {
			return err
		}
		seed = append(seed, "--values="+values)
	}
	seed = append(append(seed, seedFlags...), manifests)
	took := &phases{now: time.Now}
	if err := took.run("seed", func() error { return runInside(dir, s, seed...) }); err != nil {
		fmt.Fprintf(os.Stderr, "\nThe seed did not finish. The lab stays up to be looked at:\n"+
			"  serial console  %s\n  lab's own log   %s\nRun `lab up` again to go on, or `lab down` to remove it.\n",
			m.Serial, filepath.Join(dir, keeperLog))
		return err
	}

	fmt.Println()
	g := growing{dir: dir, state: s, patience: o.patience, byHand: o.byHand, phases: took}
	if err := g.follow(ctx); err != nil {
		return err
	}
	fmt.Println()
	if len(s.Machines) > 1 {
		if err := g.grow(ctx); err != nil {
			return err
		}
		fmt.Println()
	}
	fmt.Printf("What took how long:\n%s\n\n", strings.Join(took.lines, "\n"))
	if err := kubectl(dir, s, "get", "nodes", "--output=wide"); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	self = shortest(self)
	fmt.Printf("\nKubeconfig: %s (valid on the lab's network)\n\n"+
		"  %[2]s kubectl get pods -A     look at the cluster\n"+
		"  %[2]s exec -- bash            a shell on the lab's network\n"+
		"  %[2]s status                  machines, router and cluster\n"+
		"  %[2]s heal                    wipe two machines, and see the cluster heal itself\n"+
		"  %[2]s down                    stop and remove everything\n\n"+
		"The cluster follows %[3]s: what is committed there is applied.\n", filepath.Join(dir, kubeconfig), self, tree)
	return nil
}

// check says what is wrong with the flags.
func (o upOptions) check() error {
	if o.firmware != string(lab.UEFI) && o.firmware != string(lab.BIOS) {
		return fmt.Errorf("--firmware %s: want UEFI or BIOS", o.firmware)
	}
	if o.machines < 1 || o.machines > 10 {
		return fmt.Errorf("--machines %d: want 1 to 10", o.machines)
	}
	if o.servers%2 != 1 || o.servers < 1 || o.servers > min(o.machines, 5) {
		return fmt.Errorf("--servers %d of %d machines: want 1, 3 or 5, and no more than there are machines", o.servers, o.machines)
	}
	return nil
}

// onEmulated is how many machines may be installed at once on emulated processors: the
// others take them from the first, which has a control plane and Argo CD to run.
const onEmulated = 1

// valuesOnEmulated are the chart's values on emulated processors, where an API server
// that starts pods may answer after a minute: an operator that lost its lease for that
// would start again and again.
const (
	valuesFile       = "operator-values.yaml"
	valuesOnEmulated = "extraArgs: [--lease=4m]\n"
)

// emulated says whether the machines' processors are.
func emulated(ctx context.Context) (bool, error) {
	accelerator, err := lab.Accelerator(ctx)
	return !strings.HasPrefix(accelerator, "kvm"), err
}

// release is the k3s that the lab's machines run.
func (o upOptions) release(ctx context.Context) (repository.Release, error) {
	switch version := os.Getenv("K3S_VERSION"); {
	case version != "":
		return repository.Real(ctx, version)
	case o.k3s != "":
		return repository.BuiltStandIn(ctx, o.k3s)
	}
	return repository.StandIn(ctx, filepath.Join("test", "k3s", "build.sh"))
}

// argo is the Argo CD that the cluster gets.
func (o upOptions) argo(ctx context.Context) (repository.ArgoCD, error) {
	if o.argoCD != "" {
		return repository.BuiltArgoCD(o.argoCD)
	}
	return repository.BuildArgoCD(ctx, filepath.Join("test", "argocd", "image", "build.sh"))
}

// seedCommand is the start of the bootstrapper's command line.
func (o upOptions) seedCommand() ([]string, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	beside := filepath.Dir(self)
	if o.bootstrapper == "" {
		o.bootstrapper = filepath.Join(beside, "bootstrapper")
	}
	if _, err := os.Stat(o.bootstrapper); err != nil {
		return nil, fmt.Errorf("no bootstrapper: %w; build it with make, or name it with --bootstrapper", err)
	}
	command := []string{o.bootstrapper, "seed"}
	if o.operatorImage == "" {
		if archive := filepath.Join(beside, operatorArchive); exists(archive) {
			o.operatorImage = archive
		}
	}
	if o.operatorImage != "" {
		command = append(command, "--operator-image="+o.operatorImage)
	}
	if o.bootFiles != "" {
		command = append(command, "--boot-files="+o.bootFiles)
	}
	return command, nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// shortest is a path as a person would type it here.
func shortest(path string) string {
	cwd, err := os.Getwd()
	if err != nil {
		return path
	}
	relative, err := filepath.Rel(cwd, path)
	if err != nil || strings.HasPrefix(relative, "..") {
		return path
	}
	return relative
}

// lockUp keeps two commands that change the lab from working on it at once.
func lockUp(dir string) (unlock func(), err error) {
	path := dir + ".lock"
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	lock, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = lock.Close()
		return nil, errors.New("another `lab up` or `lab heal` is at work")
	}
	return func() { _ = lock.Close() }, nil
}
