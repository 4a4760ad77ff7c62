//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/dynamic"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rhizome-dev/rhizome/crds/v1alpha1"
	"github.com/rhizome-dev/rhizome/internal/names"
	"github.com/rhizome-dev/rhizome/internal/power"
	"github.com/rhizome-dev/rhizome/test/lab/repository"
)

// boardSecret is the Secret with the password of the machines' board.
const boardSecret = "lab-board"

// wipedFile remembers, below the lab's directory, who was wiped.
const wipedFile = "wiped.json"

func healCommand() *cobra.Command {
	var patience time.Duration
	cmd := &cobra.Command{
		Use:   "heal",
		Short: "Wipe a worker and the first machine, and see the cluster heal itself; run again, it goes on",
		Long: `Commits to the lab's repository that healing is enabled, with the shortest times that
it may have, and that one machine has a board (Redfish). Then, one after the other:

  a worker's plug is pulled and its disk blanked: magic packets wake it
  the same is done to the machine that was seeded first, with the operator, a PXE pod
  and a control plane on it: its board turns it on

Nothing is done but looking until each is a Ready member again. The second takes three
servers ("lab up --servers 3 --machines 4"); with fewer it is another worker.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, s, err := readState()
			if err != nil {
				return err
			}
			if s.Board.Endpoint == "" {
				return errors.New("this lab was started by an older program, and its machines have no board: `lab down`, then `lab up`")
			}
			if !exists(filepath.Join(dir, kubeconfig)) {
				return errors.New("there is no cluster yet: `lab up` first")
			}
			unlock, err := lockUp(dir)
			if err != nil {
				return err
			}
			defer unlock()
			self, err := os.Executable()
			if err != nil {
				return err
			}
			if err := runInside(dir, s, self, "heal-inside", "--patience="+patience.String(), "--lab="+shortest(self)); err != nil {
				return err
			}
			fmt.Println()
			return kubectl(dir, s, "get", "nodes", "--output=wide")
		},
	}
	cmd.Flags().DurationVar(&patience, "patience", 2*time.Hour, "how long each machine may take")
	return cmd
}

// healInsideCommand is what healCommand does on the lab's network.
func healInsideCommand() *cobra.Command {
	h := healing{phases: &phases{now: time.Now}}
	cmd := &cobra.Command{
		Use:    "heal-inside",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if h.dir, h.state, err = readState(); err != nil {
				return err
			}
			if err := h.connect(os.Getenv("KUBECONFIG")); err != nil {
				return err
			}
			return h.run(cmd.Context())
		},
	}
	cmd.Flags().DurationVar(&h.patience, "patience", time.Hour, "")
	cmd.Flags().StringVar(&h.lab, "lab", "lab", "")
	return cmd
}

// healing wipes machines and watches what becomes of them.
type healing struct {
	dir      string // the lab's
	state    state
	patience time.Duration
	lab      string // how a person calls this program
	phases   *phases

	dynamic dynamic.Interface
	api     client.Client
	wiped   map[string]wiped // by machine
}

func (h *healing) run(ctx context.Context) error {
	patients, note, err := choose(h.state.Machines)
	if err != nil {
		return err
	}
	if note != "" {
		fmt.Println(note)
	}
	if err := h.remember(); err != nil {
		return err
	}
	if err := h.declare(ctx, patients); err != nil {
		return err
	}
	for _, p := range patients {
		if err := h.heal(ctx, p); err != nil {
			return err
		}
	}
	fmt.Printf("\nWhat took how long:\n%s\n", strings.Join(h.phases.lines, "\n"))
	return nil
}

// connect makes the clients. They use whichever server takes a connection: the one
// that the kubeconfig names may be away.
func (h *healing) connect(kubeconfig string) error {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	addresses := h.state.servers()
	config.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return dialAny(ctx, network, addresses)
	}
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		return err
	}
	if h.dynamic, err = dynamic.NewForConfig(config); err != nil {
		return err
	}
	h.api, err = client.New(config, client.Options{Scheme: scheme})
	return err
}

// remember reads who was wiped by an earlier run.
func (h *healing) remember() error {
	h.wiped = map[string]wiped{}
	content, err := os.ReadFile(filepath.Join(h.dir, wipedFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return json.Unmarshal(content, &h.wiped)
}

// declare has a commit say that healing is enabled, with the schema's least times, and
// who has a board, and waits until the cluster has heard of it.
func (h *healing) declare(ctx context.Context, patients []patient) error {
	tree := filepath.Join(h.dir, repositoryDir)
	manifests := filepath.Join(tree, manifestsDir)
	clean, err := unchanged(ctx, tree)
	if err != nil {
		return err
	}
	if !clean {
		return fmt.Errorf("%s has changes that are not committed: commit them, or take them back", tree)
	}
	err = set(filepath.Join(manifests, "cluster.yaml"), "Cluster", map[string]any{
		"spec.healing": map[string]any{
			"mode": "Enabled", "unhealthyAfter": "1m", "coolDown": "1m", "maxReinstallsPerDay": 10,
			// A disk that is blank is booted from in vain; an emulated board takes its time.
			"power": map[string]any{"tries": 1, "timeout": "2m"},
		},
		"spec.pxe.pods": "Always",
	})
	if err != nil {
		return err
	}
	message := "Healing"
	for _, p := range patients {
		if !p.board {
			continue
		}
		if err := h.bringBoardSecret(ctx); err != nil {
			return err
		}
		board := map[string]any{
			"endpoint": h.state.Board.Endpoint, "systemID": p.Name, "fingerprint": h.state.Board.Fingerprint,
			"credentials": map[string]any{"name": boardSecret},
		}
		if err := set(filepath.Join(manifests, repository.NodeFile(p.Name)), "Node", map[string]any{"spec.power": map[string]any{"redfish": board}}); err != nil {
			return err
		}
		message = "Healing, and the board of " + p.Name
	}
	if err := commit(ctx, tree, message); err != nil {
		return err
	}
	newest, err := head(ctx, tree)
	if err != nil {
		return err
	}
	fmt.Printf("Committed to %s: healing is enabled, and who has a board.\n\n", tree)
	if len(h.wiped) > 0 {
		return nil // it went further before
	}
	return h.phases.run("the commit", func() error {
		return h.await(ctx, func(ctx context.Context) []fact {
			return append(look(ctx, h.dynamic, newest, nil), h.isEnabled(ctx))
		})
	})
}

// bringBoardSecret makes the Secret of the board, by hand, as a person would who keeps
// passwords out of git.
func (h *healing) bringBoardSecret(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: names.SystemNamespace, Name: boardSecret},
		Data:       map[string][]byte{power.KeyUsername: []byte(h.state.Board.Username), power.KeyPassword: []byte(h.state.Board.Password)},
	}
	err := h.api.Create(ctx, secret)
	if apierrors.IsAlreadyExists(err) {
		err = h.api.Update(ctx, secret)
	}
	if err != nil {
		return fmt.Errorf("cannot write the Secret of the board: %w", err)
	}
	return nil
}

// isEnabled is whether healing says that it is at work.
func (h *healing) isEnabled(ctx context.Context) fact {
	f := fact{name: "healing", check: "kubectl describe clusters.rhizome.dev"}
	var clusters v1alpha1.ClusterList
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	if err := h.api.List(ctx, &clusters); err != nil || len(clusters.Items) == 0 {
		f.line = fmt.Sprintf("the Cluster cannot be read: %v", err)
		return f
	}
	f.line = "the operator has not said anything"
	cluster := &clusters.Items[0]
	if c := meta.FindStatusCondition(cluster.Status.Conditions, v1alpha1.ConditionHealing); c != nil {
		f.line = fmt.Sprintf("%s: %s", c.Reason, c.Message)
		f.ready = c.Reason == v1alpha1.ReasonWatching && c.ObservedGeneration == cluster.Generation &&
			(cluster.Status.Healing == nil || cluster.Status.Healing.Sick == 0)
	}
	return f
}

func (h *healing) await(ctx context.Context, look func(context.Context) []fact) error {
	ctx, cancel := context.WithTimeout(ctx, h.patience)
	defer cancel()
	return wait{look: look, out: os.Stdout, lab: h.lab, command: "heal", now: time.Now}.run(ctx)
}

// heal wipes one machine and waits until the cluster has healed it.
func (h *healing) heal(ctx context.Context, p patient) error {
	n, core, err := h.read(ctx, p.Name)
	if err != nil {
		return err
	}
	w, known := h.wiped[p.Name]
	switch {
	case known && w.stage(n, core) == isBack:
		fmt.Printf("\n%s was wiped at %s, and healed.\n", p.Name, w.At.Format(time.TimeOnly))
		return nil
	case !known || core != nil && core.UID == w.UID && isReady(core):
		if w, err = h.wipe(ctx, p); err != nil {
			return err
		}
	default:
		fmt.Printf("\n%s was wiped at %s: going on.\n", p.Name, w.At.Format(time.TimeOnly))
	}

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var reached timeline
	err = h.await(ctx, func(ctx context.Context) []fact {
		n, core, err := h.read(ctx, p.Name)
		if err != nil {
			return []fact{{name: p.Name, line: "the API server does not answer", check: "status"}}
		}
		if lost := givenUp(n); lost != nil {
			cancel(lost)
		}
		reached.saw(w.stage(n, core), time.Now())
		return w.chart(p.Name, n, core)
	})
	h.phases.lines = append(h.phases.lines, fmt.Sprintf("  %s, wiped", p.Name))
	h.phases.lines = append(h.phases.lines, reached.lines(w.At)...)
	if err != nil {
		fmt.Printf("\nUntil then:\n%s\n", strings.Join(h.phases.lines, "\n"))
		if cause := context.Cause(ctx); cause != nil && errors.Is(err, context.Canceled) {
			return cause
		}
		return err
	}
	return h.tell(ctx, p, w)
}

// read reads a machine's Node and its core Node; nil: it is not there.
func (h *healing) read(ctx context.Context, name string) (*v1alpha1.Node, *corev1.Node, error) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	n, core := &v1alpha1.Node{}, &corev1.Node{}
	if err := h.api.Get(ctx, client.ObjectKey{Name: name}, n); apierrors.IsNotFound(err) {
		n = nil
	} else if err != nil {
		return nil, nil, fmt.Errorf("cannot read Node/%s: %w", name, err)
	}
	if err := h.api.Get(ctx, client.ObjectKey{Name: name}, core); apierrors.IsNotFound(err) {
		core = nil
	} else if err != nil {
		return nil, nil, fmt.Errorf("cannot read the core Node %s: %w", name, err)
	}
	return n, core, nil
}

// members are whether all machines are Ready members, to which nothing is being done.
func (h *healing) members(ctx context.Context) (facts []fact) {
	for _, m := range h.state.Machines {
		n, core, err := h.read(ctx, m.Name)
		f := fact{name: m.Name, line: "is no Ready member, or is being repaired", check: "kubectl describe rnode " + m.Name}
		switch {
		case err != nil:
			f.line = "the API server does not answer"
		case n != nil && core != nil && isReady(core) && (n.Status.Repair == nil || n.Status.Repair.Action == ""):
			f.line, f.ready = "is a Ready member", true
		}
		facts = append(facts, f)
	}
	return facts
}

// wipe pulls a machine's plug and blanks its disk, once all members are well: a second
// one that is sick would be a storm.
func (h *healing) wipe(ctx context.Context, p patient) (wiped, error) {
	if p.crowded {
		err := h.phases.run("crowding", func() error { return h.crowd(ctx, p.Name) })
		if err != nil {
			return wiped{}, err
		}
	}
	fmt.Println()
	if err := h.await(ctx, h.members); err != nil {
		return wiped{}, err
	}
	_, core, err := h.read(ctx, p.Name)
	if err != nil {
		return wiped{}, err
	}
	if core == nil {
		return wiped{}, fmt.Errorf("%s was a Ready member, and is gone: run it again", p.Name)
	}
	on, err := h.ours(ctx)
	if err != nil {
		return wiped{}, err
	}
	carried := "nothing of the operator's"
	if all := slices.Concat(on.on(componentOperator, p.Name), on.on(componentPXE, p.Name)); len(all) > 0 {
		carried = strings.Join(all, ", ")
	}
	w := wiped{At: time.Now(), UID: core.UID}
	h.wiped[p.Name] = w
	content, err := json.Marshal(h.wiped)
	if err != nil {
		return wiped{}, err
	}
	if err := os.WriteFile(filepath.Join(h.dir, wipedFile), content, 0o600); err != nil {
		return wiped{}, err
	}
	if err := (keeper{filepath.Join(h.dir, controlSocket)}).wipe(ctx, p.Name); err != nil {
		return wiped{}, err
	}
	how := "magic packets are all that turns it on"
	if p.board {
		how = "its board turns it on"
	}
	fmt.Printf("\n%s (%s) has lost its power and its disk; on it were: %s.\nFrom here on the cluster is on its own; %s.\n\n", p.Name, p.Role, carried, how)
	return w, nil
}

// tell says what the cluster has written down of a repair.
func (h *healing) tell(ctx context.Context, p patient, w wiped) error {
	n, _, err := h.read(ctx, p.Name)
	if err != nil {
		return err
	}
	if n == nil {
		return fmt.Errorf("%s came back, and is declared no more", p.Name)
	}
	fmt.Printf("\n%s is a Ready member again, %s after it was wiped. Its record:\n", p.Name, time.Since(w.At).Round(time.Second))
	for _, r := range w.records(n) {
		fmt.Printf("  %s  %-10s %-9s %s\n", r.At.UTC().Format(time.TimeOnly), r.Action, r.Result, r.Message)
	}
	resets, err := (keeper{filepath.Join(h.dir, controlSocket)}).resets(ctx)
	if err != nil {
		return err
	}
	fmt.Printf("The board was told: %s.\n", strings.Join(append(resets[:len(resets):len(resets)], "nothing further"), ", "))
	return p.checkPower(resets)
}
